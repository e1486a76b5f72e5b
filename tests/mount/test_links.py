"""Hard links through real mounts: one file under several names, here, on another mount, after a crash.

The promises are those of docs/consistency.md, "Hard links".
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from mounting import Machine, eventually

from modelfs.ids import TreeId
from modelfs.repository.objects import Entry
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store


def raises(code: int, action: Callable[[], object]) -> None:
    """The action fails with this errno."""
    with pytest.raises(OSError, match=r".*") as caught:
        action()
    assert caught.value.errno == code


def same(*paths: Path) -> bool:
    """All paths are names of one file, and it has no others."""
    facts = [path.lstat() for path in paths]
    return len({f.st_ino for f in facts}) == 1 and {f.st_nlink for f in facts} == {len(paths)}


def sync(mnt: Path) -> None:
    """All changes of the mount are in the store."""
    fd = os.open(mnt, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def test_one_file_with_several_names(mnt: Path) -> None:
    (mnt / "d").mkdir()
    a, b, c = mnt / "a", mnt / "d/b", mnt / "c"
    a.write_bytes(b"one")
    assert a.stat().st_nlink == 1
    os.link(a, b)
    assert same(a, b)
    assert b.read_bytes() == b"one"
    b.write_bytes(b"two")
    assert a.read_bytes() == b"two"
    os.link(b, c)
    assert same(a, b, c)
    c.chmod(0o600)
    os.setxattr(a, "user.k", b"v")
    assert stat.S_IMODE(b.stat().st_mode) == 0o600
    assert os.getxattr(b, "user.k") == b"v"
    a.unlink()
    assert same(b, c)
    os.rename(c, mnt / "e")
    assert same(b, mnt / "e")
    os.rename(mnt / "d", mnt / "f")
    assert same(mnt / "f/b", mnt / "e")
    (mnt / "f/b").unlink()
    assert same(mnt / "e")
    assert (mnt / "e").read_bytes() == b"two"


def test_rename_over_one_name_and_onto_another_name(mnt: Path) -> None:
    a, b, c = mnt / "a", mnt / "b", mnt / "c"
    a.write_bytes(b"linked")
    os.link(a, b)
    os.rename(a, b)  # names of one file: nothing happens
    assert same(a, b)
    c.write_bytes(b"new")
    os.rename(c, b)
    assert (a.read_bytes(), b.read_bytes()) == (b"linked", b"new")
    assert same(a)
    assert same(b)


@pytest.mark.parametrize("kind", ["fifo", "socket", "symlink", "device"])
def test_other_kinds_have_links_too(machine: Machine, store: str, kind: str) -> None:
    mnt = machine.mount(store)
    a, b = mnt / "a", mnt / "b"
    if kind == "fifo":
        os.mkfifo(a)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(a))
    elif kind == "symlink":
        a.symlink_to("nowhere")
    elif os.geteuid() == 0:
        os.mknod(a, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    else:
        pytest.skip("devices are made by root")
    os.link(a, b, follow_symlinks=False)
    assert same(a, b)
    before = b.lstat()
    machine.umount(mnt)
    mnt = machine.mount(store)
    assert same(a, b)
    assert (a.lstat().st_mode, a.lstat().st_rdev) == (before.st_mode, before.st_rdev)


def test_what_cannot_be_linked(mnt: Path) -> None:
    (mnt / "d").mkdir()
    (mnt / "a").touch()
    (mnt / "b").touch()
    raises(errno.EPERM, lambda: os.link(mnt / "d", mnt / "e"))
    raises(errno.EEXIST, lambda: os.link(mnt / "a", mnt / "b"))
    raises(errno.ENOENT, lambda: os.link(mnt / "none", mnt / "c"))
    raises(errno.ENAMETOOLONG, lambda: os.link(mnt / "a", mnt / ("x" * 256)))
    fd = os.open(mnt / "a", os.O_RDWR)
    try:
        (mnt / "a").unlink()
        # with a directory, os.link() is linkat(), which follows the link to the open file
        raises(errno.ENOENT, lambda: os.link(f"/proc/self/fd/{fd}", mnt / "c", src_dir_fd=fd))
    finally:
        os.close(fd)


def test_an_open_file_outlives_its_names_one_by_one(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"x" * 100)
    os.link(mnt / "a", mnt / "b")
    fd = os.open(mnt / "a", os.O_RDWR)
    try:
        (mnt / "a").unlink()
        assert os.fstat(fd).st_nlink == 1
        os.pwrite(fd, b"y", 0)
        os.fsync(fd)
        assert (mnt / "b").read_bytes() == b"y" + b"x" * 99
        (mnt / "b").unlink()
        assert os.fstat(fd).st_nlink == 0
        assert os.pread(fd, 2, 0) == b"yx"
    finally:
        os.close(fd)


def test_a_file_is_linked_while_it_is_being_written(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    with (mnt / "a").open("wb") as file:
        file.write(b"begin ")
        os.link(mnt / "a", mnt / "b")
        sync(mnt)  # nothing of it is finished yet
        file.write(b"end")
    other = machine.mount(store, "other", "other-cache")
    assert (other / "a").read_bytes() == (other / "b").read_bytes() == b"begin end"
    assert same(other / "a", other / "b")
    assert same(mnt / "a", mnt / "b")


def test_equal_files_are_not_links(mnt: Path) -> None:
    for name in ("a", "b"):
        (mnt / name).write_bytes(b"z" * 100_000)
    assert same(mnt / "a")
    assert same(mnt / "b")


@pytest.mark.parametrize("look", [False, True])
def test_another_mount_sees_one_file_and_follows_it(machine: Machine, store: str, look: bool) -> None:
    one, two = machine.mount(store, "one"), machine.mount(store, "two", "cache-two", refresh=0.05)
    (one / "d/deep").mkdir(parents=True)
    (one / "a").write_bytes(b"v1")
    sync(one)
    if look:
        eventually(lambda: (two / "a").exists(), "the file is seen")
        ino = (two / "a").stat().st_ino
    os.link(one / "a", one / "d/deep/b")
    sync(one)
    eventually(lambda: (two / "d/deep/b").exists() and same(two / "a", two / "d/deep/b"), "both names are one file")
    if look:
        assert (two / "a").stat().st_ino == ino
    (two / "d/deep/b").write_bytes(b"v2 from two")
    eventually(lambda: (one / "a").read_bytes() == b"v2 from two", "the other name has what was written")
    os.link(one / "d/deep/b", one / "c")
    sync(one)
    eventually(lambda: (two / "a").stat().st_nlink == 3, "a third name counts without being looked at")
    (one / "a").unlink()
    sync(one)
    eventually(lambda: (two / "c").stat().st_nlink == 2, "a name less")
    assert same(two / "c", two / "d/deep/b")


def test_a_change_goes_to_names_that_were_never_looked_at(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    (mnt / "far/away").mkdir(parents=True)
    (mnt / "a").write_bytes(b"v1")
    os.link(mnt / "a", mnt / "far/away/b")
    machine.umount(mnt)
    machine.mount(store)
    (mnt / "a").chmod(0o640)
    machine.umount(mnt)
    machine.mount(store)
    assert stat.S_IMODE((mnt / "far/away/b").stat().st_mode) == 0o640
    assert same(mnt / "a", mnt / "far/away/b")


def test_both_change_one_file_under_different_names(machine: Machine, store: str) -> None:
    """Neither follows the other: the commits are merged."""
    one = machine.mount(store, "one", refresh=3600.0)
    (one / "a").write_bytes(b"v1")
    os.link(one / "a", one / "b")
    sync(one)
    two = machine.mount(store, "two", "cache-two", refresh=3600.0)
    assert same(two / "a", two / "b")
    (one / "a").write_bytes(b"of one")
    os.link(two / "b", two / "c")
    (two / "a").unlink()
    sync(two)
    machine.umount(one)
    (two / "b").write_bytes(b"of two")
    machine.umount(two)
    three = machine.mount(store, "three", "cache-three")
    assert sorted(os.listdir(three)) == ["b", "c"]
    assert same(three / "b", three / "c")
    assert (three / "c").read_bytes() == b"of two"


@pytest.mark.parametrize("options", [{}, {"write_back": True}], ids=["through", "write-back"])
def test_kill_keeps_links_and_what_was_written_through_them(
    machine: Machine,
    store: str,
    options: dict,  # type: ignore[type-arg]
) -> None:
    mnt = machine.mount(store, **options)
    (mnt / "d").mkdir()
    (mnt / "old").write_bytes(b"old")
    os.link(mnt / "old", mnt / "d/old")
    sync(mnt)
    machine.freeze_uploads(store)
    if options:  # closing a file returns although the store takes nothing
        (mnt / "new").write_bytes(b"n" * 100_000)
        os.link(mnt / "new", mnt / "d/new")
        (mnt / "d/old").write_bytes(b"o" * 100_000)
    os.mkfifo(mnt / "fifo")
    os.link(mnt / "fifo", mnt / "d/fifo")
    os.link(mnt / "old", mnt / "third")
    (mnt / "old").unlink()
    os.rename(mnt / "d", mnt / "e")
    machine.kill(mnt)
    machine.thaw_uploads(store)
    machine.mount(store, **options)
    assert not (mnt / "old").exists()
    assert same(mnt / "third", mnt / "e/old")
    assert same(mnt / "fifo", mnt / "e/fifo")
    assert (mnt / "third").read_bytes() == (b"o" * 100_000 if options else b"old")
    if options:
        assert same(mnt / "new", mnt / "e/new")
        assert (mnt / "e/new").read_bytes() == b"n" * 100_000
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    assert same(again / "third", again / "e/old")


@pytest.mark.parametrize("seed", range(2))
def test_two_mounts_change_links_at_random_and_end_with_one_tree(machine: Machine, store: str, seed: int) -> None:
    """Whatever is merged, all entries of a group are equal, and both mounts and a third agree on it."""
    mounts = [machine.mount(store, name, f"cache-{name}", refresh=0.1) for name in ("one", "two")]
    (mounts[0] / "d").mkdir()
    sync(mounts[0])
    eventually(lambda: (mounts[1] / "d").exists(), "the directory is seen")
    rng = random.Random(seed)
    names = ["a", "b", "c", "d/a", "d/b"]
    for number in range(150):
        mnt = rng.choice(mounts)
        one, two = rng.sample(names, 2)
        action = rng.choice(["write", "write", "link", "link", "link", "rename", "unlink", "chmod", "sync"])
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            if action == "write":
                (mnt / one).write_bytes(b"%d " % number * rng.choice([1, 3000]))
            elif action == "link":
                os.link(mnt / one, mnt / two)
            elif action == "rename":
                os.rename(mnt / one, mnt / two)
            elif action == "unlink":
                (mnt / one).unlink()
            elif action == "chmod":
                (mnt / one).chmod(rng.choice([0o600, 0o640, 0o644]))
            else:
                sync(mnt)
    for mnt in mounts:
        sync(mnt)
    third = machine.mount(store, "third", "cache-third")
    expected = shown(third)
    for mnt in mounts:
        eventually(lambda mnt=mnt: shown(mnt) == expected, f"{mnt.name} has what the store has")
    opened = open_store(store)
    repo = Repository.open(opened)
    files: dict[bytes, Entry] = {}
    for _, entry in repo.walk(TreeId(repo.resolve(None).commit.root.content)):
        if entry.group:
            bare = msgspec.structs.replace(entry, name=b"")
            assert files.setdefault(entry.group, bare) == bare
    opened.close()


def shown(mnt: Path) -> dict[str, tuple[bytes, int, int, tuple[str, ...]]]:
    """Content, mode, link count, and the names that are the same file, by path."""
    paths = sorted(path for path in mnt.rglob("*") if path.is_file())
    facts = {path: path.stat() for path in paths}
    return {
        str(path.relative_to(mnt)): (
            path.read_bytes(),
            facts[path].st_mode,
            facts[path].st_nlink,
            tuple(str(p.relative_to(mnt)) for p in paths if facts[p].st_ino == facts[path].st_ino),
        )
        for path in paths
    }
