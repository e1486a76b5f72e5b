"""The cache's tools beside a running mount: what is read stays right, what is pinned stays here."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mounting import Machine, eventually

from modelfs.cache.cache import Cache
from modelfs.cli.cache.where import Place
from modelfs.reader.warm import Warm, Warmed
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

MIB = 1 << 20


@contextmanager
def tools(url: str, directory: Path) -> Iterator[Place]:
    """The store and the cache as a command has them."""
    store = open_store(url)
    repo = Repository.open(store)
    cache = Cache(directory, repo.format.id)
    try:
        yield Place(repo, repo.resolve(None).commit.root, cache)
    finally:
        cache.close()
        store.close()


def warm(store: str, directory: Path, *paths: str) -> Warmed:
    with tools(store, directory) as here:
        return warm_in(here, *paths)


def warm_in(here: Place, *paths: str) -> Warmed:
    with Warm(here.repo, here.cache) as run:
        return run.run(run.plan(here.wanted(paths), ()), lambda count: None)


def test_what_was_warmed_is_read_while_the_store_is_away(machine: Machine, store: str) -> None:
    first = machine.mount(store, "first", "cache1")
    data = os.urandom(30 * MIB)
    (first / "dir").mkdir()
    (first / "dir" / "f").write_bytes(data)
    second = machine.mount(store, "second", "cache2", read_only=True)
    done = warm(store, machine.directory / "cache2", "dir")
    assert done.fetched_bytes == len(data)
    with (second / "dir" / "f").open("rb") as file:  # metadata is not kept: the file is known now
        (Path(store) / "data").rename(Path(store) / "data-away")
        assert file.read() == data
    facts = machine.status(second)
    assert facts["fetched_chunks"] == 0
    assert facts["hit_ratio"] == 1.0


@pytest.mark.parametrize("late", [False, True])
def test_warming_and_reading_at_once_share_their_fetches(machine: Machine, store: str, late: bool) -> None:
    first = machine.mount(store, "first", "cache1")
    data = os.urandom(60 * MIB)
    (first / "f").write_bytes(data)
    second = machine.mount(store, "second", "cache2", read_only=True)
    fetched: list[Warmed] = []
    with tools(store, machine.directory / "cache2") as here, (second / "f").open("rb") as file:
        thread = threading.Thread(target=lambda: fetched.append(warm_in(here, "f")))
        got = file.read(8 * MIB) if late else b""
        thread.start()
        got += file.read()
        thread.join()
    assert got == data
    both = machine.status(second)["fetched_chunks"] + fetched[0].fetched_chunks
    assert both == fetched[0].fetched_chunks + fetched[0].present_chunks, "every chunk came once"


def test_what_a_mount_has_read_is_seen_by_others(machine: Machine, store: str) -> None:
    first = machine.mount(store, "first", "cache1")
    (first / "f").write_bytes(os.urandom(9 * MIB))
    second = machine.mount(store, "second", "cache2", read_only=True)
    with (second / "f").open("rb") as file:
        file.read()
        with tools(store, machine.directory / "cache2") as here:
            (wanted,) = here.wanted(["f"])
            eventually(lambda: here.cache.resident(wanted.manifest) == 9 * MIB, "its rows are in the index")
            eventually(lambda: here.cache.statistics().lookups.miss_bytes == 9 * MIB, "and its misses")


def test_a_pin_survives_pressure_and_restarts(machine: Machine, store: str) -> None:
    cache = machine.directory / "cache2"
    first = machine.mount(store, "first", "cache1")
    kept = os.urandom(12 * MIB)
    (first / "kept").write_bytes(kept)
    for number in range(4):
        (first / f"f{number}").write_bytes(os.urandom(12 * MIB))
    second = machine.mount(store, "second", "cache2", read_only=True, cache_size=30 * MIB)
    with tools(store, cache) as here:
        here.cache.pin(here.wanted(["kept"]))
    assert (second / "kept").read_bytes() == kept
    for _ in range(2):
        for number in range(4):
            (second / f"f{number}").read_bytes()
        machine.umount(second)
        second = machine.mount(store, "second", "cache2", read_only=True)  # the limit is remembered
    assert machine.status(second)["cache"]["limit"] == 30 * MIB
    (Path(store) / "data").rename(Path(store) / "data-away")
    assert (second / "kept").read_bytes() == kept
    assert machine.status(second)["fetched_chunks"] == 0


def test_bytes_are_right_while_the_cache_is_emptied(machine: Machine, store: str) -> None:
    first = machine.mount(store, "first", "cache1")
    data = {f"f{n}": os.urandom(48 * MIB) for n in range(3)}  # more than a mount holds in memory
    for name, content in data.items():
        (first / name).write_bytes(content)
    second = machine.mount(store, "second", "cache2", read_only=True)
    wrong, stop = [], threading.Event()

    def read(name: str) -> None:
        while not stop.is_set():
            with open(second / name, "rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                if b"".join(iter(lambda: file.read(MIB), b"")) != data[name]:
                    wrong.append(name)
            time.sleep(0.05)  # nobody has it open: there is something to evict

    threads = [threading.Thread(target=read, args=(name,)) for name in data]
    for thread in threads:
        thread.start()
    turns, freed = itertools.count(), 0

    def empty(cache: Cache) -> bool:
        nonlocal freed
        turn = next(turns)
        freed += cache.clear() if turn % 3 == 0 else cache.evict_to(5 * MIB)
        if turn % 20 == 0:
            cache.resize((60 + turn % 60) * MIB)
        freed += cache.evict_files([file.manifest for file in cache.list()])
        return turn > 100 and freed > 300 * MIB

    try:
        with tools(store, machine.directory / "cache2") as here:
            eventually(lambda: empty(here.cache), "the cache was emptied often enough", 60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
