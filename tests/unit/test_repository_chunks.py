"""Chunks and manifests: right or refused, and what was refused once is healed by whoever has the bytes."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from repository_store import DictStore

from modelfs import limits
from modelfs.errors import CorruptError, NotFoundError, UsageError
from modelfs.ids import ChunkId, digest
from modelfs.repository.keys import chunk_key, meta_key
from modelfs.repository.objects import Extent, Manifest
from modelfs.repository.presence import Presence
from modelfs.repository.repository import Repository

PLAIN = random.Random(1).randbytes(300_000)


@pytest.fixture
def store() -> DictStore:
    made = DictStore()
    Repository.create(made)
    made.reset()
    return made


def test_a_chunk_comes_back_and_is_sent_once(store: DictStore) -> None:
    repo = Repository.open(store)
    chunk, sent = repo.write_chunk(memoryview(PLAIN))
    assert sent == len(store.data[chunk_key(chunk)]) > 0
    assert chunk == digest(PLAIN)
    store.reset()
    assert repo.write_chunk(PLAIN) == (chunk, 0)
    assert not store.calls
    other = Repository.open(store)
    other.begin_writing()
    store.reset()
    assert other.write_chunk(bytearray(PLAIN)) == (chunk, 0)
    assert other.write_chunk(PLAIN) == (chunk, 0)
    assert store.calls == {"size": 1}
    assert bytes(other.read_chunk(chunk, len(PLAIN))) == PLAIN


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "swapped", "longer"])
def test_a_damaged_chunk_is_an_error_naming_it_and_is_healed_by_the_next_writer(store: DictStore, damage: str) -> None:
    repo = Repository.open(store)
    chunk, _ = repo.write_chunk(PLAIN)
    key = chunk_key(chunk)
    good = store.data[key]
    other, _ = repo.write_chunk(PLAIN[::-1])
    store.data[key] = {
        "flipped": good[:1000] + bytes((good[1000] ^ 1,)) + good[1001:],
        "cut": good[:-10],
        "empty": b"",
        "swapped": store.data[chunk_key(other)],
        "longer": good + b"x",
    }[damage]
    for reader in (repo, Repository.open(store)):
        with pytest.raises(CorruptError, match=f"{chunk.hex()} in {store.url} is damaged") as caught:
            reader.read_chunk(chunk, len(PLAIN))
        assert caught.value.key == key
        assert "\n" not in str(caught.value)
    assert repo.statistics().bad_chunks == 1
    repo.known([chunk])
    assert repo.write_chunk(PLAIN)[1] > 0
    assert bytes(repo.read_chunk(chunk, len(PLAIN))) == PLAIN
    assert repo.statistics().bad_chunks == 0
    assert repo.write_chunk(PLAIN) == (chunk, 0)


def test_a_missing_chunk_is_named_and_uploaded_again(store: DictStore) -> None:
    repo = Repository.open(store)
    chunk, _ = repo.write_chunk(PLAIN)
    del store.data[chunk_key(chunk)]
    with pytest.raises(NotFoundError, match=f"{chunk.hex()} is missing") as caught:
        repo.read_chunk(chunk, len(PLAIN))
    assert caught.value.key == chunk_key(chunk)
    assert repo.write_chunk(PLAIN)[1] > 0
    assert bytes(Repository.open(store).read_chunk(chunk, len(PLAIN))) == PLAIN


def test_chunks_of_a_manifest_that_the_branch_reaches_are_not_asked_for(store: DictStore) -> None:
    chunk, _ = Repository.open(store).write_chunk(PLAIN)
    repo = Repository.open(store)
    repo.begin_writing()
    repo.known([chunk])
    store.reset()
    assert repo.write_chunk(PLAIN) == (chunk, 0)
    assert not store.calls


@pytest.mark.parametrize("length", [0, -1, limits.CHUNK_LENGTH_MAX + 1])
def test_lengths_outside_the_format_are_refused(store: DictStore, length: int) -> None:
    with pytest.raises(CorruptError, match="said to have"):
        Repository.open(store).read_chunk(ChunkId(bytes(32)), length)
    with pytest.raises(UsageError):
        Repository.open(store).write_chunk(b"")


def test_a_chunk_read_with_another_length_is_refused(store: DictStore) -> None:
    repo = Repository.open(store)
    chunk, _ = repo.write_chunk(PLAIN)
    for length in (len(PLAIN) - 1, len(PLAIN) + 1):
        with pytest.raises(CorruptError):
            repo.read_chunk(chunk, length)


def test_a_manifest_is_stored_once_and_kept(store: DictStore) -> None:
    manifest = Manifest(12, (Extent(b"", 5), Extent(bytes(32), 7)))
    repo = Repository.open(store)
    store.reset()
    manifest_id = repo.write_manifest(manifest)
    assert repo.write_manifest(manifest) == manifest_id
    assert repo.read_manifest(manifest_id) == manifest
    assert store.calls == {"put": 1}
    other = Repository.open(store)
    assert other.read_manifest(manifest_id) == manifest
    store.reset()
    assert other.write_manifest(manifest) == manifest_id
    assert not store.calls


@pytest.mark.parametrize("damage", ["gone", "flipped"])
def test_a_damaged_manifest_is_named_and_healed(store: DictStore, damage: str) -> None:
    manifest = Manifest(7, (Extent(bytes(32), 7),))
    manifest_id = Repository.open(store).write_manifest(manifest)
    key = meta_key(manifest_id)
    good = store.data.pop(key)
    if damage == "flipped":
        store.data[key] = good[:-1] + bytes((good[-1] ^ 1,))
    repo = Repository.open(store)
    with pytest.raises((CorruptError, NotFoundError), match=manifest_id.hex()) as caught:
        repo.read_manifest(manifest_id)
    assert isinstance(caught.value, CorruptError | NotFoundError)
    assert caught.value.key == key
    repo.write_manifest(manifest)
    assert store.data[key] == good
    assert repo.read_manifest(manifest_id) == manifest


def test_many_threads_share_one_repository(store: DictStore) -> None:
    repo = Repository.open(store)
    plains = [random.Random(i % 8).randbytes(1000) for i in range(64)]

    def work(plain: bytes) -> bytes:
        chunk, _ = repo.write_chunk(plain)
        manifest = repo.write_manifest(Manifest(len(plain), (Extent(chunk, len(plain)),)))
        return bytes(repo.read_chunk(ChunkId(repo.read_manifest(manifest).chunks[0].id), len(plain)))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, plains)) == plains
    assert repo.statistics().known_chunks == 8


def test_what_is_known_is_bounded_and_too_much_damage_ends_all_trust() -> None:
    presence = Presence(known=3, bad=2)
    ids = [bytes((i,)) for i in range(6)]
    for object_id in ids:
        presence.confirm(object_id, presence.stamp())
    assert [presence.known(i) for i in ids] == [False, False, False, True, True, True]
    for object_id in ids[:3]:
        presence.suspect(object_id)
    assert presence.sizes() == (3, 2)
    assert all(presence.doubtful(i) for i in ids)
    presence.vouch([b"new"])
    assert not presence.known(b"new")
    presence.confirm(b"new", presence.stamp())
    assert presence.known(b"new")
