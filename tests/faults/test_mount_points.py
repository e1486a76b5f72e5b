"""A mount that is always answerable: dead daemons, bare directories, two mounts at one place, who keeps one busy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from mounting import Machine, eventually, hand_over
from running import Result, runner

from modelfs.errors import ModelfsError, UsageError
from modelfs.fuse.mountpoint import mount_table
from modelfs.process import alive, holders

HOLDER = """
import ctypes, os, sys
how, path = sys.argv[1:]
if how == "cwd":
    os.chdir(path)
elif how == "open":
    file = open(path, "rb")
else:
    file = open(path, "rb")  # the mmap module would keep a descriptor as well
    mmap = ctypes.CDLL(None).mmap
    mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    mmap(None, 4096, 1, 2, file.fileno(), 0)  # PROT_READ, MAP_PRIVATE
    file.close()
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(how: str, path: Path) -> Iterator[int]:
    """A process that uses something in a mount; its id."""
    command = [sys.executable, "-c", HOLDER, how, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


def _count(mountpoint: Path) -> int:
    return sum(entry.path == str(mountpoint) for entry in mount_table())


def test_a_dead_mount_is_healed_while_somebody_is_in_it(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    (mnt / "dir").mkdir()
    (mnt / "dir/f").write_bytes(b"x" * 10_000)
    with holding("cwd", mnt / "dir"), holding("open", mnt / "dir/f"), holding("mapped", mnt / "dir/f"):
        machine.kill(mnt)
        assert machine.mount(store) == mnt
        assert (mnt / "dir/f").read_bytes() == b"x" * 10_000
    machine.umount(mnt)
    assert _count(mnt) == 0


def test_nothing_is_written_beside_a_mount(machine: Machine, store: str) -> None:
    """The directory under a mount cannot be written, while it is mounted and after the daemon died, until the next
    mount or umount; then it is what it was."""
    mnt = machine.directory / "mnt"
    mnt.mkdir(mode=0o750)
    mnt.chmod(0o750)
    machine.mount(store)
    (mnt / "f").write_bytes(b"in the store")
    machine.kill(mnt)
    subprocess.run(["umount", "-l", mnt], check=True)
    if not _protects(mnt):
        pytest.skip("this file system cannot protect the directory from root")
    with pytest.raises(OSError):
        (mnt / "checkpoint").write_bytes(b"on the wrong disk")
    machine.mount(store)
    assert (mnt / "f").read_bytes() == b"in the store"
    (mnt / "checkpoint").write_bytes(b"in the store, too")
    machine.umount(mnt)
    assert os.listdir(mnt) == []
    assert mnt.stat().st_mode & 0o777 == 0o750
    (mnt / "ours").touch()
    (mnt / "ours").unlink()
    # After a crash, umount alone gives it back as well.
    machine.mount(store)
    machine.kill(mnt)
    machine.umount(mnt)
    (mnt / "ours").touch()
    (mnt / "ours").unlink()
    # So it does when the machine was started anew, and no mount is left to see.
    machine.mount(store)
    machine.kill(mnt)
    subprocess.run(["umount", "-l", mnt], check=True)
    next((machine.directory.parent / "state/modelfs/mounts").glob("*.json")).unlink()
    machine.umount(mnt)
    (mnt / "ours").touch()


def _protects(mnt: Path) -> bool:
    shown = subprocess.run(["lsattr", "-d", mnt], capture_output=True, text=True, check=False).stdout
    return os.geteuid() != 0 or "i" in shown.split(" ")[0]


def test_of_mounts_at_one_place_exactly_one_wins(machine: Machine, store: str, tmp_path: Path) -> None:
    run = runner(tmp_path)
    mnt = machine.directory / "mnt"
    mnt.mkdir()

    def mount(i: int) -> Result | None:
        try:
            return run("mount", store, mnt, "--cache-dir", tmp_path / f"c{i}")
        except AssertionError as refused:  # another exit code than 0
            assert "mounted" in str(refused)
            return None

    try:
        with ThreadPoolExecutor(5) as pool:
            results = list(pool.map(mount, range(5)))
        assert sum(result is not None for result in results) == 1
        assert _count(mnt) == 1
        (mnt / "f").touch()
        line = run("mount", store, mnt, code=2).err
        assert f"is mounted already: fuse.modelfs {store} by process {machine.pid(mnt)}" in line
    finally:
        run("umount", mnt)
    assert _count(mnt) == 0


def test_a_dead_mount_is_healed_once(machine: Machine, store: str, tmp_path: Path) -> None:
    """Of two who find a dead mount, the second does not take down what the first has mounted."""
    mnt = machine.mount(store)
    machine.kill(mnt)
    run = runner(tmp_path)

    def mount(i: int) -> bool:
        try:
            run("mount", store, mnt, "--cache-dir", tmp_path / f"c{i}")
        except AssertionError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(mount, range(4))) == 1
    (mnt / "f").touch()
    assert _count(mnt) == 1
    run("umount", mnt)


@pytest.mark.parametrize(("how", "said"), [("open", "has open"), ("cwd", "works in"), ("mapped", "has mapped")])
def test_umount_says_who_keeps_a_mount_busy(machine: Machine, store: str, how: str, said: str) -> None:
    mnt = machine.mount(store)
    (mnt / "dir").mkdir()
    (mnt / "dir/f").write_bytes(b"x" * 10_000)
    path = mnt / "dir" if how == "cwd" else mnt / "dir/f"
    with holding(how, path) as pid:
        [holder] = holders(mnt, machine.pid(mnt))
        assert (holder.pid, holder.what, holder.path) == (pid, said, str(path))
        with pytest.raises(ModelfsError, match="is busy: ") as refused:
            machine.umount(mnt)
        assert f"(process {pid}) {said} {path}" in str(refused.value)
        assert (mnt / "dir/f").read_bytes() == b"x" * 10_000
    machine.umount(mnt)


def test_umount_while_a_file_is_being_written(machine: Machine, store: str) -> None:
    """Nobody sees the half of it, umount does not wait for the rest, and names who writes."""
    mnt = machine.mount(store)
    (mnt / "f").write_bytes(b"whole")
    other = machine.mount(store, "other", "cold", read_only=True)
    with (mnt / "f").open("wb", buffering=0) as file:
        file.write(os.urandom(3_000_000))
        hand_over(file.fileno())
        with pytest.raises(ModelfsError, match=f"process {os.getpid()}"):
            machine.umount(mnt)
        assert (other / "f").read_bytes() == b"whole"
    assert (mnt / "f").stat().st_size == 3_000_000
    machine.umount(mnt)


def test_sigterm_with_a_file_being_written(machine: Machine, store: str) -> None:
    """What was closed is in the store; what was not is kept in the journal under its name."""
    mnt = machine.mount(store, write_back=True, drain_timeout=5.0)
    (mnt / "closed").write_bytes(b"c" * 100_000)
    fd = os.open(mnt / "open", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"o" * 100_000)
    hand_over(fd)
    pid = machine.pid(mnt)
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not alive(pid), "the daemon has ended", 30)
    with pytest.raises(OSError):
        os.close(fd)
    assert "files (100000 bytes) are not in the store" in machine.log()
    mnt = machine.mount(store)
    assert {p.name: p.read_bytes() for p in mnt.iterdir()} == {"closed": b"c" * 100_000}
    assert "a mount died while it wrote b'open': an unfinished file of 100000 bytes" in machine.log()


def test_a_lazy_unmount_makes_place_for_another(machine: Machine, store: str, tmp_path: Path) -> None:
    mnt = machine.mount(store)
    (mnt / "f").write_bytes(b"x" * 10_000)
    run = runner(tmp_path)
    with (mnt / "f").open("rb", buffering=0) as file:
        first = machine.pid(mnt)
        run("umount", "--lazy", mnt)
        assert _count(mnt) == 0
        machine.mount(store)
        assert machine.pid(mnt) != first
        assert file.read(10) == b"x" * 10
        assert (mnt / "f").read_bytes() == b"x" * 10_000
    eventually(lambda: not alive(first), "the first daemon has ended")
    assert machine.status(mnt)["state"] == "mounted"
    machine.umount(mnt)


def test_bad_options(machine: Machine, store: str, tmp_path: Path) -> None:
    run = runner(tmp_path)
    mnt = machine.directory / "mnt"
    mnt.mkdir()
    assert "--drain-timeout" in run("mount", store, mnt, "--drain-timeout", "-1", code=2).err
    assert "--store-timeout" in run("mount", store, mnt, "--store-timeout", "0", code=2).err
    with pytest.raises(UsageError, match="not a modelfs mount"):
        machine.umount(mnt)
