"""An encrypted store as its keeper sees it: nothing to read, nothing to recognise, nothing to forge."""

from __future__ import annotations

import ast
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_store import KEY_FILE, DictStore, create_encrypted, directory, inline, open_with, puts

import modelfs
from modelfs.cache.cache import Cache
from modelfs.codecs import Element
from modelfs.errors import CorruptError, ModelfsError, NotFoundError, UsageError
from modelfs.formats.layout import Layout, Span
from modelfs.ids import PLAIN, ChunkId, ManifestId, TreeId
from modelfs.repository.keys import FORMAT_KEY, base_key, chunk_key
from modelfs.repository.objects import EMPTY_TREE, Entry, Extent, Kind, Manifest
from modelfs.repository.repository import Repository, Tensor
from modelfs.store.lease import Lease

CANARY = b"canary-in-a-coal-mine"
CHUNK = CANARY * 5000
WEIGHTS = [
    ((np.arange(50_000) * 0.001 + step * 1e-5).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    for step in range(2)
]


class Filled:
    """A store with one of everything."""

    def __init__(self) -> None:
        self.store = DictStore()
        repo = create_encrypted(self.store)
        self.chunk, _ = repo.write_chunk(CHUNK)
        self.base, _ = repo.write_chunk(WEIGHTS[0], Tensor(Element.BF16))
        self.delta, _ = repo.write_chunk(WEIGHTS[1], Tensor(Element.BF16, (self.base,)))
        self.tensors = repo.write_layout(
            Layout("safetensors", (Span(0, len(CHUNK), "BF16", (1,), CANARY.decode()),), len(CHUNK))
        )
        self.manifest = repo.write_manifest(Manifest(len(CHUNK), (Extent(self.chunk, len(CHUNK)),), self.tensors))
        file = Entry(CANARY, Kind.FILE, 0o644, 0, 0, 0, len(CHUNK), self.manifest, ((b"user.x", CANARY),))
        inner = repo.apply(EMPTY_TREE, puts(file, inline(b"small", CANARY)))
        link = Entry(b"link", Kind.SYMLINK, 0o777, 0, 0, 0, len(CANARY), CANARY)
        self.tree = repo.apply(EMPTY_TREE, puts(directory(CANARY + b"-dir", inner), link))
        head = repo.head()
        assert head is not None
        self.record = repo.commit("main", head, directory(b"", self.tree), CANARY.decode())
        repo.tag("v1", self.record)
        self.lease = Lease(repo.store)
        self.lease.acquire()
        self.repo = repo

    def read_everything(self, store: DictStore) -> None:
        """Everything that there is, by a process that has nothing in memory."""
        repo = open_with(store)
        assert bytes(repo.read_chunk(self.chunk, len(CHUNK))) == CHUNK
        assert bytes(repo.read_chunk(self.delta, len(WEIGHTS[1]))) == WEIGHTS[1]
        assert repo.delta_head(self.base) is None
        head = repo.delta_head(self.delta)
        assert head is not None
        assert head.base == self.base
        repo.store.get(base_key(self.base, self.delta))
        layout = repo.read_layout(repo.read_manifest(self.manifest))
        assert layout is not None
        assert layout.spans[0].name == CANARY.decode()
        found = repo.resolve("v1")
        assert found == self.record
        assert [record.number for record in repo.log("main")] == [2, 1]
        names = [path for path, _ in repo.walk(TreeId(found.commit.root.content))]
        assert names == [CANARY + b"-dir", CANARY + b"-dir/" + CANARY, CANARY + b"-dir/small", b"link"]
        Lease(repo.store)._read()


FILLED = Filled()
KEYS = sorted(FILLED.store.data.keys() - {FORMAT_KEY})


def test_everything_comes_back() -> None:
    FILLED.read_everything(FILLED.store)
    areas = {key.partition("/")[0] for key in KEYS}
    assert areas == {"data", "meta", "deltas", "commits", "tags", "lease.json"}, "the tests below cover every kind"


def test_nothing_can_be_read_or_recognised() -> None:
    """No bytes of ours, and no hash of them that somebody who has a copy of the model could look for."""
    repo = FILLED.repo
    plain_ids = [PLAIN.digest(data) for data in (CHUNK, *WEIGHTS)]
    for key in KEYS:
        if key.startswith(("meta/", "commits/", "tags/")):
            plain_ids.append(PLAIN.digest(bytes(repo.store.get(key))[1:]))
    assert repo.ids.digest(CHUNK) == FILLED.chunk != PLAIN.digest(CHUNK)
    for key, stored in FILLED.store.data.items():
        assert CANARY not in stored, key
        assert CANARY.decode() not in key
        for plain_id in plain_ids:
            assert plain_id not in stored
            assert plain_id.hex() not in key.replace("/", "")
            assert plain_id.hex().encode() not in stored
        if key != FORMAT_KEY:
            assert KEY_FILE.value not in stored
            assert FILLED.repo.ids._key not in stored  # type: ignore[operator]


def test_equal_stores_look_different() -> None:
    other = Filled()
    ours, theirs = ({key for key in s.data if key.startswith(("data/", "meta/"))} for s in (FILLED.store, other.store))
    assert not ours & theirs


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KEYS), st.integers(0, 10**9), st.integers(1, 255))
def test_an_object_with_a_changed_byte_is_refused(key: str, at: int, flip: int) -> None:
    store = DictStore()
    broken = bytearray(FILLED.store.data[key])
    broken[at % len(broken)] ^= flip
    store.data = {**FILLED.store.data, key: bytes(broken)}
    with pytest.raises(ModelfsError) as caught:
        FILLED.read_everything(store)
    assert isinstance(caught.value, CorruptError)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(KEYS), st.integers(0, 10**9))
