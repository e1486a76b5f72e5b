"""pyfuse3 <-> `requests`: the session of who may not mount by himself, through libfuse and fusermount3.

Each handler takes a request apart, calls `Requests` and makes pyfuse3's types of the answer. An exception that reached
pyfuse3 would end the daemon and leave every user of the mount with ENOTCONN, so all are FUSEError.
"""

from __future__ import annotations

import functools
import stat as stat_module
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
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
from modelfs.errors import UsageError
from modelfs.fuse.presentation import Shown
from modelfs.fuse.requests import RefusedError, Requests
from modelfs.store.base import Buffer
from modelfs.vfs.vfs import Caller
from modelfs.vfs.virtual import is_virtual

P = ParamSpec("P")
R = TypeVar("R")


def _handler(
    method: Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]]:
    """Say in pyfuse3's words that a request is refused."""

    @functools.wraps(method)
    async def wrapped(self: Operations, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(self, *args, **kwargs)
        except RefusedError as error:
            raise FUSEError(error.errno) from error

    return wrapped


def _caller(ctx: RequestContext) -> Caller:
    return Caller(ctx.uid, ctx.gid, ctx.umask)


def _entry(shown: Shown) -> EntryAttributes:
    attr = EntryAttributes()
    attr.st_ino = InodeT(shown.ino)
    attr.generation = 0
    attr.entry_timeout = attr.attr_timeout = shown.timeout
    attr.st_mode = ModeT(shown.mode)
    attr.st_nlink = shown.nlink
    attr.st_uid = shown.uid
    attr.st_gid = shown.gid
    attr.st_rdev = shown.rdev
    attr.st_size = shown.size
    attr.st_blksize = limits.STAT_BLOCK
    attr.st_blocks = (shown.size + 511) // 512
    attr.st_mtime_ns = shown.mtime_ns
    attr.st_atime_ns = shown.atime_ns
    attr.st_ctime_ns = shown.ctime_ns
    return attr


class Operations(pyfuse3.Operations):
    """The request handlers of one mount."""

    supports_dot_lookup = True
    enable_writeback_cache = True
    enable_acl = False

    def __init__(self, requests: Requests) -> None:
        super().__init__()
        self._requests = requests

    # -- names --------------------------------------------------------------------------------------------------

    @_handler
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        shown = await self._requests.lookup(parent_inode, name)
        if shown is not None:
            return _entry(shown)
        missing = EntryAttributes()  # inode 0: the kernel may remember that there is nothing
        missing.st_ino = InodeT(0)
        missing.entry_timeout = self._requests.show.timeout
        return missing

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        self._requests.forget(inode_list)

    @_handler
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return _entry(await self._requests.getattr(inode))

    @_handler
    async def setattr(
        self, inode: InodeT, attr: EntryAttributes, fields: SetattrFields, fh: FileHandleT | None, ctx: RequestContext
    ) -> EntryAttributes:
        changed = await self._requests.setattr(
            inode,
            mode=stat_module.S_IMODE(attr.st_mode) if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return _entry(changed)

    @_handler
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        return FileNameT(await self._requests.readlink(inode))

    @_handler
    async def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        return _entry(await self._requests.mknod(parent_inode, name, mode, rdev, _caller(ctx)))

    @_handler
    async def mkdir(self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext) -> EntryAttributes:
        return _entry(await self._requests.mkdir(parent_inode, name, mode, _caller(ctx)))

    @_handler
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        await self._requests.unlink(parent_inode, name)

    @_handler
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        await self._requests.rmdir(parent_inode, name)

    @_handler
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        return _entry(await self._requests.symlink(parent_inode, name, target, _caller(ctx)))

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
        await self._requests.rename(parent_inode_old, name_old, parent_inode_new, name_new, flags)

    @_handler
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        return _entry(await self._requests.link(inode, new_parent_inode, new_name))

    # -- files --------------------------------------------------------------------------------------------------

    @_handler
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        fh = FileHandleT(await self._requests.open(inode, flags))
        # The size of what is made for this open is known to nobody before: pages and sizes are not kept.
        return FileInfo(fh=fh, direct_io=True) if is_virtual(inode) else FileInfo(fh=fh, keep_cache=True)

    @_handler
    async def create(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        shown, fh = await self._requests.create(parent_inode, name, mode, flags, _caller(ctx))
        return FileInfo(fh=FileHandleT(fh), keep_cache=True), _entry(shown)

    @_handler
    async def read(self, fh: FileHandleT, off: int, size: int) -> Buffer:  # type: ignore[override]
        now = self._requests.read_now(fh, off, size)
        # pyfuse3 takes any buffer, and copies this one before the loop goes on.
        return now if now is not None else await self._requests.read(fh, off, size)

    @_handler
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return await self._requests.write(fh, off, buf)

    @_handler
    async def flush(self, fh: FileHandleT) -> None:
        await self._requests.flush(fh)

    @_handler
    async def release(self, fh: FileHandleT) -> None:
        await self._requests.release(fh)

    @_handler
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self._requests.fsync(fh)

    # -- directories --------------------------------------------------------------------------------------------

    @_handler
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        return FileHandleT(await self._requests.opendir(inode))

    @_handler
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        def take(name: bytes, shown: Shown, position: int) -> bool:
            return pyfuse3.readdir_reply(token, FileNameT(name), _entry(shown), position)

        await self._requests.readdir(fh, start_id, take)

    @_handler
    async def releasedir(self, fh: FileHandleT) -> None:
        await self._requests.releasedir(fh)

    @_handler
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self._requests.fsyncdir(fh)

    # -- the rest -----------------------------------------------------------------------------------------------

    @_handler
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        disk = await self._requests.statfs()
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
        await self._requests.setxattr(inode, name, value)

    @_handler
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        return await self._requests.getxattr(inode, name)

    @_handler
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        return [XAttrNameT(name) for name in await self._requests.listxattr(inode)]

    @_handler
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        await self._requests.removexattr(inode, name)


class LibfuseSession:
    """A mount through pyfuse3: libfuse mounts, and asks fusermount3 where this user may not."""

    name = "pyfuse3"
    passthrough = False
    passed_opens = 0

    def __init__(self, requests: Requests, mountpoint: Path, words: Iterable[str]) -> None:
        """Mount. ``words``: as mount(8) has them, with fsname and subtype. UsageError."""
        try:
            pyfuse3.init(Operations(requests), str(mountpoint), {*pyfuse3.default_options, *words})
        except RuntimeError as error:
            raise UsageError(
                f"{mountpoint}: the kernel or fusermount3 refused the mount ({error}); the lines above say why"
            ) from error

    async def serve(self) -> None:
        """Answer requests until it is unmounted or `terminate` is called."""
        await pyfuse3.main(min_tasks=8, max_tasks=limits.FUSE_TASKS)

    def terminate(self) -> None:
        """Have `serve` return, when what it is answering is answered."""
        pyfuse3.terminate()

    def close(self) -> None:
        """Unmount, unless somebody has."""
        pyfuse3.close(unmount=True)
