"""Another mount's file that appears between the kernel's look at a name and its request to create it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from repository_store import DictStore

from modelfs.cache.cache import Cache
from modelfs.reader.source import ChunkSource
from modelfs.repository.objects import Kind
from modelfs.repository.repository import Repository
from modelfs.vfs.nodes import FileNode
from modelfs.vfs.vfs import Caller, Vfs, VfsOptions
from modelfs.writer.uploader import Uploader

OWNER, OTHER = 1000, 1001


def created(tmp_path: Path, flags: int, uid: int, mode: int, appears: int) -> bytes | int | None:
    """What a file then holds whose name was free until the file system had looked ``appears`` times, or the errno."""

    async def run() -> bytes | int | None:
        store = DictStore()
        Repository.create(store)
        repo = Repository.open(store)
        head = repo.head("main")
        assert head is not None
        cache = Cache(tmp_path / "cache", "0123456789abcdef")
        options = VfsOptions("main", read_only=False, refresh=1.0, write_back=False, history=False)
        async with trio.open_nursery() as nursery:
            source, uploader = ChunkSource(repo, cache), Uploader(repo, repo.format.chunking)
            vfs = Vfs(source, uploader, head, options, tmp_path, None, nursery)
            names: Any = vfs.names
            names.child = late(names.child, names, mode, appears)
            try:
                node, fh = await vfs.create(1, b"f", 0o644, flags | os.O_CREAT, Caller(uid, uid, 0o022))
                found = bytes(await vfs.read(fh, 0, 100))
                assert node is names.nodes[node.ino]
                await vfs.release(fh)
            except OSError as error:
                return error.errno
            else:
                return found
            finally:
                nursery.cancel_scope.cancel()
                cache.close()
        return None

    return trio.run(run)


def late(child: Callable[..., Any], names: Any, mode: int, appears: int) -> Callable[..., Any]:
    looks = 0

    async def look(parent: Any, name: bytes) -> Any:
        nonlocal looks
        looks += 1
        if looks == appears:
            node = names.create(parent, name, Kind.INLINE, mode, OWNER, OWNER, b"theirs")
            assert isinstance(node, FileNode)
        return await child(parent, name)

    return look


@pytest.mark.parametrize("appears", [1, 2])
def test_it_is_opened(tmp_path: Path, appears: int) -> None:
    expected = {1: b"theirs", 2: b""}[appears]  # nobody looks a second time at a name that was free
    assert created(tmp_path / "root", os.O_RDWR, 0, 0o600, appears) == expected
    assert created(tmp_path / "owner", os.O_RDWR, OWNER, 0o600, appears) == expected


def test_exclusive_creation_fails(tmp_path: Path) -> None:
    assert created(tmp_path, os.O_RDWR | os.O_EXCL, OWNER, 0o600, 1) == errno.EEXIST


@pytest.mark.parametrize(
    ("uid", "mode", "flags"),
    [(OTHER, 0o600, os.O_RDONLY), (OWNER, 0o400, os.O_RDWR), (OWNER, 0o200, os.O_RDONLY), (OWNER, 0o400, os.O_TRUNC)],
)
def test_the_kernel_has_to_check_what_it_did_not_see(tmp_path: Path, uid: int, mode: int, flags: int) -> None:
    assert created(tmp_path, flags, uid, mode, 1) == errno.ESTALE
