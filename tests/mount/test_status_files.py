"""What a mount shows of itself inside itself: `.modelfs/status.json` and attributes nobody stored."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from mounting import Machine, eventually

from modelfs.repository.objects import Kind
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

MIB = 1 << 20


def error_of(action: Callable[[], object]) -> int | None:
    try:
        action()
    except OSError as error:
        return error.errno
    return None


def test_the_status_is_read_as_a_file(machine: Machine, mnt: Path) -> None:
    path = mnt / ".modelfs" / "status.json"
    before = json.loads(path.read_text())
    (mnt / "f").write_bytes(os.urandom(MIB))
    after = json.loads(path.read_bytes())
    assert (before["commit"], after["commit"]) == (1, 2)
    assert after.keys() == machine.status(mnt).keys()
    assert after["written_bytes"] == MIB
    assert after["asked"] < 60
    assert after["away"] is None
    assert json.loads(subprocess.run(["cat", path], capture_output=True, check=True).stdout)["commit"] == 2
    assert os.listdir(mnt / ".modelfs") == ["status.json"]
    with path.open("rb") as one, path.open("rb") as other:  # each open has its own, and it does not change
        (mnt / "g").write_text("x")
        assert json.loads(one.read())["commit"] == json.loads(other.read())["commit"] == 2
        one.seek(0)
        assert json.loads(one.read())["commit"] == 2


def test_the_status_is_read_while_a_file_is_being_read(machine: Machine, store: str) -> None:
    first = machine.mount(store, "first", "cache1")
    data = os.urandom(60 * MIB)
    (first / "f").write_bytes(data)
    second = machine.mount(store, "second", "cache2", read_only=True)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append((second / "f").read_bytes()))
    thread.start()
    seen = []
    while thread.is_alive():
        seen.append(json.loads((second / ".modelfs" / "status.json").read_text()))
    thread.join()
    assert got == [data]
    last = json.loads((second / ".modelfs" / "status.json").read_text())
    assert [facts["fetched_bytes"] for facts in seen] == sorted(facts["fetched_bytes"] for facts in seen)
    assert (last["miss_bytes"], last["hit_bytes"], last["hit_ratio"]) == (60 * MIB, 0, 0.0)
    assert last["store_requests"]["get"]["results"]["ok"] >= last["fetched_chunks"] > 0


def test_it_is_in_no_listing_and_no_copy(machine: Machine, store: str, mnt: Path, tmp_path: Path) -> None:
    (mnt / "f").write_bytes(os.urandom(MIB))
    assert os.listdir(mnt) == ["f"]
    assert [p.name for p in mnt.rglob("*")] == ["f"]
    shutil.copytree(mnt, tmp_path / "copy")
    assert os.listdir(tmp_path / "copy") == ["f"]
    machine.umount(mnt)
    repo = Repository.open(open_store(store))
    assert [entry.name for entry in repo.list(repo.resolve(None).commit.root.content)] == [b"f"]


@pytest.mark.parametrize("read_only", [False, True])
def test_nobody_changes_it_or_takes_its_name(machine: Machine, store: str, read_only: bool) -> None:
    first = machine.mount(store, "first", "cache1")
    (first / "dir").mkdir()
    (first / "f").write_text("x")
    mnt = machine.mount(store, "second", "cache2", read_only=read_only)
    own, status = mnt / ".modelfs", mnt / ".modelfs" / "status.json"
    expected = errno.EROFS if read_only else errno.EPERM
    assert error_of(lambda: own.mkdir()) == errno.EEXIST
    assert error_of(lambda: own.write_text("x")) == errno.EISDIR
    assert error_of(lambda: (mnt / "dir").rename(own)) == expected
    assert error_of(lambda: own.rename(mnt / "mine")) == expected
    assert error_of(lambda: own.rmdir()) == expected
    assert error_of(lambda: status.unlink()) == expected
    assert error_of(lambda: status.rename(mnt / "mine")) == expected
    assert error_of(lambda: (own / "new").write_text("x")) == expected
    assert error_of(lambda: (own / "new").mkdir()) == expected
    assert error_of(lambda: status.write_text("x")) == expected
    assert error_of(lambda: os.truncate(status, 0)) == expected
    assert error_of(lambda: status.chmod(0o777)) == expected
    assert error_of(lambda: os.setxattr(status, "user.x", b"")) == expected
    assert error_of(lambda: os.link(status, mnt / "mine")) == expected
    assert error_of(lambda: os.link(mnt / "f", own / "mine")) == expected
    assert error_of(lambda: (own / "none").read_text()) == errno.ENOENT
    if not read_only:
        nested = mnt / "dir" / ".modelfs"  # only the root's is ours
        nested.write_text("theirs")
        assert nested.read_text() == "theirs"
    assert json.loads(status.read_text())["read_only"] is read_only


def test_a_store_that_has_the_name_all_the_same(machine: Machine, store: str) -> None:
    """Written by a program that does not know of it: it stays in the store, and the mount shows its own."""
    opened = open_store(store)
    repo = Repository.open(opened)
    head = repo.resolve(None)
    from modelfs.ids import TreeId
    from modelfs.repository.objects import Entry, TreeDelta

    delta = TreeDelta()
    delta.puts[b".modelfs"] = Entry(b".modelfs", Kind.INLINE, 0o644, 0, 0, 0, 6, b"theirs")
    tree = repo.apply(TreeId(head.commit.root.content), delta)
    repo.commit("main", head, repo.directory(head.commit.root, tree), "")
    mnt = machine.mount(store)
    assert os.listdir(mnt) == []
    assert json.loads((mnt / ".modelfs" / "status.json").read_text())["commit"] == 2
    (mnt / "f").write_text("x")
    machine.umount(mnt)
    root = repo.resolve(None).commit.root
    assert repo.find(root, b".modelfs").content == b"theirs"  # type: ignore[union-attr]
    opened.close()


def test_attributes_that_a_mount_tells(machine: Machine, store: str, tmp_path: Path) -> None:
    first = machine.mount(store, "first", "cache1")
    (first / "f").write_bytes(os.urandom(9 * MIB))
    (first / "same").write_bytes((first / "f").read_bytes())
    (first / "small").write_text("x")
    second = machine.mount(store, "second", "cache2", read_only=True)
    ask = lambda path, what: os.getxattr(path, f"user.modelfs.{what}").decode()  # noqa: E731
    assert ask(second / "f", "resident") == "0.0000"
    (second / "f").read_bytes()
    assert ask(second / "f", "resident") == "1"
    assert ask(second / "f", "manifest") == ask(first / "same", "manifest") != ""
    assert int(ask(second / "f", "chunks")) >= 2
    assert ask(second / "f", "commit") == f"main@{machine.status(second)['commit']}"
    assert (ask(second / "small", "chunks"), ask(second / "small", "resident")) == ("0", "1")
    assert error_of(lambda: os.getxattr(second / "small", "user.modelfs.manifest")) == errno.ENODATA
    assert error_of(lambda: os.getxattr(second / "f", "user.modelfs.none")) == errno.ENODATA
    assert error_of(lambda: os.getxattr(second, "user.modelfs.commit")) == errno.ENODATA


def test_attributes_are_not_copied_and_not_set(mnt: Path) -> None:
    (mnt / "f").write_bytes(os.urandom(9 * MIB))
    os.setxattr(mnt / "f", "user.mine", b"1")
    os.setxattr(mnt / "f", "user.modelfs.base", b"/f")
    subprocess.run(["cp", "-a", mnt / "f", mnt / "copy"], check=True)
    assert sorted(os.listxattr(mnt / "copy")) == ["user.mine", "user.modelfs.base"]
    for name in ("manifest", "chunks", "resident", "commit", "anything"):
        assert error_of(lambda name=name: os.setxattr(mnt / "f", f"user.modelfs.{name}", b"x")) == errno.EPERM
    assert error_of(lambda: os.removexattr(mnt / "f", "user.modelfs.chunks")) == errno.ENODATA
    os.removexattr(mnt / "f", "user.modelfs.base")
    assert os.listxattr(mnt / "f") == ["user.mine"]


def test_the_root_directory_is_there_before_anybody_looks(machine: Machine, store: str) -> None:
    first = machine.mount(store, "first", "cache1")
    (first / "f").write_bytes(b"x" * 10)
    machine.umount(first)
    second = machine.mount(store, "second", "cache2", at="main@2")

    def objects_read() -> int:
        return int(machine.status(second)["store_requests"]["get"]["results"]["ok"])

    eventually(lambda: objects_read() == 3, "the format, the commit and the root directory being read")
    assert (second / "f").stat().st_size == 10
    assert objects_read() == 3
