"""A delta needs its base: bases stay while something is built on them, go with the last of it, and the notes too."""

from __future__ import annotations

import numpy as np
import pytest
from gc_world import GRACE, World, commit, content, read_all, remove

from modelfs.codecs import Element
from modelfs.ids import ChunkId
from modelfs.repository.keys import base_key, chunk_key
from modelfs.repository.objects import Entry, Extent, Kind, Manifest
from modelfs.repository.repository import Repository, Tensor
from modelfs.repository.retention import Retention

LAST = Retention(last=1)


class Weights:
    """bf16 weights that move a little from version to version."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(1)
        self._values = (self._random.standard_normal(50_000) * 0.02).astype(np.float32)

    def next(self) -> bytes:
        self._values += (self._random.standard_normal(50_000) * 3e-5).astype(np.float32)
        return (self._values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def version(repo: Repository, plain: bytes, *earlier: ChunkId) -> tuple[ChunkId, Entry]:
    chunk, _ = repo.write_chunk(plain, Tensor(Element.BF16, earlier))
    manifest = repo.write_manifest(Manifest(len(plain), (Extent(chunk, len(plain)),)))
    return chunk, Entry(b"", Kind.FILE, 0o644, 0, 0, 0, len(plain), manifest)


@pytest.fixture
def world() -> World:
    return World()


def run(world: World, times: int = 1) -> None:
    for _ in range(times):
        world.time.advance(GRACE + 1)
        world.collect(LAST)
        world.check()


def test_a_base_stays_with_its_delta_and_goes_with_it(world: World) -> None:
    weights, repo = Weights(), world.open()
    first, second = weights.next(), weights.next()
    a, one = version(repo, first)
    commit(repo, b"f", one)
    b, two = version(repo, second, a)
    assert repo.delta_head(b) is not None
    commit(repo, b"f", two)
    run(world, 4)
    assert world.keys("data/") == {chunk_key(a), chunk_key(b)}, "only the delta is reached, the base is needed"
    fresh = world.open()
    assert read_all(fresh, fresh.resolve(None)) == {b"f": second}
    remove(world.open(), b"f")
    run(world, 3)
    assert not world.keys("data/", "deltas/"), "two runs after the commit that needed them was dropped"


def test_a_base_is_not_taken_from_a_delta_that_nobody_has_committed_yet(world: World) -> None:
    weights, repo = Weights(), world.open()
    first, second = weights.next(), weights.next()
    a, one = version(repo, first)
    commit(repo, b"f", one)
    remove(repo, b"f")
    world.time.advance(GRACE + 1)
    _, two = version(repo, second, a)
    for _ in range(2):
        world.collect(LAST)
        world.time.advance(GRACE / 2)
    commit(repo, b"g", two)
    run(world, 3)
    assert chunk_key(a) in world.keys("data/")
    assert content(world.open(), two) == second


def test_what_is_condemned_is_not_built_upon(world: World) -> None:
    weights, repo = Weights(), world.open()
    first, second = weights.next(), weights.next()
    a, one = version(repo, first)
    commit(repo, b"f", one)
    remove(repo, b"f")
    run(world)
    assert chunk_key(a) in world.keys("data/")
    writer = world.open()
    b, two = version(writer, second, a)
    assert writer.delta_head(b) is None
    commit(writer, b"g", two)
    run(world, 2)
    assert world.keys("data/") == {chunk_key(b)}


def test_a_condemned_delta_is_written_whole_when_it_is_wanted_again(world: World) -> None:
    weights, repo = Weights(), world.open()
    first, second = weights.next(), weights.next()
    a, one = version(repo, first)
    b, two = version(repo, second, a)
    commit(repo, b"f", one)
    commit(repo, b"f", two)
    remove(repo, b"f")
    run(world, 2)
    writer = world.open()
    again, entry = version(writer, second, a)
    assert again == b
    commit(writer, b"f", entry)
    run(world, 3)
    assert world.keys("data/") == {chunk_key(b)}, "it is whole now, so the base could go"
    assert content(world.open(), entry) == second


def test_a_note_without_a_delta_is_removed(world: World) -> None:
    repo = world.open()
    a, one = version(repo, Weights().next())
    commit(repo, b"f", one)
    world.store.put(base_key(a, ChunkId(b"\1" * 32)), b"delta\n")
    world.store.put("deltas/00/foreign", b"")
    run(world, 2)
    assert world.keys("deltas/") == {"deltas/00/foreign"}


def test_a_delta_whose_note_is_condemned_is_written_whole(world: World) -> None:
    weights, repo = Weights(), world.open()
    first, second = weights.next(), weights.next()
    a, one = version(repo, first)
    commit(repo, b"f", one)
    b, _ = version(repo, second, a)
    del world.store.objects[chunk_key(b)]  # its writer died between the note and the delta
    run(world, 1)
    assert world.keys("gc/condemned/")
    writer = world.open()
    again, two = version(writer, second, a)
    assert again == b
    assert writer.delta_head(b) is None
    commit(writer, b"f", two)
    run(world, 2)
    assert content(world.open(), two) == second
    remove(world.open(), b"f")
    run(world, 3)
    assert not world.keys("deltas/", "data/")
