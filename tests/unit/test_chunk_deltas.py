"""Chunks stored as differences: smaller, right or refused, and never built on something that is not plain."""

from __future__ import annotations

import numpy as np
import pytest
from repository_store import DictStore

from modelfs.codecs import Compression, Element, codec_name
from modelfs.errors import CorruptError
from modelfs.ids import ChunkId, digest
from modelfs.repository.keys import base_key, chunk_key
from modelfs.repository.repository import Format, Repository, Tensor

COUNT = 100_000


@pytest.fixture
def store() -> DictStore:
    made = DictStore()
    Repository.create(made)
    made.reset()
    return made


class Versions:
    """bf16 weights that move a little from version to version."""

    def __init__(self, step: float = 3e-5) -> None:
        self._random = np.random.default_rng(1)
        self._values = (self._random.standard_normal(COUNT) * 0.02).astype(np.float32)
        self._step = step

    def next(self) -> bytes:
        self._values += (self._random.standard_normal(COUNT) * self._step).astype(np.float32)
        return (self._values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def after(*chunks: ChunkId) -> Tensor:
    return Tensor(Element.BF16, chunks)


def test_a_new_version_costs_what_changed_and_comes_back(store: DictStore) -> None:
    versions = Versions()
    repo = Repository.open(store)
    first, second = versions.next(), versions.next()
    a, cost = repo.write_chunk(first, after())
    b, changed = repo.write_chunk(second, after(a))
    assert changed < 0.5 * cost
    assert codec_name(store.data[chunk_key(b)]) == "delta"
    reader = Repository.open(store)
    assert bytes(reader.read_chunk(b, len(second))) == second
    assert bytes(reader.read_chunk(a, len(first))) == first


def test_a_chain_never_has_more_than_one_link(store: DictStore) -> None:
    """Each version is given the one before, which is a delta itself; all are built on the first."""
    versions = Versions()
    plains = [versions.next() for _ in range(6)]
    chunks: list[ChunkId] = []
    for plain in plains:
        repo = Repository.open(store)  # one that knows only what the store says
        chunks.append(repo.write_chunk(plain, after(*chunks[-1:]))[0])
    heads = [Repository.open(store).delta_head(chunk) for chunk in chunks]
    assert heads[0] is None
    assert [head.base for head in heads if head] == [chunks[0]] * 5
    assert [head.age for head in heads if head] == [1, 2, 3, 4, 5]
    assert all(base_key(chunks[0], chunk) in store.data for chunk in chunks[1:])
    for chunk, plain in zip(chunks, plains, strict=True):
        assert bytes(Repository.open(store).read_chunk(chunk, len(plain))) == plain


def test_the_note_for_collection_is_written_before_the_delta(store: DictStore) -> None:
    versions = Versions()
    repo = Repository.open(store)
    a, _ = repo.write_chunk(versions.next(), after())
    store.reset()
    b, _ = repo.write_chunk(versions.next(), after(a))
    written = [(operation, key) for operation, key in store.log if operation.startswith("put")]
    assert written == [("put", base_key(a, b)), ("put_if_absent", chunk_key(b))]


def test_a_series_that_drifts_away_gets_a_new_base(store: DictStore) -> None:
    versions = Versions(step=3e-4)
    repo = Repository.open(store)
    chunks: list[ChunkId] = []
    for _ in range(12):
        chunks.append(repo.write_chunk(versions.next(), after(*chunks[-1:]))[0])
    kinds = [codec_name(store.data[chunk_key(chunk)]) for chunk in chunks]
    assert kinds[0] == "planes"
    assert kinds[1] == "delta"
    assert "planes" in kinds[2:]
    assert sum(len(store.data[chunk_key(chunk)]) for chunk in chunks) < 12 * len(store.data[chunk_key(chunks[0])])


def test_what_is_not_near_is_not_built_upon(store: DictStore) -> None:
    repo = Repository.open(store)
    other, _ = repo.write_chunk(np.random.default_rng(9).bytes(2 * COUNT), after())
    shorter, _ = repo.write_chunk(np.random.default_rng(8).bytes(COUNT), after())
    missing = ChunkId(bytes(32))
    plain = Versions().next()
    chunk, _ = repo.write_chunk(plain, after(other, shorter, missing))
    assert codec_name(store.data[chunk_key(chunk)]) == "planes"
    later = Versions()
    later.next()
    near, _ = repo.write_chunk(later.next(), after(other, missing, chunk))
    assert codec_name(store.data[chunk_key(near)]) == "delta"


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.FAST])
def test_who_wants_fast_loads_gets_no_deltas(compression: Compression) -> None:
    store = DictStore()
    Repository.create(store, Format(compression=compression))
    repo = Repository.open(store)
    assert repo.compression is compression
    versions = Versions()
    a, _ = repo.write_chunk(versions.next(), after())
    b, _ = repo.write_chunk(versions.next(), after(a))
    assert codec_name(store.data[chunk_key(b)]) == "raw"


