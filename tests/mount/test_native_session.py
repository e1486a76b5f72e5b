"""Our own session with the kernel: cached files that it reads without the daemon, and when it must not."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mounting import Machine, eventually

from modelfs.cache.cache import Cache
from modelfs.fuse import daemon, device
from modelfs.process import alive

MIB = 1 << 20
OBSTACLE = device.probe(Path("/var/tmp"))
pytestmark = pytest.mark.skipif(bool(OBSTACLE), reason=f"no passthrough here: {OBSTACLE}")


@pytest.fixture
def mnt(machine: Machine, store: str) -> Path:
    return machine.mount(store, session="native")


def saved(mnt: Path, name: str = "f", size: int = 9 * MIB) -> bytes:
    """A file that was written, is in the store, and whole in the cache."""
    data = os.urandom(size)
    (mnt / name).write_bytes(data)
    return data


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """A private mapping of a file that has no descriptor any more. (mmap of Python keeps one.)"""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    at = libc.mmap(None, size, 1, 2, fd, 0)  # PROT_READ, MAP_PRIVATE
    os.close(fd)
    assert at != ctypes.c_void_p(-1).value
    try:
        yield memoryview((ctypes.c_char * size).from_address(at)).cast("B")
    finally:
        libc.munmap(at, size)


@contextmanager
def cache_of(machine: Machine, mnt: Path, name: str = "cache") -> Iterator[Cache]:
    cache = Cache(machine.directory / name, machine.status(mnt)["store_id"])
    try:
        yield cache
    finally:
        cache.close()


def drop_page_cache(mnt: Path) -> None:
    """Have the kernel read what is mapped anew."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("1")


def test_what_was_saved_is_read_by_the_kernel(machine: Machine, mnt: Path) -> None:
    data = saved(mnt)
    before = machine.status(mnt)
    assert (before["session"], before["passthrough"]) == ("native", True)
    assert (mnt / "f").read_bytes() == data
    with mapped(mnt / "f") as view:
        assert view == data
    with (mnt / "f").open("rb") as file:
        file.seek(0, os.SEEK_END)
        assert file.tell() == len(data) == os.fstat(file.fileno()).st_size
        assert os.pread(file.fileno(), 4096, len(data) - 100) == data[-100:]
        assert os.pread(file.fileno(), 4096, len(data)) == b""
    after = machine.status(mnt)
    assert after["reads"] == before["reads"]
    assert after["passed_opens"] == before["passed_opens"] + 3


def test_a_cold_file_passes_once_it_was_read(machine: Machine, mnt: Path, store: str) -> None:
    data = saved(mnt)
    cold = machine.mount(store, "cold", "cold-cache", session="native")
    with (cold / "f").open("rb") as first, (cold / "f").open("rb") as second:
        assert first.read(5 * MIB) == data[: 5 * MIB]
        assert second.read() == data
        assert machine.status(cold)["passed_opens"] == 0
    assert (cold / "f").read_bytes() == data
    facts = machine.status(cold)
    assert (facts["passed_opens"], facts["fetched_bytes"]) == (1, len(data))


def test_a_file_that_most_was_read_of_is_completed(machine: Machine, mnt: Path, store: str) -> None:
    data = saved(mnt, size=40 * MIB)
    cold = machine.mount(store, "cold", "cold-cache", session="native")
    with (cold / "f").open("rb") as file:
        for at in range(0, 30 * MIB, MIB):
            assert os.pread(file.fileno(), 100, at) == data[at : at + 100]

    def passes() -> bool:
        with (cold / "f").open("rb") as file:
            assert os.pread(file.fileno(), 100, 39 * MIB) == data[39 * MIB : 39 * MIB + 100]
        return bool(machine.status(cold)["passed_opens"])

    eventually(passes, "the rest of the file in the cache")
    assert (cold / "f").read_bytes() == data


def test_chunks_of_other_files_are_brought_together(machine: Machine, mnt: Path) -> None:
    data = saved(mnt, "old", 20 * MIB)
    with (mnt / "new").open("wb") as file:
        file.write(data[: 12 * MIB] + os.urandom(3 * MIB) + data[12 * MIB :] + data[: 4 * MIB])
    with (mnt / "new").open("rb") as file:
        written = file.read()
    second = machine.mount(machine.status(mnt)["store"], "second", session="native", read_only=True)
    with cache_of(machine, mnt) as cache:  # only the old file is left
        [new] = [one.manifest for one in cache.list() if b"new" in one.paths or one.size == len(written)]
        assert cache.evict_files([new])
    assert (second / "new").read_bytes() == written

    def passes() -> bool:
        assert (second / "new").read_bytes() == written
        return bool(machine.status(second)["passed_opens"])

    eventually(passes, "the file as a whole in the cache")


