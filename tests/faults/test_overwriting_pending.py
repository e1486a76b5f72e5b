"""--write-back: overwriting a file whose upload is pending, on disks that have no room for its content twice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from mounting import Machine, eventually, hand_over
from smalldisks import free, small_disk

MB = 1_000_000
OLD = os.urandom(1 * MB) * 36
NEW = os.urandom(4 * MB)
Disk = Callable[[str, int], tuple[Machine, Path]]


@pytest.fixture
def on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A machine whose journal and cache are on a disk of that kind and size in MiB, and the disk; its store is not."""
    with ExitStack() as stack:

        def make(kind: str, size: int) -> tuple[Machine, Path]:
            disk = stack.enter_context(small_disk(tmp_path / "disk", size, kind))
            monkeypatch.setenv("XDG_STATE_HOME", str(disk / "state"))
            machine = Machine(tmp_path / "machine")
            stack.callback(machine.close)
            return machine, disk

        yield make


def pending(machine: Machine, disk: Path) -> tuple[str, Path]:
    """A store that takes nothing, and a mount in which a file was closed."""
    store = machine.new_store()
    mnt = machine.mount(store, cache=str(disk / "cache"), write_back=True)
    machine.freeze_uploads(store)
    (mnt / "f").write_bytes(OLD)
    return store, mnt


def after_a_kill(machine: Machine, disk: Path, store: str, mnt: Path, *descriptors: int) -> bytes:
    """What the file is when the next mount has brought it into the store."""
    machine.kill(mnt)
    for descriptor in descriptors:
        with pytest.raises(OSError):
            os.close(descriptor)
    machine.thaw_uploads(store)
    machine.umount(machine.mount(store, cache=str(disk / "cache"), write_back=True))
    cold = machine.mount(store, "cold", "cold", read_only=True)
    found = (cold / "f").read_bytes()
    machine.umount(cold)
    return found


def test_a_new_save_over_a_pending_one_copies_nothing(on_disk: Disk) -> None:
    """36 MB and 4 MB fit, twice 36 MB do not: on a file system that cannot share blocks."""
    machine, disk = on_disk("ext4", 64)
    store, mnt = pending(machine, disk)
    before = free(disk)
    assert before < len(OLD), "there must be no room for a copy"
    with (mnt / "f").open("wb") as file:
        file.write(NEW)
        file.flush()
        os.fsync(file.fileno())
        assert (mnt / "f").read_bytes() == NEW
    eventually(lambda: free(disk) > before, "the old save has a successor and went")
    assert after_a_kill(machine, disk, store, mnt) == NEW


def test_a_new_save_that_is_not_closed_leaves_the_pending_one(on_disk: Disk) -> None:
    machine, disk = on_disk("ext4", 64)
    store, mnt = pending(machine, disk)
    descriptor = os.open(mnt / "f", os.O_RDWR | os.O_TRUNC)
    os.write(descriptor, NEW)
    assert after_a_kill(machine, disk, store, mnt, descriptor) == OLD


def fill(disk: Path, leave: int) -> None:
    """Others use the disk up. Written to the end, because XFS gives away what it had set aside for growing files only
    when there is nothing else."""
    with (disk / "others").open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, free(disk) - leave)
        file.seek(0, os.SEEK_END)
        with contextlib.suppress(OSError):
            while file.write(bytes(MB)):
                os.fsync(file.fileno())
        file.truncate(file.tell() - leave)
        os.fsync(file.fileno())


@pytest.mark.parametrize("closed", [True, False])
def test_a_change_in_place_shares_the_blocks_where_the_disk_can(on_disk: Disk, closed: bool) -> None:
    """XFS, where the copy that keeps what was acknowledged costs no room."""
    machine, disk = on_disk("xfs", 320)
    store, mnt = pending(machine, disk)
    fill(disk, leave=12 * MB)
    assert free(disk) < len(OLD) - 10 * MB, "there must be no room for a copy"
    descriptor = os.open(mnt / "f", os.O_RDWR)
    os.pwrite(descriptor, NEW[:MB], 5 * MB + 17)
    os.truncate(mnt / "f", 20 * MB + 3)
    os.pwrite(descriptor, b"end", 20 * MB)
    hand_over(descriptor)
    if closed:
        os.close(descriptor)
    changed = (OLD[: 5 * MB + 17] + NEW[:MB] + OLD[6 * MB + 17 : 20 * MB]) + b"end"
    assert (mnt / "f").read_bytes() == changed
    assert after_a_kill(machine, disk, store, mnt, *(() if closed else (descriptor,))) == (changed if closed else OLD)
