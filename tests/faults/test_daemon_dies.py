"""kill -9 of the daemon, and what is promised afterwards."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from mounting import Machine, eventually


def test_killed_during_a_save_leaves_the_previous_version(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    old = os.urandom(4_000_000)
    (mnt / "model").write_bytes(old)
    started, killed = threading.Event(), threading.Event()
    failed: list[OSError] = []

    def save() -> None:
        try:
            # The kernel takes writes into its page cache; that they are lost is said by close.
            with (mnt / "model").open("wb") as file:
                written = 0
                while not killed.is_set():
                    written += file.write(os.urandom(1 << 20))
                    if written > 40 << 20:
                        started.set()
        except OSError as error:
            failed.append(error)

    writer = threading.Thread(target=save)
    writer.start()
    assert started.wait(60)
    machine.kill(mnt)
    killed.set()
    writer.join()
    assert failed, "the save was over before the daemon died: nothing was tested"
    assert (machine.mount(store, "other", "cold") / "model").read_bytes() == old
    healed = machine.mount(store)  # over the dead mount point
    assert (healed / "model").read_bytes() == old
    assert "unfinished file" in machine.log()


def test_closed_files_survive_a_kill(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    for i in range(20):
        (mnt / f"f{i}").write_bytes(b"%d" % i * 3000)
    machine.kill(mnt)
    again = machine.mount(store, "again", "cold")
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {f"f{i}": b"%d" % i * 3000 for i in range(20)}


def test_umount_waits_for_files_that_are_being_finished(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    (mnt / "t").write_bytes(b"z" * 100_000)
    os.truncate(mnt / "t", 50_000)
    machine.umount(mnt)
    assert (machine.mount(store, "again", "cold") / "t").stat().st_size == 50_000


def test_open_descriptor_after_the_daemon_died(mnt: Path, machine: Machine) -> None:
    (mnt / "f").write_bytes(b"x" * 10_000)
    machine.kill(mnt)
    with pytest.raises(OSError):
        (mnt / "f").read_bytes()
    assert machine.mount(machine.directory.joinpath("store").as_posix()).joinpath("f").read_bytes() == b"x" * 10_000


def test_write_back_survives_a_kill(machine: Machine, store: str) -> None:
    """What close acknowledged under --write-back is brought into the store by the next mount."""
    mnt = machine.mount(store, write_back=True)
    (mnt / "kept").write_bytes(b"k" * 50_000)
    machine.umount(mnt)
    before = set((Path(store) / "commits/main").iterdir())
    mnt = machine.mount(store, write_back=True)
    machine.freeze_uploads(store)
    contents = {f"dir/f{i}": os.urandom(300_000 + i) for i in range(5)}
    (mnt / "dir").mkdir()
    for name, data in contents.items():
        (mnt / name).write_bytes(data)
    os.rename(mnt / "dir/f4", mnt / "dir/renamed")
    (mnt / "kept").unlink()
    fd = os.open(mnt / "dir", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    machine.kill(mnt)
    machine.thaw_uploads(store)
    assert set((Path(store) / "commits/main").iterdir()) == before, "nothing was pending: nothing was tested"
    again = machine.mount(store, write_back=True)
    contents["dir/renamed"] = contents.pop("dir/f4")
    found = {str(p.relative_to(again)): p.read_bytes() for p in again.rglob("*") if p.is_file()}
    assert found == contents
    machine.umount(again)
    other = machine.mount(store, "other", "cold")
    assert {str(p.relative_to(other)): p.read_bytes() for p in other.rglob("*") if p.is_file()} == contents
    assert not list((machine.directory.parent / "state").glob("modelfs/journal/*/main/*/stage/*"))


def test_a_mode_that_was_set_before_a_kill_brings_back_no_old_content(machine: Machine, store: str) -> None:
    """What the dead mount saw was newer than its own last commit, and is older than what others have made since."""
    mnt = machine.mount(store, refresh=0.1)
    (mnt / "other").write_bytes(b"a commit of this mount")
    elsewhere = machine.mount(store, "elsewhere", "cold", refresh=0.1)
    (elsewhere / "f").write_bytes(b"old")
    eventually(lambda: (mnt / "f").exists(), "the other mount's file")
    machine.freeze_uploads(store)
    (mnt / "f").chmod(0o600)
    machine.kill(mnt)
    machine.thaw_uploads(store)
    (elsewhere / "f").write_bytes(b"new")
    (elsewhere / "f").chmod(0o640)
    machine.umount(elsewhere)
    machine.mount(store, refresh=0.1)
    assert (mnt / "f").read_bytes() == b"new"
    assert (mnt / "f").stat().st_mode & 0o777 == 0o600, "the mode was set last as far as the history goes"
