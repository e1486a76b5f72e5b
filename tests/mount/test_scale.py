"""Many readers, files and directories far larger than what the daemon may hold, and many small files: what is fetched,
written and held is counted; nothing here looks at a clock."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from countingstore import CountingStore
from mounting import Machine

from modelfs.ids import TreeId
from modelfs.repository.objects import EMPTY_TREE, CommitRecord, Entry, Extent, Kind, Manifest, TreeDelta
from modelfs.repository.repository import Repository
from modelfs.store.base import Store
from modelfs.store.open import open_store

MiB = 1 << 20
MEMORY = 400e6  # of a daemon, whatever the size of what it serves

_READER = """
import hashlib, mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print("open", flush=True)
sys.stdin.readline()
if sys.argv[2] == "map":
    content = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    sum(content[start] for start in range(0, len(content), 997 * 4096))  # touched all over before it is read
else:
    content = b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
print(hashlib.sha256(content).hexdigest())
"""


@pytest.fixture
def served(store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingStore]:
    """The test's store over HTTP, counted."""
    for name, value in CountingStore.environment.items():
        monkeypatch.setenv(name, value)
    with CountingStore(Path(store)) as counting:
        yield counting


def peak_memory(pid: int) -> int:
    """Most bytes that a process ever had resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def put(repo: Repository, *entries: Entry) -> CommitRecord:
    """Commit entries of the root directory."""
    head = repo.resolve(None)
    root = head.commit.root
    tree = repo.apply(TreeId(root.content), TreeDelta(puts={entry.name: entry for entry in entries}))
    return repo.commit("main", head, repo.directory(root, tree), "")


def opened(store: str) -> tuple[Store, Repository]:
    there = open_store(store)
    repo = Repository.open(there)
    repo.begin_writing()
    return there, repo


def test_eight_processes_that_load_a_cold_file_fetch_each_chunk_once(
    machine: Machine, store: str, served: CountingStore
) -> None:
    mnt = machine.mount(store)
    content = np.random.default_rng(1).bytes(160 * MiB)  # more than is held in memory
    (mnt / "model.bin").write_bytes(content)
    machine.umount(mnt)
    chunks = sum(1 for path in (Path(store) / "data").rglob("*") if path.is_file())
    assert chunks > 20
    cold = machine.mount(served.url, "cold", "empty", read_only=True)
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", _READER, str(cold / "model.bin"), kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for kind in ("read", "map") * 4
    ]  # fmt: skip
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "open\n"
        assert not served.below("data")
        for reader in readers:
            assert reader.stdin is not None
            reader.stdin.write("go\n")
            reader.stdin.flush()
        digests = {reader.communicate(timeout=60)[0].strip() for reader in readers}
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
    assert digests == {hashlib.sha256(content).hexdigest()}
    fetched = served.below("data")
    assert len(fetched) == chunks
    assert set(fetched.values()) == {1}
    assert machine.status(cold)["fetched_chunks"] == chunks


def test_a_file_of_100_gb_is_read_in_little_memory(machine: Machine, store: str) -> None:
    """25,600 pieces of 4 MiB, of which 40 are different: more than are held in memory or fit the cache."""
    length, different, pieces = 4 * MiB, 40, 25_600
    data = [np.random.default_rng(seed).bytes(length) for seed in range(different)]
    there, repo = opened(store)
    ids = [repo.write_chunk(piece)[0] for piece in data]
    order = random.Random(1).choices(range(different), k=pieces)
    manifest = Manifest(length * pieces, tuple(Extent(ids[i], length) for i in order))
    huge = Entry(
        b"huge.bin", Kind.FILE, 0o644, os.getuid(), os.getgid(), 0, manifest.size, repo.write_manifest(manifest)
    )
    put(repo, huge)
    there.close()
    assert manifest.size > 100e9

    def expected(offset: int, size: int) -> bytes:
        first, last = offset // length, min((offset + size - 1) // length, pieces - 1)
        run = b"".join(data[order[i]] for i in range(first, last + 1))
        return run[offset - first * length :][:size]

    mnt = machine.mount(store, cache_size=96 * MiB)
    (mnt / "other.bin").write_bytes(np.random.default_rng(99).bytes(48 * MiB))  # what the cache can give up
    fd = os.open(mnt / "huge.bin", os.O_RDONLY)
    try:
        draw = random.Random(2)
        places = [0, manifest.size // 2 - 1000, manifest.size - MiB]
        places += [draw.randrange(manifest.size) for _ in range(50)]
        for offset in places:
            size = draw.choice([1, 4096, 100_000, 3 * MiB])
            assert os.pread(fd, size, offset) == expected(offset, size), offset
        for i in range(pieces // 2, pieces // 2 + 512):  # 2 GB in order
            assert os.pread(fd, length, i * length) == data[order[i]], i
    finally:
        os.close(fd)
    facts = machine.status(mnt)
    assert facts["cache"]["evicted_bytes"] > 0
    assert facts["cache"]["bytes"] <= 96 * MiB
    assert facts["errors"] == 0
    assert peak_memory(machine.pid(mnt)) < MEMORY


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine whose disk is memory: 10,000 files are 10,000 fsyncs, which take minutes elsewhere."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        monkeypatch.setenv("XDG_STATE_HOME", f"{directory}/state")
        machine = Machine(Path(directory) / "machine")
        try:
            yield machine
        finally:
            machine.close()


def newest(store: str) -> int:
    """Number of the head."""
    there, repo = opened(store)
    try:
        return repo.resolve(None).number
    finally:
        there.close()


@pytest.mark.parametrize(("write_back", "count", "most"), [(True, 10_000, 500), (False, 1_000, 250)])
def test_many_small_files_go_in_group_commits(quick: Machine, write_back: bool, count: int, most: int) -> None:
    """From 32 writers. A close that waits for the store shares its commit with those beside it; with write-back none
    waits, and there are two commits a second."""
    store = quick.new_store()
    mnt = quick.mount(store, write_back=write_back)
    before = newest(store)
    for name in range(20):
        (mnt / f"{name}").mkdir()

    def write(number: int) -> None:
        fd = os.open(mnt / f"{number % 20}" / f"{number}.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(fd, b'{"step": %d}' % number)
        os.close(fd)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(write, range(count)))
    quick.umount(mnt)
    again = quick.mount(store, "again", "cold", read_only=True)
    assert newest(store) - before <= most
    assert set(again.glob("*/*.json")) == {again / f"{number % 20}" / f"{number}.json" for number in range(count)}
    for number in range(0, count, 50):
        assert (again / f"{number % 20}" / f"{number}.json").read_bytes() == b'{"step": %d}' % number


@pytest.fixture
def crowded(store: str) -> str:
    """The store with a directory of 100,000 small files in it."""
    there, repo = opened(store)
    entries = {
        name: Entry(name, Kind.INLINE, 0o644, os.getuid(), os.getgid(), 10**18, len(name), name)
        for name in (f"{i:06}.json".encode() for i in range(100_000))
    }
    tree = repo.apply(EMPTY_TREE, TreeDelta(puts=entries))
    put(repo, Entry(b"many", Kind.DIRECTORY, 0o755, os.getuid(), os.getgid(), 10**18, 0, tree))
    there.close()
    return store


def meta_objects(store: str) -> set[Path]:
    return {path for path in (Path(store) / "meta").rglob("*") if path.is_file()}


def test_a_commit_to_a_directory_of_100_000_rewrites_one_page(machine: Machine, crowded: str) -> None:
    before = meta_objects(crowded)
    assert len(before) > 50
    mnt = machine.mount(crowded)
    (mnt / "many" / "050000.json").write_bytes(b"changed")
    machine.umount(mnt)
    store = open_store(crowded)
    repo = Repository.open(store)
    pages = [
        repo.read_page(TreeId(bytes.fromhex(path.parent.name + path.name))) for path in meta_objects(crowded) - before
    ]
    store.close()
    # one page of names, the index above it, and the root that names the directory
    assert sorted((page.level, page.count == 100_000) for page in pages) == [(0, False), (0, False), (1, True)]
    assert sorted(len(page.items) for page in pages if page.level == 0)[0] == 1
    again = machine.mount(crowded, "again", "cold", read_only=True)
    assert (again / "many" / "050000.json").read_bytes() == b"changed"
    assert (again / "many" / "050001.json").read_bytes() == b"050001.json"


def test_a_name_in_a_directory_of_100_000_costs_one_page(machine: Machine, crowded: str, served: CountingStore) -> None:
    pages = len(meta_objects(crowded))
    mnt = machine.mount(served.url, read_only=True)
    assert [path.name for path in mnt.iterdir()] == ["many"]
    assert sum(served.below("meta").values()) == 1, "the root"
    assert (mnt / "many").stat().st_mtime_ns == 10**18
    assert sum(served.below("meta").values()) == 1
    assert (mnt / "many" / "031415.json").stat().st_size == 11
    assert not (mnt / "many" / "031415.txt").exists()
    assert sum(served.below("meta").values()) <= 4, "the directory's index, and one page of names for each question"
    assert len(os.listdir(mnt / "many")) == 100_000
    fetched = served.below("meta")
    assert len(fetched) == pages
    assert set(fetched.values()) == {1}, "a listing fetches each page once"
