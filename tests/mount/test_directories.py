"""Directories, names and links on a mount."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import threading
from pathlib import Path

import pytest
from mounting import Machine, eventually


def test_tree_of_directories(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    (mnt / "a/b/c").mkdir(parents=True)
    (mnt / "a/b/c/file").write_text("deep")
    (mnt / "a/link").symlink_to("b/c/file")
    assert (mnt / "a/link").read_text() == "deep"
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    assert (again / "a/link").read_text() == "deep"
    assert os.readlink(again / "a/link") == "b/c/file"
    assert sorted(p.name for p in (again / "a").iterdir()) == ["b", "link"]


def test_rename_of_a_full_directory(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    (mnt / "tmp/sub").mkdir(parents=True)
    for i in range(20):
        (mnt / f"tmp/sub/{i}").write_text(str(i))
    (mnt / "tmp").rename(mnt / "step-1000")
    assert (mnt / "step-1000/sub/7").read_text() == "7"
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    assert sorted(p.name for p in again.iterdir()) == ["step-1000"]
    (again / "step-1000").rename(again / "best")
    assert (again / "best/sub/19").read_text() == "19"
    shutil.rmtree(again / "best")
    machine.umount(again)
    assert list(machine.mount(store, "third", "cold2").iterdir()) == []


def test_rename_onto_things(mnt: Path) -> None:
    (mnt / "d1").mkdir()
    (mnt / "d2").mkdir()
    (mnt / "d2/x").write_text("x")
    (mnt / "f").write_text("f")
    for source, target, code in [("d1", "d2", errno.ENOTEMPTY), ("d1", "f", errno.ENOTDIR), ("f", "d1", errno.EISDIR)]:
        with pytest.raises(OSError) as refused:
            os.rename(mnt / source, mnt / target)
        assert refused.value.errno == code
    with pytest.raises(OSError) as loop:
        os.rename(mnt / "d2", mnt / "d2/inside")
    assert loop.value.errno == errno.EINVAL
    os.rename(mnt / "d2", mnt / "d1")
    assert (mnt / "d1/x").read_text() == "x"


def _renameat2(a: Path, b: Path, flags: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), flags)
    return ctypes.get_errno() if done else 0


def test_rename_flags(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    (mnt / "a").write_text("a")
    (mnt / "b").mkdir()
    (mnt / "b/inside").write_text("inside")
    assert _renameat2(mnt / "a", mnt / "b", 1) == errno.EEXIST
    assert _renameat2(mnt / "a", mnt / "b", 2) == 0
    assert (mnt / "b").read_text() == "a"
    assert (mnt / "a/inside").read_text() == "inside"
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    assert (again / "a/inside").read_text() == "inside"


def test_rmdir(mnt: Path) -> None:
    (mnt / "d").mkdir()
    (mnt / "d/f").touch()
    with pytest.raises(OSError) as refused:
        (mnt / "d").rmdir()
    assert refused.value.errno == errno.ENOTEMPTY
    (mnt / "d/f").unlink()
    (mnt / "d").rmdir()
    assert not (mnt / "d").exists()


def test_long_and_strange_names(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    names = [b"x" * 255, "ünïcødé".encode(), b"\xff\xfe raw", b"new\nline", b" space "]
    for name in names:
        Path(os.fsdecode(os.fsencode(mnt) + b"/" + name)).write_bytes(name)
    with pytest.raises(OSError) as refused:
        (mnt / ("y" * 256)).touch()
    assert refused.value.errno == errno.ENAMETOOLONG
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    assert sorted(os.listdir(os.fsencode(again))) == sorted(names)
    for name in names:
        assert Path(os.fsdecode(os.fsencode(again) + b"/" + name)).read_bytes() == name


def test_a_large_directory(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    for i in range(3000):
        (mnt / f"file-{i:05}").touch()
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    assert len(os.listdir(again)) == 3000
    (again / "file-01500").write_text("changed")
    assert len(os.listdir(again)) == 3000


def test_special_files(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    os.mkfifo(mnt / "fifo", 0o600)
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    assert (again / "fifo").is_fifo()
    (again / "fifo").unlink()
    assert not (again / "fifo").exists()


def test_listing_while_changing(mnt: Path) -> None:
    for i in range(500):
        (mnt / f"{i}").touch()
    seen = []
    with os.scandir(mnt) as entries:
        for entry in entries:
            seen.append(entry.name)
            if len(seen) == 100:
                (mnt / "added").touch()
    assert len(set(seen) - {"added"}) == 500


def test_link_count_tells_the_subdirectories(machine: Machine, store: str, mnt: Path) -> None:
    top = mnt / "top"
    (top / "a").mkdir(parents=True)
    (top / "b").mkdir()
    (top / "file").touch()
    assert top.stat().st_nlink == 4
    (mnt / "other").mkdir()
    (top / "a").rename(mnt / "other" / "a")
    (top / "b").rename(top / "c")
    assert (top.stat().st_nlink, (mnt / "other").stat().st_nlink) == (3, 3)
    (top / "c").rmdir()
    (top / "file").unlink()
    assert top.stat().st_nlink == 2
    (top / "d").mkdir()
    fd = os.open(top, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    assert top.stat().st_nlink == 3, "a commit changes nothing"
    # Another mount knows once it has listed the directory; until then 1 says that it does not.
    second = machine.mount(store, "second", "cache2")
    assert (second / "top").stat().st_nlink == 1
    assert os.listdir(second / "top") == ["d"]
    (second / "top" / "e").mkdir()
    assert (second / "top").stat().st_nlink == 4
    eventually(lambda: (top / "e").exists() and top.stat().st_nlink == 4, "seen by the first")


def test_no_name_is_missing_while_commits_run(mnt: Path) -> None:
    """A listing that begins after a file was made has it, whatever commit is under way."""
    made: list[str] = []
    stop = threading.Event()

    def make() -> None:
        for i in range(400):
            (mnt / f"f{i:03}").touch()
            made.append(f"f{i:03}")
        stop.set()

    thread = threading.Thread(target=make)
    thread.start()
    try:
        while not stop.is_set():
            before = set(made)
            assert before <= set(os.listdir(mnt))
    finally:
        thread.join(60)
