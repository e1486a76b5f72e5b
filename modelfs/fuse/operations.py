"""pyfuse3 requests <-> vfs calls, and nothing else.

Each handler decodes, calls one method of `modelfs.vfs.vfs.Vfs` and encodes the answer. This is the one place where
errors become an errno: OSError keeps its own, failures of the store and of integrity are EIO with the cause in the
log, and anything unexpected is EIO with a traceback in the log (an exception that reached pyfuse3 would end the
daemon and leave every user of the mount with ENOTCONN).
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import stat as stat_module
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
    XAttrNameT,
)

from modelfs import limits
from modelfs.assembly.errnos import errno_of
from modelfs.errors import ModelfsError, ReadOnlyError
from modelfs.repository.objects import Kind
from modelfs.store.base import Buffer
from modelfs.vfs.nodes import Node
from modelfs.vfs.vfs import Caller, Vfs
from modelfs.vfs.virtual import is_virtual

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Presentation:
    """What the mount shows instead of the stored owner and mode, and for how long the kernel may keep it.

    The kernel is never told to forget a name. That takes the lock of the directory, which whoever waits there for our
    answer holds: a daemon that is killed at that moment can neither answer nor die, and hangs everybody for good.
    """

    uid: int | None
    gid: int | None
    umask: int | None
    timeout: float  # seconds for names and attributes


def _handler(
    method: Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]]:
    """Turn every exception of a handler into FUSEError."""

    @functools.wraps(method)
    async def wrapped(self: Operations, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(self, *args, **kwargs)
        except FUSEError:
            raise
        except ReadOnlyError as error:
            log.error("%s: %s", method.__name__, error)
            raise FUSEError(errno.EROFS) from error
        except ModelfsError as error:
            self.errors += 1
            log.error("%s: %s", method.__name__, error)
            raise FUSEError(errno_of(error)) from error
        except OSError as error:
            if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT, None):
                self.errors += 1
                log.error("%s: %s", method.__name__, error)
            raise FUSEError(error.errno or errno.EIO) from error
        except Exception as error:
            self.errors += 1
            log.exception("%s: unexpected error", method.__name__)
            raise FUSEError(errno.EIO) from error

    return wrapped


def _caller(ctx: RequestContext) -> Caller:
    return Caller(ctx.uid, ctx.gid, ctx.umask)


class Operations(pyfuse3.Operations):
    """The request handlers of one mount."""

    supports_dot_lookup = True
    enable_writeback_cache = True
    enable_acl = False

    def __init__(self, vfs: Vfs, show: Presentation, disk: Callable[[], os.statvfs_result]) -> None:
        super().__init__()
        self.errors = self.reads = self.read_bytes = self.writes = self.written_bytes = 0
        self._vfs = vfs
        self._show = show
        self._disk = disk

    def _attributes(self, node: Node) -> EntryAttributes:
        show = self._show
        attr = EntryAttributes()
        attr.st_ino = InodeT(node.ino)
        attr.generation = 0
        attr.entry_timeout = attr.attr_timeout = 0 if is_virtual(node.ino) else show.timeout
        mode = node.mode if show.umask is None or node.kind is Kind.SYMLINK else node.mode & ~show.umask
        attr.st_mode = ModeT(node.type_bits | mode)
        linked = node.parent is not None or node.ino == pyfuse3.ROOT_INODE
        attr.st_nlink = node.links if linked else 0
        attr.st_uid = node.uid if show.uid is None else show.uid
        attr.st_gid = node.gid if show.gid is None else show.gid
        attr.st_rdev = int.from_bytes(node.content, "big") if node.kind in (Kind.CHAR, Kind.BLOCK) else 0
        size = node.size
        attr.st_size = size
        attr.st_blksize = limits.STAT_BLOCK
        attr.st_blocks = (size + 511) // 512
        attr.st_mtime_ns = node.mtime_ns
        attr.st_atime_ns = node.mtime_ns if node.atime_ns is None else node.atime_ns
        attr.st_ctime_ns = node.ctime_ns
        return attr

    def _reply(self, node: Node) -> EntryAttributes:
        node.lookups += 1
        return self._attributes(node)

    # -- names --------------------------------------------------------------------------------------------------

    @_handler
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        node = await self._vfs.lookup(parent_inode, name)
        if node is not None:
            return self._reply(node)
        if self._show.timeout == 0:
            raise FUSEError(errno.ENOENT)
        missing = EntryAttributes()  # inode 0: the kernel may remember that there is nothing
        missing.st_ino = InodeT(0)
        missing.entry_timeout = self._show.timeout
        return missing

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        for ino, count in inode_list:
            self._vfs.forget(ino, count)

    @_handler
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return self._attributes(await self._vfs.attributes.get(inode))

    @_handler
    async def setattr(
        self, inode: InodeT, attr: EntryAttributes, fields: SetattrFields, fh: FileHandleT | None, ctx: RequestContext
    ) -> EntryAttributes:
        node = await self._vfs.attributes.setattr(
            inode,
            mode=stat_module.S_IMODE(attr.st_mode) if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return self._attributes(node)

    @_handler
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        return FileNameT(self._vfs.readlink(inode))

    @_handler
    async def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        return self._reply(await self._vfs.mknod(parent_inode, name, mode, rdev, _caller(ctx)))

    @_handler
    async def mkdir(self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext) -> EntryAttributes:
        return self._reply(await self._vfs.mkdir(parent_inode, name, mode, _caller(ctx)))

    @_handler
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        await self._vfs.unlink(parent_inode, name)

    @_handler
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        await self._vfs.rmdir(parent_inode, name)

    @_handler
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        return self._reply(await self._vfs.symlink(parent_inode, name, target, _caller(ctx)))

    @_handler
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        await self._vfs.rename(parent_inode_old, name_old, parent_inode_new, name_new, flags)

    @_handler
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        return self._reply(await self._vfs.link(inode, new_parent_inode, new_name))

    # -- files --------------------------------------------------------------------------------------------------

    @_handler
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        fh = FileHandleT(await self._vfs.open(inode, flags))
        # The size of what is made for this open is known to nobody before: pages and sizes are not kept.
        return FileInfo(fh=fh, direct_io=True) if is_virtual(inode) else FileInfo(fh=fh, keep_cache=True)

    @_handler
    async def create(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        node, fh = await self._vfs.create(parent_inode, name, mode, flags, _caller(ctx))
        return FileInfo(fh=FileHandleT(fh), keep_cache=True), self._reply(node)

    @_handler
    async def read(self, fh: FileHandleT, off: int, size: int) -> Buffer:  # type: ignore[override]
        self.reads += 1
        now = self._vfs.read_now(fh, off, size)
        if now is not None:
            self.read_bytes += len(now)
            return now  # pyfuse3 takes any buffer, and copies this one before the loop goes on
        data = await self._vfs.read(fh, off, size)
        self.read_bytes += len(data)
        return data

    @_handler
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        self.writes += 1
        self.written_bytes += len(buf)
        return await self._vfs.write(fh, off, buf)

    @_handler
    async def flush(self, fh: FileHandleT) -> None:
        await self._vfs.flush(fh)

    @_handler
    async def release(self, fh: FileHandleT) -> None:
        await self._vfs.release(fh)

    @_handler
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self._vfs.fsync(fh)

    # -- directories --------------------------------------------------------------------------------------------

    @_handler
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        return FileHandleT(await self._vfs.opendir(inode))

    @_handler
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        for position, name in enumerate(await self._vfs.list_names(fh, start_id), start_id + 1):
            node = await self._vfs.list_child(fh, name)
            if node is None:
                continue
            if not pyfuse3.readdir_reply(token, FileNameT(name), self._attributes(node), position):
                return
            node.lookups += 1

    @_handler
    async def releasedir(self, fh: FileHandleT) -> None:
        self._vfs.releasedir(fh)

    @_handler
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self._vfs.fsyncdir(fh)

    # -- the rest -----------------------------------------------------------------------------------------------

    @_handler
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        disk = self._disk()
        data = StatvfsData()
        data.f_bsize = disk.f_bsize
        data.f_frsize = disk.f_frsize
        data.f_blocks = disk.f_blocks
        data.f_bfree = disk.f_bfree
        data.f_bavail = disk.f_bavail
        data.f_files = disk.f_files
        data.f_ffree = disk.f_ffree
        data.f_favail = disk.f_favail
        data.f_namemax = limits.NAME_MAX
        return data

    @_handler
    async def setxattr(self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext) -> None:
        self._vfs.attributes.setxattr(inode, name, value)

    @_handler
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        return await self._vfs.attributes.getxattr(inode, name)

    @_handler
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        return [XAttrNameT(name) for name in self._vfs.attributes.listxattr(inode)]

    @_handler
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        self._vfs.attributes.removexattr(inode, name)
