"""fsck, repair, scrub and cache verify of an encrypted store: they see plain objects, and mirrors alone can help."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from damaging import HOWS, Stocked, spoil, stocked
from repository_store import KEY_FILE, DictStore, create_encrypted, open_with

from modelfs.cache.cache import Cache
from modelfs.cache.directory import is_keyed, read_store_id
from modelfs.cache.verify import verify
from modelfs.crypto.signing import SigningKey
from modelfs.errors import UsageError
from modelfs.ids import ChunkId, ManifestId
from modelfs.repository.access import Access
from modelfs.repository.damage import Problem, Sort
from modelfs.repository.fsck import Findings, Fsck
from modelfs.repository.keys import commit_key
from modelfs.repository.objects import Extent, Manifest
from modelfs.repository.repair import Repair, damaged_format, restore_format
from modelfs.repository.repository import Repository
from modelfs.repository.scrub import Pace, Scrub

KINDS = ("chunk", "base", "delta", "manifest", "table", "page", "index", "directory", "root", "commit", "tag")


@pytest.fixture(scope="module")
def sound() -> Stocked:
    return stocked(create_encrypted)


@pytest.fixture
def stock(sound: Stocked) -> Stocked:
    return Stocked(sound.copy(), sound.keys)


def check(store: DictStore, other: DictStore | None = None, read_data: bool = True) -> Findings:
    repo = open_with(store)
    return Fsck(repo, Repair(repo, (), open_with(other)) if other is not None else None).run(read_data=read_data)


@pytest.mark.parametrize("read_data", [False, True])
def test_a_sound_encrypted_store_is_clean(stock: Stocked, read_data: bool) -> None:
    found = check(stock.store, read_data=read_data)
    assert not list(found.damages)
    assert (found.commits, found.tags, found.tables, found.chunks) == (5, 1, 1, 4)
    assert found.orphans is not None
    assert (found.orphans.chunks, found.orphans.metadata, found.orphans.notes) == (0, 0, 0)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_found_and_a_mirror_repairs_it(stock: Stocked, kind: str, how: str) -> None:
    if (kind, how) == ("tag", "missing"):
        return  # a tag that is gone leaves no trace
    mirror, key = DictStore(), stock.keys[kind]
    mirror.data = dict(stock.store.data)
    spoil(stock.store.data, key, how)
    assert [damage.key for damage in check(stock.store).damages] == [key]
    (damage,) = check(stock.store, mirror).damages
    assert (damage.key, damage.repaired) == (key, "dict://test")
    assert not list(check(stock.store).damages)


def test_another_store_is_no_help(stock: Stocked) -> None:
    repo = open_with(stock.store)
    for other in (stocked(create_encrypted).store, stocked().store):
        opened = open_with(other) if b"encryption" in other.data["format.json"] else Repository.open(other)
        with pytest.raises(UsageError, match="is no mirror of"):
            Repair(repo, (), opened)
        with pytest.raises(UsageError, match="is no mirror of"):
            Repair(opened, (), repo)


def test_format_json_comes_back_from_a_mirror(stock: Stocked) -> None:
    mirror = DictStore()
    mirror.data = dict(stock.store.data)
    spoil(stock.store.data, "format.json", "missing")
    assert damaged_format(stock.store) is not None
    assert not restore_format(stock.store, open_with(stocked(create_encrypted).store))
    assert restore_format(stock.store, open_with(mirror))
    assert stock.store.data == mirror.data
    assert not list(check(stock.store).damages)


def test_scrub_reads_sealed_chunks(stock: Stocked, tmp_path: Path) -> None:
    def run() -> Findings:
        return Scrub(open_with(stock.store), tmp_path / "s", Pace(0), 0, lambda what, units: lambda count: None).run()[
            0
        ]

    found = run()
    assert (found.read_chunks, len(found.damages)) == (4, 0)
    spoil(stock.store.data, stock.keys["chunk"], "flipped")
    assert [damage.key for damage in run().damages] == [stock.keys["chunk"]]


def test_a_cache_is_verified_with_the_ids_of_its_store(tmp_path: Path) -> None:
    repo = create_encrypted(DictStore())
    data = os.urandom(100_000)
    chunk, manifest_id = ChunkId(repo.ids.digest(data)), ManifestId(repo.ids.digest(b"m"))
    cache = Cache(tmp_path / "c", repo.format.id, ids=repo.ids)
    file = cache.open_file(manifest_id, Manifest(len(data), (Extent(chunk, len(data)),)))
    assert file.fill(0, data) is not None
    file.close()
    found = verify(cache)
    assert (found.chunks, found.damaged_chunks) == (1, 0)
    assert bytes(cache.read_chunk(chunk, len(data)) or b"") == data
    cache.close()
    assert read_store_id(tmp_path / "c") == repo.format.id
    assert is_keyed(tmp_path / "c")
    Cache(tmp_path / "c", repo.format.id).close()  # `modelfs cache stats` has no key
    assert is_keyed(tmp_path / "c")
    Cache(tmp_path / "plain", repo.format.id).close()
    assert not is_keyed(tmp_path / "plain")


def test_unsigned_history_is_damage_to_who_trusts_somebody() -> None:
    """An unsigned head is; what a signed commit follows is vouched for."""
    store = DictStore()
    create_encrypted(store)
    boris = SigningKey.new()
    trusting = Access(secret=KEY_FILE, trusted=frozenset((boris.public,)))

    def add(signer: SigningKey | None) -> None:
        repo = Repository.open(store, Access(secret=KEY_FILE, signer=signer))
        head = repo.resolve(None)
        repo.commit("main", head, msgspec.structs.replace(head.commit.root, mode=0o700 + head.number), "")

    add(None)
    add(boris)
    assert not list(Fsck(Repository.open(store, trusting)).run().damages)
    add(None)
    (damage,) = Fsck(Repository.open(store, trusting)).run().damages
    assert (damage.sort, damage.key, damage.problem) == (Sort.COMMIT, commit_key("main", 4), Problem.CONTRADICTORY)
    assert damage.reason.endswith("is not signed")
    assert not list(Fsck(open_with(store)).run().damages)
