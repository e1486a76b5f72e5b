"""Chunks that are brought to a second place of the cache: shared where the disk can, and who has a file open."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest
from smalldisks import small_disk

from modelfs.cache import sparse

MIB = 1 << 20


@pytest.mark.parametrize(("at", "to", "shared"), [(0, 8 * MIB, True), (4097, 8 * MIB + 1, True), (5, 8 * MIB, False)])
@pytest.mark.parametrize("kind", ["xfs", "ext4"])
def test_copies_are_right_and_shared_where_the_disk_can(
    tmp_path: Path, kind: str, at: int, to: int, shared: bool
) -> None:
    with small_disk(tmp_path / "disk", 320, kind) as disk:
        data = os.urandom(3 * MIB + 123)
        (disk / "source").write_bytes(bytes(at) + data + b"behind")
        (disk / "target").write_bytes(b"\1" * 9 * MIB)
        source, target = os.open(disk / "source", os.O_RDWR), os.open(disk / "target", os.O_RDWR)
        try:
            assert sparse.copy(source, at, target, to, len(data)) == (shared and kind == "xfs")
            os.fsync(target)
        finally:
            os.close(source)
            os.close(target)
        now = (disk / "target").read_bytes()
        assert now[to : to + len(data)] == data
        assert set(now[:to]) == {1}


def test_who_has_a_file_open_or_mapped_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "ab" / ("ab" * 32)
    path.parent.mkdir()
    path.write_bytes(b"x" * 4096)
    fd = sparse.open_exclusive(path)
    assert fd is not None
    try:
        assert sparse.unused(fd)
        with path.open("rb") as reader:
            assert not sparse.unused(fd)
            mapping = mmap.mmap(reader.fileno(), 0, prot=mmap.PROT_READ)
        assert not sparse.unused(fd)
        mapping.close()
        assert sparse.unused(fd)
    finally:
        os.close(fd)