def test_who_reads_keeps_what_he_opened_and_who_writes_gets_a_file_of_his_own(machine: Machine, mnt: Path) -> None:
    data = saved(mnt)
    with (mnt / "f").open("rb") as reader, mapped(mnt / "f") as view:
        old = os.fstat(reader.fileno()).st_ino
        with (mnt / "f").open("r+b") as writer:
            assert os.fstat(writer.fileno()).st_ino != old
            writer.write(b"changed")
        changed = b"changed" + data[7:]
        assert (mnt / "f").read_bytes() == changed
        os.truncate(mnt / "f", 6 * MIB)
        assert (mnt / "f").read_bytes() == changed[: 6 * MIB]
        (mnt / "f").write_bytes(b"anew")
        assert (mnt / "f").read_bytes() == b"anew"
        assert reader.read() == data == view
        assert os.fstat(reader.fileno()).st_size == len(data)
    with (mnt / "f").open("ab") as file:
        file.write(b" and more")
    machine.umount(mnt)
    assert (machine.mount(machine_store(machine), "again", "empty") / "f").read_bytes() == b"anew and more"


def machine_store(machine: Machine) -> str:
    return str(machine.directory / "store")


def test_readers_of_a_file_that_is_being_written_see_what_is_written(mnt: Path) -> None:
    data = saved(mnt)
    with (mnt / "f").open("r+b") as writer, (mnt / "f").open("rb") as reader:
        os.pwrite(writer.fileno(), b"now", 5)
        assert os.pread(reader.fileno(), 8, 0) == data[:5] + b"now"
        writer.truncate(6)
        assert reader.read() == data[:5] + b"n"


def test_a_file_with_several_names_does_not_pass(machine: Machine, mnt: Path) -> None:
    data = saved(mnt)
    os.link(mnt / "f", mnt / "g")
    with (mnt / "g").open("rb") as reader, (mnt / "f").open("r+b") as writer:
        os.pwrite(writer.fileno(), b"both", 0)
        assert reader.read() == b"both" + data[4:]
    assert machine.status(mnt)["passed_opens"] == 0


def test_what_is_being_read_is_not_evicted(machine: Machine, mnt: Path) -> None:
    data = saved(mnt)
    with mapped(mnt / "f") as view:
        with cache_of(machine, mnt) as cache:
            assert cache.clear() == cache.evict_to(MIB) == 0
        drop_page_cache(mnt)
        assert view == data
    eventually(lambda: machine.status(mnt)["open_files"] == 0, "the release of what was mapped")
    with cache_of(machine, mnt) as cache:
        assert cache.clear() == len(data)


def test_a_mapping_outlives_the_daemon_and_its_repair(machine: Machine, mnt: Path) -> None:
    data = saved(mnt)
    with mapped(mnt / "f") as view:
        with cache_of(machine, mnt) as cache:
            machine.kill(mnt)
            assert cache.clear() == cache.evict_to(MIB) == 0
        again = machine.mount(machine_store(machine), session="native")
        drop_page_cache(again)
        assert view == data
        assert (again / "f").read_bytes() == data


def test_only_verified_bytes_pass(machine: Machine, mnt: Path) -> None:
    data = saved(mnt)
    with cache_of(machine, mnt) as cache:
        [path] = [path for path in cache.files.glob("*/*") if path.stat().st_size == len(data)]
    machine.kill(mnt)
    with path.open("r+b") as file:
        file.seek(MIB)
        file.write(bytes([data[MIB] ^ 1]))
    again = machine.mount(machine_store(machine), session="native")
    for _ in range(3):
        assert (again / "f").read_bytes() == data


def test_small_files_and_those_being_written_do_not_pass(machine: Machine, mnt: Path) -> None:
    small = saved(mnt, "small", 100_000)
    assert (mnt / "small").read_bytes() == small
    with (mnt / "f").open("wb") as file:
        file.write(small * 50)
        file.flush()
        assert (mnt / "f").read_bytes() == small * 50
    assert machine.status(mnt)["passed_opens"] == 0


@pytest.mark.parametrize("command", [["umount"], ["fusermount3", "-u"]])
def test_it_is_unmounted_from_outside(machine: Machine, mnt: Path, command: list[str]) -> None:
    saved(mnt)
    pid = machine.pid(mnt)
    subprocess.run([*command, str(mnt)], check=True)
    eventually(lambda: not alive(pid), "the end of the daemon")
    assert daemon.mounts() == []
    assert list(mnt.iterdir()) == []


def test_many_names_and_readers_at_once(mnt: Path) -> None:
    for number in range(500):
        (mnt / f"file-{number:03}-{'x' * 200}").touch()
    assert len(os.listdir(mnt)) == 500
    data = saved(mnt, "big", 33 * MIB)
    readers = [subprocess.Popen(["cmp", "-s", "-", str(mnt / "big")], stdin=subprocess.PIPE) for _ in range(4)]
    for reader in readers:
        reader.communicate(data, timeout=60)
    assert [reader.returncode for reader in readers] == [0] * 4
