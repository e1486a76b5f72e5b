"""Small reads of a cached file, and trees of many files."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import obstore

from benchmarks.speed import data
from benchmarks.speed.loads import FRESH, KEPT
from benchmarks.speed.measure import Table
from benchmarks.speed.sides import PLAIN, Side
from benchmarks.speed.world import World, make_store, opened
from modelfs.ids import TreeId
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind, TreeDelta
from modelfs.repository.repository import MAIN, Repository
from modelfs.store.open import open_store

READS = 4000  # of a round
BLOCK = 4096
COUNTS = (1_000, 10_000, 100_000)
PER_DIRECTORY = 1_000


def random_reads(world: World, table: Table, rounds: int) -> None:
    """4 KiB at random places of a file that the local cache holds whole; the page cache is empty."""
    sides: list[Side] = [world.modelfs(work="random"), *world.peers("random"), world.ext4(work="random")]
    with opened(sides):
        for side in sides:
            side.fresh()
            data.READ[2](side.prepare(data.SAFETENSORS))
        for number in range(rounds):
            for threads in (1, 16):
                latencies: dict[str, list[float]] = {}

                def read(
                    side: Side, n: int = number, t: int = threads, into: dict[str, list[float]] = latencies
                ) -> None:
                    into[side.name] = read_at_random(side.root / data.SAFETENSORS, t, n)

                name = f"{READS} reads of 4 KiB at random, {threads} thread{'s' if threads > 1 else ''}"
                table.turn(name, 0, sides, read, before=KEPT)
                for side_name, found in latencies.items():
                    table.figures(name, 0, side_name).p99.append(statistics.quantiles(found, n=100)[98])


def read_at_random(path: Path, threads: int, seed: int) -> list[float]:
    """Seconds of each of `READS` reads."""
    size = path.stat().st_size
    found: list[float] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        chosen = random.Random(seed * 100 + number)
        mine = []
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(READS // threads):
            start = time.perf_counter()
            os.pread(fd, BLOCK, chosen.randrange(size // BLOCK) * BLOCK)
            mine.append(time.perf_counter() - start)
        os.close(fd)
        with lock:
            found.extend(mine)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return found


def metadata(world: World, table: Table, rounds: int) -> None:
    """``find`` over trees of files of 100 bytes, first and again, and ``ls -l`` of one directory of them."""
    for count in COUNTS:
        prefix = f"tree{count}"
        _plant_objects(world, prefix, count)
        _plant_tree(world, prefix, count)
        sides: list[Side] = [world.modelfs(store=prefix, work="meta")]
        if count <= world.peer_files:
            sides += world.peers("meta")

        def root(side: Side, name: str = prefix) -> Path:
            return side.root if side.name == "modelfs" else side.root / name

        with opened(sides):
            for _ in range(rounds):
                table.turn(f"find, {count:,} files", 0, sides, lambda side, r=root: _find(r(side)), before=FRESH)
                table.turn(f"find again, {count:,} files", 0, sides, lambda side, r=root: _find(r(side)), cold=False)
                table.turn(
                    f"ls -l of {PER_DIRECTORY:,} of {count:,} files",
                    0,
                    sides,
                    lambda side, r=root: _run("ls", "-l", r(side) / "d000"),
                    before=FRESH,
                )


def _find(path: Path) -> None:
    _run("find", path, "-type", "f", "-size", "+1k")


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def _names(count: int) -> dict[str, list[str]]:
    return {f"d{d:03d}": [f"f{n:04d}.bin" for n in range(PER_DIRECTORY)] for d in range(count // PER_DIRECTORY)}


def _plant_objects(world: World, prefix: str, count: int) -> None:
    if count > world.peer_files:
        return
    objects = world.place.objects(f"{PLAIN}/{prefix}")
    world.say(f"putting {count:,} objects")
    with ThreadPoolExecutor(16) as pool:
        for directory, names in _names(count).items():
            list(pool.map(lambda name, d=directory: obstore.put(objects, f"{d}/{name}", b"x" * 100), names))


def _plant_tree(world: World, prefix: str, count: int) -> None:
    make_store(world, prefix)
    store = open_store(world.url(prefix))
    try:
        repo = Repository.open(store)
        base = repo.head(MAIN)
        assert base is not None
        now = time.time_ns()

        def entry(name: str, kind: Kind, size: int, content: bytes) -> Entry:
            return Entry(name.encode(), kind, 0o755, 0, 0, now, size, content)

        root = TreeDelta()
        for directory, names in _names(count).items():
            files = {name.encode(): entry(name, Kind.INLINE, 100, b"x" * 100) for name in names}
            root.subdirs[directory.encode()] = (entry(directory, Kind.DIRECTORY, 0, EMPTY_TREE), TreeDelta(files))
        tree = repo.apply(TreeId(base.commit.root.content), root)
        repo.commit(MAIN, base, msgspec.structs.replace(base.commit.root, content=tree), "a tree", count, 100 * count)
    finally:
        store.close()