@pytest.mark.parametrize("damage", ["missing", "flipped", "another", "delta"])
def test_a_delta_whose_base_is_missing_or_wrong_names_both_and_is_healed(store: DictStore, damage: str) -> None:
    versions = Versions()
    first, second, third = (versions.next() for _ in range(3))
    repo = Repository.open(store)
    a, _ = repo.write_chunk(first, after())
    b, _ = repo.write_chunk(second, after(a))
    c, _ = repo.write_chunk(third, after(b))
    key = chunk_key(a)
    if damage == "missing":
        del store.data[key]
    elif damage == "flipped":
        store.data[key] = store.data[key][:500] + bytes((store.data[key][500] ^ 1,)) + store.data[key][501:]
    elif damage == "another":
        store.data[key] = store.data[chunk_key(b)]
    else:
        store.data[key] = store.data[chunk_key(c)]
    for reader in (Repository.open(store), repo):
        with pytest.raises(CorruptError, match=f"{b.hex()} in .* is damaged.*{a.hex()}") as caught:
            reader.read_chunk(b, len(second))
        assert caught.value.key == chunk_key(b)
    # whoever has the bytes of either mends it: the delta becomes plain, the base comes back
    assert repo.write_chunk(second, after(a))[1] > 0
    assert codec_name(store.data[chunk_key(b)]) == "planes"
    assert bytes(Repository.open(store).read_chunk(b, len(second))) == second
    repo.write_chunk(first, after())
    assert bytes(Repository.open(store).read_chunk(c, len(third))) == third


def test_a_delta_never_replaces_what_is_there(store: DictStore) -> None:
    """Two writers of one chunk: the one that stores it plain wins, whoever comes first."""
    versions = Versions()
    first, second = versions.next(), versions.next()
    repo, other = Repository.open(store), Repository.open(store)
    a, _ = repo.write_chunk(first, after())
    original = store.size

    def size(key: str) -> int | None:
        """The other writer comes between the question and the upload."""
        store.size = original  # type: ignore[method-assign]
        other.write_chunk(second)
        return None

    store.size = size  # type: ignore[method-assign]
    b, _ = repo.write_chunk(second, after(a))
    assert b == digest(second)
    assert codec_name(store.data[chunk_key(b)]) == "planes"


def test_the_base_is_taken_from_this_machine_when_it_is_here(store: DictStore) -> None:
    versions = Versions()
    first, second = versions.next(), versions.next()
    repo = Repository.open(store)
    a, _ = repo.write_chunk(first, after())
    reader = Repository.open(store)
    reader.use_local(lambda chunk, length: first if chunk == a else None)
    b, _ = repo.write_chunk(second, after(a))
    store.reset()
    assert bytes(reader.read_chunk(b, len(second))) == second
    assert store.log == [("get", chunk_key(b))]