def test_an_object_that_was_cut_is_refused(key: str, length: int) -> None:
    store = DictStore()
    stored = FILLED.store.data[key]
    store.data = {**FILLED.store.data, key: stored[: length % len(stored)]}
    with pytest.raises(CorruptError):
        FILLED.read_everything(store)


def test_objects_that_changed_places_are_refused() -> None:
    """All pairs, of one kind or of two: ids, branch and number, and the names of tags are bound."""
    repo = FILLED.repo
    for here, there in permutations(KEYS, 2):
        store = DictStore()
        store.data = {**FILLED.store.data, here: FILLED.store.data[there]}
        with pytest.raises(CorruptError):
            FILLED.read_everything(store)
    store = DictStore()
    store.data = {**FILLED.store.data, "tags/v2": FILLED.store.data["tags/v1"]}
    with pytest.raises(CorruptError, match="sealed for another place"):
        open_with(store).resolve("v2")
    store.data["commits/dev/" + "1".zfill(20)] = FILLED.store.data["commits/main/" + "1".zfill(20)]
    with pytest.raises(CorruptError):
        open_with(store).head("dev")
    assert repo.resolve("v1") == FILLED.record


def test_plain_objects_are_refused() -> None:
    """What somebody without the key can make: objects in the form of a store that is not encrypted."""
    plain = DictStore()
    repo = Repository.create(plain)
    chunk, _ = repo.write_chunk(b"forged" * 100)
    store = DictStore()
    store.data = {**plain.data, **FILLED.store.data, chunk_key(chunk): plain.data[chunk_key(chunk)]}
    with pytest.raises(CorruptError, match="damaged"):
        open_with(store).read_chunk(chunk, 600)
    store.data["commits/main/" + "3".zfill(20)] = plain.data["commits/main/" + "1".zfill(20)]
    with pytest.raises(CorruptError):
        open_with(store).head()


def test_damage_is_repaired_by_who_has_the_bytes() -> None:
    store = DictStore()
    store.data = {**FILLED.store.data, chunk_key(FILLED.chunk): bytes(1000)}
    repo = open_with(store)
    with pytest.raises(CorruptError):
        repo.read_chunk(FILLED.chunk, len(CHUNK))
    assert repo.write_chunk(CHUNK)[1] > 0
    FILLED.read_everything(store)
    key = next(key for key in KEYS if key.startswith("meta/") and FILLED.manifest.hex()[2:] in key)
    store.data[key] = bytes(100)
    repo = open_with(store)
    with pytest.raises(CorruptError):
        repo.read_manifest(FILLED.manifest)
    repo.write_manifest(Manifest(len(CHUNK), (Extent(FILLED.chunk, len(CHUNK)),), FILLED.tensors))
    FILLED.read_everything(store)


def test_the_head_of_a_delta_costs_one_small_read() -> None:
    store = DictStore()
    store.data = dict(FILLED.store.data)
    sizes = []
    whole = store.get_range

    def watch(key: str, start: int, length: int) -> bytes:
        sizes.append((start, length))
        return whole(key, start, length)

    store.get_range = watch  # type: ignore[method-assign]
    head = open_with(store).delta_head(FILLED.delta)
    assert head is not None
    assert sizes == [(0, 113)]


def test_a_missing_object_is_missing() -> None:
    repo = open_with(FILLED.store)
    for ask in (lambda: repo.store.get("data/no"), lambda: repo.store.get_range("data/no", 0, 10)):
        with pytest.raises(NotFoundError):
            ask()
    assert repo.store.size("data/no") is None


def test_what_a_creation_left_that_was_cut_short() -> None:
    store = DictStore()
    store.data = {key: data for key, data in FILLED.store.data.items() if key.endswith("main/" + "1".zfill(20))}
    with pytest.raises(UsageError, match="was cut short; remove what it left"):
        create_encrypted(store)


def test_a_cache_trusts_the_ids_of_its_store_alone(tmp_path: Path) -> None:
    """Chunks of an encrypted store in the cache: verified with the key, damaged without."""
    repo = FILLED.repo
    manifest_id, manifest = FILLED.manifest, repo.read_manifest(FILLED.manifest)
    cache = Cache(tmp_path / "c", repo.format.id, ids=repo.ids)
    file = cache.open_file(manifest_id, manifest)
    file.fill(0, CHUNK)
    cache.index.flush()
    assert cache.read_chunk(FILLED.chunk, len(CHUNK)) == CHUNK
    file.close()
    cache.close()
    keyless = Cache(tmp_path / "c", repo.format.id)
    assert keyless.read_chunk(FILLED.chunk, len(CHUNK)) is None
    keyless.close()


def test_the_store_own_hasher_computes_every_id() -> None:
    """`ids.digest` has no key: good for the empty directory, which is the same everywhere, and for inode numbers."""
    allowed = {"repository/objects.py", "vfs/links.py", "vfs/namespace.py"}
    root = Path(modelfs.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "modelfs.ids":
                found |= {str(path.relative_to(root)) for name in node.names if name.name == "digest"}
    assert found <= allowed, "use the Ids of the repository"


def test_ids_of_a_plain_store_are_what_they_were() -> None:
    repo = Repository.create(DictStore())
    chunk, _ = repo.write_chunk(CHUNK)
    manifest = repo.write_manifest(Manifest(0, ()))
    assert chunk == ChunkId(PLAIN.digest(CHUNK))
    assert manifest == ManifestId(PLAIN.digest(b"\x93\x00\x90\xc4\x00"))
