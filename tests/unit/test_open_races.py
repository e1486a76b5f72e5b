"""What another mount does to a name between the kernel's look at it and its request to create or open it."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
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


Asked = Callable[[Vfs], Awaitable[bytes | int | None]]


def asked(tmp_path: Path, ask: Asked) -> bytes | int | None:
    """What a file system of an empty store answers; the errno of an OSError."""

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
            try:
                return await ask(vfs)
            except OSError as error:
                return error.errno
            finally:
                nursery.cancel_scope.cancel()
                cache.close()
        return None

    return trio.run(run)


def created(tmp_path: Path, flags: int, uid: int, mode: int, appears: int) -> bytes | int | None:
    """What a file then holds whose name was free until the file system had looked ``appears`` times, or the errno."""

    async def ask(vfs: Vfs) -> bytes:
        names: Any = vfs.names
        names.child = late(names.child, names, mode, appears)
        node, fh = await vfs.create(1, b"f", 0o644, flags | os.O_CREAT, Caller(uid, uid, 0o022))
        found = bytes(await vfs.read(fh, 0, 100))
        assert node is names.nodes[node.ino]
        await vfs.release(fh)
        return found

    return asked(tmp_path, ask)


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


@pytest.mark.parametrize(
    ("flags", "finished", "found"),
    [
        (os.O_RDONLY, True, b"theirs"),
        (os.O_RDONLY, False, errno.ESTALE),
        (os.O_RDWR, True, errno.ESTALE),
        (os.O_RDONLY | os.O_TRUNC, True, errno.ESTALE),
    ],
)
def test_what_was_replaced_is_opened_to_be_read_only(
    tmp_path: Path, flags: int, finished: bool, found: bytes | int
) -> None:
    async def ask(vfs: Vfs) -> bytes:
        node = vfs.names.create(vfs.names.root, b"f", Kind.INLINE, 0o644, OWNER, OWNER, b"theirs")
        assert isinstance(node, FileNode)
        node.lookups, node.exists_finished, node.replaced = 1, finished, True
        fh = await vfs.open(node.ino, flags)
        data = bytes(await vfs.read(fh, 0, 100))
        await vfs.release(fh)
        return data

    assert asked(tmp_path, ask) == found
