"""Paths on the vfs: what a kernel does for a mount, done for programs.

Runs on the engine's loop. Paths are bytes relative to the root. Symbolic links are followed as Linux follows them, but
never out of the store. Every change is durable when the call that made it returns: in the store, or with ``write_back``
in this machine's journal. Errors are OSError with an errno, or `ModelfsError`.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import posixpath
import stat as stat_module
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import trio

from modelfs import limits
from modelfs.errors import ModelfsError
from modelfs.filesystem.writing import Hand, Writing
from modelfs.repository.objects import Kind
from modelfs.store.base import Buffer
from modelfs.vfs.inodes import fail
from modelfs.vfs.nodes import DirNode, FileNode, Node
from modelfs.vfs.vfs import Vfs

P = ParamSpec("P")
R = TypeVar("R")
Info = dict[str, Any]


def _again(
    method: Callable[Concatenate[Tree, P], Awaitable[R]],
) -> Callable[Concatenate[Tree, P], Awaitable[R]]:
    """Look the path up again when another mount has replaced what was found, as the kernel does on ESTALE."""

    @functools.wraps(method)
    async def wrapped(self: Tree, /, *args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(limits.STALE_RETRIES):
            try:
                return await method(self, *args, **kwargs)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
        return await method(self, *args, **kwargs)

    return wrapped


class Spot:
    """Where a path leads: a directory and a name in it, and what stands there. The root has the name b""."""

    def __init__(self, parent: DirNode, name: bytes, node: Node | None) -> None:
        self.parent = parent
        self.name = name
        self.node = node

    def existing(self) -> Node:
        """What stands there; ENOENT."""
        if self.node is None:
            fail(errno.ENOENT)
        return self.node


class Tree:
    """The operations of one engine."""

    def __init__(self, vfs: Vfs) -> None:
        self._vfs = vfs
        self._hand = Hand(vfs)

    # -- finding ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _at(
        self, path: bytes, *, follow: bool = True, make: bool = False, fresh: bool = True
    ) -> AsyncIterator[Spot]:
        """Walk to ``path``. The nodes on the way are held like the kernel holds them. ``make``: directories above the
        last name are made; ``fresh``: with ``refresh`` 0 the store is asked first."""
        vfs = self._vfs
        if fresh and vfs.options.refresh == 0 and not vfs.options.history:
            await vfs.committer.refresh()
        held: list[Node] = []
        try:
            yield await self._walk(path, held, follow=follow, make=make)
        finally:
            for node in reversed(held):
                vfs.forget(node.ino, 1)

    async def _walk(self, path: bytes, held: list[Node], *, follow: bool, make: bool) -> Spot:
        names = self._vfs.names
        at, spot, links = names.root, Spot(names.root, b"", names.root), 0
        parts = deque(path.split(b"/"))
        while parts:
            name = parts.popleft()
            if name in (b"", b"."):
                continue
            if not isinstance(spot.node, DirNode):
                fail(errno.ENOTDIR if spot.node is not None else errno.ENOENT)
            at = spot.node
            if name == b"..":
                above = at.parent or names.root
                spot = Spot(above.parent or names.root, above.name, above)
                continue
            child = await self._child(at, name, make=make and any(parts))
            if child is not None:
                child.lookups += 1
                held.append(child)
                if child.kind is Kind.SYMLINK and (follow or any(parts)):
                    links += 1
                    if links > limits.SYMLINKS_MAX:
                        fail(errno.ELOOP)
                    if child.content.startswith(b"/"):
                        fail(errno.ENOENT)  # a path of some machine, not of the store
                    parts.extendleft(reversed(child.content.split(b"/")))
                    spot = Spot(at.parent or names.root, at.name, at)
                    continue
            spot = Spot(at, name, child)
        return spot

    async def _child(self, parent: DirNode, name: bytes, *, make: bool) -> Node | None:
        child = await self._vfs.names.child(parent, name)
        while child is None and make:
            try:
                child = await self._vfs.mkdir(parent.ino, name, 0o777, self._hand.caller)
            except FileExistsError:
                child = await self._vfs.names.child(parent, name)
        return child

    def _info(self, path: bytes, node: Node) -> Info:
        kinds = {stat_module.S_IFDIR: "directory", stat_module.S_IFREG: "file", stat_module.S_IFLNK: "link"}
        info: Info = {
            "name": os.fsdecode(path),
            "size": node.size,
            "type": kinds.get(node.type_bits, "other"),
            "mtime": node.mtime_ns / 1e9,
            "mode": node.type_bits | node.mode,
            "uid": node.uid,
            "gid": node.gid,
            "islink": False,
        }
        if isinstance(node, FileNode):
            info["ETag"] = _content_id(node)
        return info

    async def _described(self, path: bytes, spot: Spot) -> Info:
        """Of the file that a link leads to, or of the link if it leads nowhere, as `LocalFileSystem` has it."""
        node = spot.existing()
        if node.kind is not Kind.SYMLINK:
            return self._info(path, node)
        target = posixpath.join(posixpath.dirname(path), node.content)
        try:
            async with self._at(path, fresh=False) as found:
                info = self._info(path, found.existing())
        except OSError:
            info = self._info(path, node)
        return {**info, "islink": True, "destination": os.fsdecode(target)}

    @_again
    async def info(self, path: bytes) -> Info:
        """What is known of a path; a link is followed, and said to be one."""
        async with self._at(path, follow=False) as spot:
            if isinstance(spot.node, FileNode) and spot.node in self._hand.hidden:
                fail(errno.ENOENT)
            return await self._described(path, spot)

    @_again
    async def ls(self, path: bytes) -> list[Info]:
        """What is in a directory, by name; of a file only itself."""
        async with self._at(path) as spot:
            node = spot.existing()
            if not isinstance(node, DirNode):
                return [await self._described(path, spot)]
            found = []
            async for name, child in self._children(node):
                if isinstance(child, FileNode) and child in self._hand.hidden:
                    continue
                below = path + b"/" + name if path else name
                found.append(await self._described(below, Spot(node, name, child)))
            return found

    async def _children(self, node: DirNode) -> AsyncIterator[tuple[bytes, Node]]:
        fh = await self._vfs.opendir(node.ino)
        try:
            for name in await self._vfs.list_names(fh, 0):
                child = await self._vfs.list_child(fh, name)
                if child is not None:
                    yield name, child
        finally:
            self._vfs.releasedir(fh)

    @_again
    async def content(self, path: bytes) -> str:
        """Hex that is the same for the same content: the id of the manifest, or a hash of what is stored inline."""
        async with self._at(path) as spot:
            node = spot.existing()
            if not isinstance(node, FileNode):
                fail(errno.EISDIR if isinstance(node, DirNode) else errno.EINVAL)
            return _content_id(node)

    # -- reading ------------------------------------------------------------------------------------------------

    @_again
    async def open(self, path: bytes, flags: int) -> tuple[int, FileNode]:
        """Open a file that exists; its handle and its node."""
        async with self._at(path, make=False) as spot:
            node = spot.existing()
            fh = await self._vfs.open(node.ino, flags)
            return fh, self._vfs.open_files[fh].node

    async def read(self, fh: int, offset: int, length: int) -> Buffer:
        """Bytes of an open file, fewer at its end. They stay as they are."""
        now = self._vfs.read_now(fh, offset, length)
        return bytes(now) if now is not None else await self._vfs.read(fh, offset, length)

    async def release(self, fh: int) -> None:
        """Close a handle that only reads."""
        await self._vfs.release(fh)

    async def ranges(self, wanted: list[tuple[bytes, int | None, int | None]]) -> list[bytes | Exception]:
        """Ranges of files, several at once, as Python slices have them; an error in the place of what is not there."""
        found: list[bytes | Exception] = [b""] * len(wanted)
        by_path: dict[bytes, list[int]] = {}
        for i, (path, _, _) in enumerate(wanted):
            by_path.setdefault(path, []).append(i)
        several = trio.CapacityLimiter(limits.FILESYSTEM_RANGES)

        async def one(fh: int, size: int, i: int) -> None:
            start, end, _ = slice(*wanted[i][1:]).indices(size)
            async with several:
                try:
                    found[i] = await self._whole(fh, start, end)
                except (ModelfsError, OSError) as error:
                    found[i] = error

        async def of_file(path: bytes) -> None:
            try:
                fh, node = await self.open(path, os.O_RDONLY)
            except (ModelfsError, OSError) as error:
                for i in by_path[path]:
                    found[i] = error
                return
            try:
                async with trio.open_nursery() as nursery:
                    for i in by_path[path]:
                        nursery.start_soon(one, fh, node.size, i)
            finally:
                with trio.CancelScope(shield=True):
                    await self._vfs.release(fh)

        async with trio.open_nursery() as nursery:
            for path in by_path:
                nursery.start_soon(of_file, path)
        return found

    async def _whole(self, fh: int, start: int, end: int) -> bytes:
        if end - start <= limits.FILESYSTEM_PIECE:
            return bytes(await self.read(fh, start, max(0, end - start)))
        out = bytearray()
        while start + len(out) < end:
            piece = await self.read(fh, start + len(out), min(limits.FILESYSTEM_PIECE, end - start - len(out)))
            if not len(piece):
                break
            out += piece
        return bytes(out)

    # -- writing ------------------------------------------------------------------------------------------------

    @_again
    async def replace(self, path: bytes, *, make: bool, exclusive: bool) -> Writing:
        """Begin a new content of a path, which nobody sees until it is published. ``make``: missing directories above
        are made; ``exclusive``: there must be nothing."""
        async with self._at(path, make=make) as spot:
            if spot.node is not None and exclusive:
                fail(errno.EEXIST)
            if isinstance(spot.node, DirNode):
                fail(errno.EISDIR)
            if spot.node is not None and not isinstance(spot.node, FileNode):
                fail(errno.ENXIO)
            return await self._hand.begin(spot.parent, spot.name, spot.node, exclusive=exclusive)

    @_again
    async def edit(self, path: bytes, *, make: bool, create: bool) -> Writing:
        """Open a file to change it in place; ``create``: an empty one is made if there is none."""
        async with self._at(path, make=make) as spot:
            if spot.node is None:
                if not create:
                    fail(errno.ENOENT)
                return await self._hand.begin(spot.parent, spot.name, None, exclusive=False)
            fh = await self._vfs.open(spot.node.ino, os.O_RDWR)
            return Writing(fh, self._vfs.open_files[fh].node)

    async def write(self, writing: Writing, offset: int, data: bytes) -> None:
        """Write all of ``data``."""
        await self._vfs.write(writing.fh, offset, data)

    async def truncate(self, writing: Writing, size: int) -> None:
        """Set the size of a file that is being written."""
        await self._hand.truncate(writing, size)

    async def publish(self, writings: list[Writing]) -> None:
        """Close what was written, each to its name; several of them in one commit."""
        if len(writings) == 1:
            await self._hand.publish(writings[0])
        elif writings:
            await self._hand.publish_together(writings)

    async def discard(self, writing: Writing) -> None:
        """Close it without a trace: there is what was before."""
        await self._hand.discard(writing)

    async def store(self, path: bytes, data: bytes, *, make: bool, exclusive: bool) -> None:
        """A whole file at once."""
        writing = await self.replace(path, make=make, exclusive=exclusive)
        try:
            for offset in range(0, len(data), limits.FILESYSTEM_PIECE):
                await self.write(writing, offset, data[offset : offset + limits.FILESYSTEM_PIECE])
        except BaseException:
            await self._hand.discard(writing)
            raise
        await self._hand.publish(writing)

    # -- names --------------------------------------------------------------------------------------------------

    async def durable(self) -> None:
        """All changes made so far are durable when this returns."""
        await self._vfs.durability.everything()

    @_again
    async def mkdir(self, path: bytes, *, parents: bool, exist_ok: bool) -> None:
        """Make a directory. EEXIST, ENOENT as mkdir(2)."""
        await self._mkdir(path, parents=parents, exist_ok=exist_ok)
        await self.durable()

    async def _mkdir(self, path: bytes, *, parents: bool, exist_ok: bool) -> None:
        async with self._at(path, make=parents) as spot:
            if isinstance(spot.node, DirNode) and exist_ok:
                return
            if spot.node is not None:
                fail(errno.EEXIST)
            await self._vfs.mkdir(spot.parent.ino, spot.name, 0o777, self._hand.caller)

    @_again
    async def rmdir(self, path: bytes) -> None:
        """Remove an empty directory."""
        async with self._at(path, follow=False) as spot:
            spot.existing()
            if not spot.name:
                fail(errno.EBUSY)
            await self._vfs.rmdir(spot.parent.ino, spot.name)
        await self.durable()

    @_again
    async def remove(self, path: bytes, *, recursive: bool) -> None:
        """Remove a file or link, or with ``recursive`` a directory with all in it; `durable` must follow. The root
        stays."""
        async with self._at(path, follow=False) as spot:
            node = spot.existing()
            if isinstance(node, DirNode):
                if not recursive:
                    fail(errno.EISDIR)
                await self._empty(node)
                if spot.name:
                    await self._vfs.rmdir(spot.parent.ino, spot.name)
            else:
                await self._vfs.unlink(spot.parent.ino, spot.name)

    async def _empty(self, directory: DirNode) -> None:
        async for name, child in self._children(directory):
            if not isinstance(child, DirNode):
                await self._vfs.unlink(directory.ino, name)
                continue
            child.lookups += 1
            try:
                await self._empty(child)
                await self._vfs.rmdir(directory.ino, name)
            finally:
                self._vfs.forget(child.ino, 1)

    @_again
    async def move(self, old: bytes, new: bytes, *, into: bool, make: bool) -> None:
        """Rename, over a file that is there. ``into``, or a directory at ``new``: it goes in there under its name."""
        async with self._at(old, follow=False) as source:
            source.existing()
            if not source.name:
                fail(errno.EBUSY)
            async with self._at(new, follow=False, make=make, fresh=False) as target:
                parent, name, there = target.parent, target.name, target.node
                if into and there is None and make:
                    there = await self._vfs.mkdir(parent.ino, name, 0o777, self._hand.caller)
                if isinstance(there, DirNode):
                    parent, name = there, source.name
                elif into:
                    fail(errno.ENOENT if there is None else errno.ENOTDIR)
                await self._vfs.rename(source.parent.ino, source.name, parent.ino, name, 0)
        await self.durable()

    @_again
    async def copy(self, old: bytes, new: bytes, *, make: bool) -> None:
        """A copy of a file, which shares its chunks; of a directory only the directory. `durable` must follow."""
        async with self._at(old) as source:
            node = source.existing()
            if isinstance(node, DirNode):
                await self._mkdir(new, parents=make, exist_ok=True)
                return
            if not isinstance(node, FileNode):
                fail(errno.EINVAL)
            node.opens += 1
            try:
                await self._copy(node, new, make=make)
            finally:
                node.opens -= 1
                await self._vfs.files.release(node)

    async def _copy(self, node: FileNode, new: bytes, *, make: bool) -> None:
        writing = await self.replace(new, make=make, exclusive=False)
        if node.modified:  # what is on its way has no chunks yet
            fh = await self._vfs.open(node.ino, os.O_RDONLY)
            try:
                size, offset = node.size, 0
                while offset < size and len(piece := await self.read(fh, offset, limits.FILESYSTEM_PIECE)):
                    await self.write(writing, offset, bytes(piece))
                    offset += len(piece)
            except BaseException:
                await self._hand.discard(writing)
                raise
            finally:
                await self._vfs.release(fh)
            await self._hand.publish(writing)
        else:
            await self._hand.take_over(writing, node)

    @_again
    async def touch(self, path: bytes) -> None:
        """The file's time is now."""
        async with self._at(path) as spot:
            await self._hand.set_time(spot.existing(), time.time_ns())
        await self.durable()

    async def refresh(self) -> None:
        """See at once what others have committed."""
        if not self._vfs.options.history:
            await self._vfs.committer.refresh()


def _content_id(node: FileNode) -> str:
    if node.modified:  # what this process is writing in place
        return hashlib.sha256(b"%d %d %s" % (node.ino, node.ctime_ns, node.content)).hexdigest()
    return node.content.hex() if node.kind is Kind.FILE else hashlib.sha256(node.content).hexdigest()
