"""Requests of the kernel, whichever session brings them: one vfs call each, and one place for errors.

A session (`operations` over pyfuse3, `native` by itself) takes a request apart, calls one method here and lays out what
it returns. This is the one place where errors become an errno: OSError keeps its own, failures of the store and of
integrity are EIO with the cause in the log, and anything unexpected is EIO with a traceback in the log. A session
sees nothing but `RefusedError`.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Concatenate, ParamSpec, TypeVar

from modelfs.assembly.errnos import errno_of
from modelfs.errors import ModelfsError, ReadOnlyError
from modelfs.fuse.presentation import Presentation, Shown
from modelfs.store.base import Buffer
from modelfs.vfs.nodes import Node
from modelfs.vfs.vfs import Caller, Vfs

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class RefusedError(Exception):
    """The answer to a request is an errno."""

    def __init__(self, errno: int) -> None:
        super().__init__(os.strerror(errno))
        self.errno = errno


def _handler(
    method: Callable[Concatenate[Requests, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Requests, P], Coroutine[Any, Any, R]]:
    """Turn every exception of a handler into RefusedError."""

    @functools.wraps(method)
    async def wrapped(self: Requests, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(self, *args, **kwargs)
        except RefusedError:
            raise
        except ReadOnlyError as error:
            log.error("%s: %s", method.__name__, error)
            raise RefusedError(errno.EROFS) from error
        except ModelfsError as error:
            self.errors += 1
            log.error("%s: %s", method.__name__, error)
            raise RefusedError(errno_of(error)) from error
        except OSError as error:
            if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT, None):
                self.errors += 1
                log.error("%s: %s", method.__name__, error)
            raise RefusedError(error.errno or errno.EIO) from error
        except Exception as error:
            self.errors += 1
            log.exception("%s: unexpected error", method.__name__)
            raise RefusedError(errno.EIO) from error

    return wrapped


class Requests:
    """The request handlers of one mount; each raises RefusedError. A `Shown` that answers a name counts as a reference
    of the kernel, which `forget` takes back. ``disk``: what statfs tells."""

    def __init__(self, vfs: Vfs, show: Presentation, disk: Callable[[], os.statvfs_result]) -> None:
        self.errors = self.reads = self.read_bytes = self.writes = self.written_bytes = 0
        self.vfs = vfs
        self.show = show
        self._disk = disk

    def _reply(self, node: Node) -> Shown:
        node.lookups += 1
        return self.show.show(node)

    # -- names --------------------------------------------------------------------------------------------------

    @_handler
    async def lookup(self, parent: int, name: bytes) -> Shown | None:
        """None: there is nothing, which the kernel may remember."""
        node = await self.vfs.lookup(parent, name)
        if node is not None:
            return self._reply(node)
        if self.show.timeout == 0:
            raise RefusedError(errno.ENOENT)
        return None

    def forget(self, forgotten: Iterable[tuple[int, int]]) -> None:
        """The kernel dropped references: pairs of an inode number and how many."""
        for ino, count in forgotten:
            self.vfs.forget(ino, count)

    @_handler
    async def getattr(self, ino: int) -> Shown:
        return self.show.show(await self.vfs.attributes.get(ino))

    @_handler
    async def setattr(
        self,
        ino: int,
        *,
        mode: int | None,
        uid: int | None,
        gid: int | None,
        size: int | None,
        atime_ns: int | None,
        mtime_ns: int | None,
    ) -> Shown:
        """``mode``: permission bits."""
        changed = await self.vfs.attributes.setattr(
            ino, mode=mode, uid=uid, gid=gid, size=size, atime_ns=atime_ns, mtime_ns=mtime_ns
        )
        return self.show.show(changed)

    @_handler
    async def readlink(self, ino: int) -> bytes:
        return self.vfs.readlink(ino)

    @_handler
    async def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Shown:
        return self._reply(await self.vfs.mknod(parent, name, mode, rdev, caller))

    @_handler
    async def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Shown:
        return self._reply(await self.vfs.mkdir(parent, name, mode, caller))

    @_handler
    async def unlink(self, parent: int, name: bytes) -> None:
        await self.vfs.unlink(parent, name)

    @_handler
    async def rmdir(self, parent: int, name: bytes) -> None:
        await self.vfs.rmdir(parent, name)

    @_handler
    async def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Shown:
        return self._reply(await self.vfs.symlink(parent, name, target, caller))

    @_handler
    async def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        await self.vfs.rename(parent, name, new_parent, new_name, flags)

    @_handler
    async def link(self, ino: int, parent: int, name: bytes) -> Shown:
        return self._reply(await self.vfs.link(ino, parent, name))

    # -- files --------------------------------------------------------------------------------------------------

    @_handler
    async def open(self, ino: int, flags: int) -> int:
        """A file handle."""
        return await self.vfs.open(ino, flags)

    @_handler
    async def create(self, parent: int, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[Shown, int]:
        node, fh = await self.vfs.create(parent, name, mode, flags, caller)
        return self._reply(node), fh

    def read_now(self, fh: int, offset: int, size: int) -> memoryview | None:
        """What can be read without waiting, valid until the next call; None: `read` has to be called."""
        try:
            now = self.vfs.read_now(fh, offset, size)
        except Exception:
            log.debug("a read that did not have to wait failed; it is done again", exc_info=True)
            return None
        if now is not None:
            self.reads += 1
            self.read_bytes += len(now)
        return now

    @_handler
    async def read(self, fh: int, offset: int, size: int) -> Buffer:
        self.reads += 1
        data = await self.vfs.read(fh, offset, size)
        self.read_bytes += len(data)
        return data

    def write_now(self, fh: int, offset: int, data: Buffer) -> bool:
        """Write without waiting; False: `write` has to be called."""
        try:
            done = self.vfs.write_now(fh, offset, data)
        except Exception:
            log.debug("a write that did not have to wait failed; it is done again", exc_info=True)
            return False
        if done:
            self.writes += 1
            self.written_bytes += len(data)
        return done

    @_handler
    async def write(self, fh: int, offset: int, data: Buffer) -> int:
        """``data`` is not needed any more when this returns."""
        self.writes += 1
        self.written_bytes += len(data)
        return await self.vfs.write(fh, offset, data)

    @_handler
    async def flush(self, fh: int) -> None:
        await self.vfs.flush(fh)

    @_handler
    async def release(self, fh: int) -> None:
        await self.vfs.release(fh)

    @_handler
    async def fsync(self, fh: int) -> None:
        await self.vfs.fsync(fh)

    # -- directories --------------------------------------------------------------------------------------------

    @_handler
    async def opendir(self, ino: int) -> int:
        """A handle of a directory."""
        return await self.vfs.opendir(ino)

    @_handler
    async def readdir(self, fh: int, start: int, take: Callable[[bytes, Shown, int], bool]) -> None:
        """Give name, attributes and the position behind it to ``take`` until that returns False, having no room for
        it. Each one taken counts as a reference of the kernel."""
        for position, name in enumerate(await self.vfs.list_names(fh, start), start + 1):
            node = await self.vfs.list_child(fh, name)
            if node is None:
                continue
            if not take(name, self.show.show(node), position):
                return
            node.lookups += 1

    @_handler
    async def releasedir(self, fh: int) -> None:
        self.vfs.releasedir(fh)

    @_handler
    async def fsyncdir(self, fh: int) -> None:
        await self.vfs.fsyncdir(fh)

    # -- the rest -----------------------------------------------------------------------------------------------

    @_handler
    async def statfs(self) -> os.statvfs_result:
        return self._disk()

    @_handler
    async def setxattr(self, ino: int, name: bytes, value: bytes) -> None:
        self.vfs.attributes.setxattr(ino, name, value)

    @_handler
    async def getxattr(self, ino: int, name: bytes) -> bytes:
        return await self.vfs.attributes.getxattr(ino, name)

    @_handler
    async def listxattr(self, ino: int) -> list[bytes]:
        return self.vfs.attributes.listxattr(ino)

    @_handler
    async def removexattr(self, ino: int, name: bytes) -> None:
        self.vfs.attributes.removexattr(ino, name)
