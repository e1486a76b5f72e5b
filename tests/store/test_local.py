"""The local store: durable, shared as its directory is, clean."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from modelfs import limits
from modelfs.errors import PermanentError
from modelfs.store import local as local_module
from modelfs.store.local import LocalStore


def test_everything_takes_its_permissions_from_the_root(tmp_path: Path) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    root.chmod(0o2770)
    old = os.umask(0o077)
    try:
        store = LocalStore(root)
        store.put("a/b", b"x")
        store.put_if_absent("a/c", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o2770
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o660
    assert stat.S_IMODE((root / "a/c").stat().st_mode) == 0o660


def test_nothing_temporary_is_left_or_listed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"x")
    with pytest.raises(Exception, match="exists"):
        store.put_if_absent("a", b"y")
    assert list((tmp_path / ".tmp").iterdir()) == []
    (tmp_path / ".tmp" / "unfinished").touch()
    assert [found.key for found in store.list("")] == ["a"]


def test_what_a_dead_writer_left_goes_after_a_day(tmp_path: Path) -> None:
    LocalStore(tmp_path).put("a", b"x")
    old, new = tmp_path / ".tmp" / "old", tmp_path / ".tmp" / "new"
    old.touch()
    new.touch()
    long_ago = time.time() - limits.LOCAL_TEMPORARY_AGE - 60
    os.utime(old, (long_ago, long_ago))
    LocalStore(tmp_path)
    assert not old.exists()
    assert new.exists()


def test_bytes_and_name_are_synced_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order: the file, then (after it got its name) the directory that holds the name."""
    synced: list[str] = []
    real = os.fsync

    def note(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(local_module.os, "fsync", note)
    store = LocalStore(tmp_path)
    for write in (store.put, store.put_if_absent):
        store.put("d/first", b"x")
        synced.clear()
        write(f"d/{write.__name__}", b"x")
        assert [Path(path).parent.name if "/.tmp/" in path else Path(path).name for path in synced] == [".tmp", "d"]


def test_a_full_or_broken_disk_is_said_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / ".tmp").write_text("in the way")
    with pytest.raises(PermanentError):
        store.put("a", b"x")
    with pytest.raises(PermanentError):
        store.put_if_absent("a", b"x")
