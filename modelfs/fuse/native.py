"""A session of our own with the kernel, on /dev/fuse: for passthrough, which libfuse of today's distributions lacks.

Requests are read without a thread, several for each time that the device becomes readable. A read that need not wait
is answered at once; everything else is a task of its own, `limits.FUSE_TASKS` of them at most. What the requests mean
is said in `requests`; this module takes them apart (`protocol`) and puts answers together. Answers go out with writev,
which lets go of the interpreter's lock while the kernel copies.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat as stat_module
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from modelfs import limits
from modelfs.errors import UsageError
from modelfs.fuse import device, protocol
from modelfs.fuse.backing import Backings, writes
from modelfs.fuse.presentation import Shown
from modelfs.fuse.protocol import Attr, MalformedError, Opcode, OpenFlag, Request
from modelfs.fuse.requests import RefusedError, Requests
from modelfs.reader.file import FileReader
from modelfs.store.base import Buffer
from modelfs.vfs.vfs import Caller

log = logging.getLogger(__name__)

# read(2) of the device: nobody waits for this request any more; the file system is unmounted or its connection ended.
_AGAIN: Final = (errno.ENOENT, errno.EINTR)
_ENDED: Final = (errno.ENODEV, errno.ECONNABORTED)


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, and what is taken back when the kernel does not want it any more: references to inodes,
    and a handle that nobody would release."""

    body: tuple[Buffer, ...] = ()
    entries: tuple[int, ...] = ()
    file: int | None = None
    directory: int | None = None


_NOTHING: Final = Answer()


class NativeSession:
    """A mount made by this process itself."""

    name = "native"

    def __init__(
        self, requests: Requests, mountpoint: Path, words: Iterable[str], cache: Path, *, passthrough: bool
    ) -> None:
        """Mount. ``words``: as mount(8) has them, with fsname and subtype; ``cache``: where files that are passed
        through lie. UsageError."""
        self._requests = requests
        self._mountpoint = mountpoint
        named = dict(word.partition("=")[::2] for word in words if word.startswith(("fsname=", "subtype=")))
        rest = [word for word in words if not word.startswith(("fsname=", "subtype="))]
        # Asked before there is a mount: the directory may lie at the mount point, and nobody answers there yet.
        depth = device.stack_depth(cache) if passthrough else 0
        try:
            self._fd = device.mount(mountpoint, named["fsname"], f"fuse.{named['subtype']}", rest)
            try:
                agreed = device.agree(self._fd, passthrough_depth=depth)
            except OSError:
                self.close()
                raise
        except OSError as error:
            raise UsageError(f"{mountpoint}: the kernel refused the mount: {error.strerror or error}") from error
        self.passthrough = agreed.passthrough
        self.backings = Backings(requests.vfs, self._fd, enabled=agreed.passthrough)
        requests.vfs.files.completes = agreed.passthrough
        self._taking = trio.CancelScope()
        self._reads: dict[int, trio.CancelScope] = {}  # requests that an INTERRUPT may end
        self._tasks = 0
        self._freed = trio.Event()
        self._buffers: list[bytearray] = []
        self._handlers: dict[Opcode, Callable[[Request], Awaitable[Answer]]] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.GETATTR: self._getattr,
            Opcode.SETATTR: self._setattr,
            Opcode.READLINK: self._readlink,
            Opcode.SYMLINK: self._symlink,
            Opcode.MKNOD: self._mknod,
            Opcode.MKDIR: self._mkdir,
            Opcode.UNLINK: self._unlink,
            Opcode.RMDIR: self._rmdir,
            Opcode.RENAME: self._rename,
            Opcode.RENAME2: self._rename,
            Opcode.LINK: self._link,
            Opcode.OPEN: self._open,
            Opcode.CREATE: self._create,
            Opcode.READ: self._read,
            Opcode.WRITE: self._write,
            Opcode.FLUSH: self._flush,
            Opcode.RELEASE: self._release,
            Opcode.FSYNC: self._fsync,
            Opcode.OPENDIR: self._opendir,
            Opcode.READDIRPLUS: self._readdirplus,
            Opcode.RELEASEDIR: self._releasedir,
            Opcode.FSYNCDIR: self._fsyncdir,
            Opcode.STATFS: self._statfs,
            Opcode.SETXATTR: self._setxattr,
            Opcode.GETXATTR: self._getxattr,
            Opcode.LISTXATTR: self._listxattr,
            Opcode.REMOVEXATTR: self._removexattr,
            Opcode.DESTROY: self._destroy,
        }

    @property
    def passed_opens(self) -> int:
        """Opens of files that the kernel read by itself, since the mount began."""
        return self.backings.opened

    # -- the conversation ---------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Answer requests until it is unmounted or `terminate` is called, and what was taken is answered."""
        async with trio.open_nursery() as nursery:
            with self._taking:
                await self._take(nursery)

    def terminate(self) -> None:
        """Take no more requests."""
        self._taking.cancel()

    def close(self) -> None:
        """Unmount, unless somebody has."""
        if self._fd < 0:
            return
        # With the connection goes the mount's only user that could wait for itself.
        gone = _gone(self._fd)
        os.close(self._fd)
        self._fd = -1
        if gone:
            return
        try:
            device.unmount(self._mountpoint)
        except OSError as error:
            if error.errno != errno.EINVAL:  # unmounted in this instant
                log.warning("%s could not be unmounted: %s", self._mountpoint, error)

    async def _take(self, nursery: trio.Nursery) -> None:
        while True:
            for _ in range(limits.FUSE_READ_BATCH):
                while self._tasks >= limits.FUSE_TASKS:
                    self._freed = trio.Event()
                    await self._freed.wait()
                buffer = self._buffers.pop() if self._buffers else bytearray(limits.FUSE_REQUEST_MAX)
                try:
                    length = os.readv(self._fd, [buffer])
                except BlockingIOError:
                    self._buffers.append(buffer)
                    await trio.lowlevel.wait_readable(self._fd)
                    break
                except OSError as error:
                    self._buffers.append(buffer)
                    if error.errno in _AGAIN:
                        continue
                    if error.errno in _ENDED:
                        return
                    raise
                self._begin(buffer, length, nursery)
            else:
                await trio.lowlevel.checkpoint()

    def _begin(self, buffer: bytearray, length: int, nursery: trio.Nursery) -> None:
        """Answer one request, or start a task that does."""
        try:
            request = protocol.decode(memoryview(buffer)[:length])
        except MalformedError as error:
            log.error("the kernel sent what is no request: %s", error)
            self._buffers.append(buffer)
            if error.unique is not None:
                self._send(error.unique, error=errno.EINVAL)
            return
        if request.opcode is not Opcode.WRITE:
            self._buffers.append(buffer)
        elif self._write_now(request):
            self._buffers.append(buffer)
            return
        if request.opcode is Opcode.READ and self._read_now(request):
            return
        if request.opcode is Opcode.FORGET:
            self._requests.forget(((request.nodeid, request.fields[0]),))
        elif request.opcode is Opcode.BATCH_FORGET:
            self._requests.forget(request.forgets)
        elif request.opcode is Opcode.INTERRUPT:
            if (scope := self._reads.get(request.fields[0])) is not None:
                scope.cancel()
        elif request.opcode is None or (handler := self._handlers.get(request.opcode)) is None:
            self._send(request.unique, error=errno.ENOSYS)
        else:
            if request.opcode is Opcode.RELEASE and (reader := self.backings.released(request.fields[0])) is not None:
                handler = partial(self._release_passed, reader)
            self._tasks += 1
            nursery.start_soon(self._answer, request, handler, buffer)

    async def _answer(
        self, request: Request, handler: Callable[[Request], Awaitable[Answer]], buffer: bytearray
    ) -> None:
        try:
            answer = await handler(request)
        except RefusedError as error:
            self._send(request.unique, error=error.errno)
        except Exception:
            log.exception("%s: unexpected error", request.opcode)
            self._requests.errors += 1
            self._send(request.unique, error=errno.EIO)
        else:
            if not self._send(request.unique, *answer.body):
                await self._take_back(answer)
        finally:
            if request.opcode is Opcode.WRITE:
                self._buffers.append(buffer)
            self._tasks -= 1
            self._freed.set()

    def _send(self, unique: int, *body: Buffer, error: int = 0) -> bool:
        """False when the kernel does not wait for this answer any more."""
        head = protocol.header(unique, sum(map(len, body)), error)
        try:
            os.writev(self._fd, [head, *body])
        except OSError as failure:
            if failure.errno not in (*_AGAIN, *_ENDED, errno.EBADF):
                log.error("an answer to the kernel failed: %s", failure)
            return False
        return True

    async def _take_back(self, answer: Answer) -> None:
        """The kernel did not get an answer: it interrupted the request, or the mount is gone."""
        try:
            if answer.file is not None:
                if (reader := self.backings.released(answer.file)) is not None:
                    await reader.release()
                await self._requests.release(answer.file)
            if answer.directory is not None:
                await self._requests.releasedir(answer.directory)
        except RefusedError as error:
            log.debug("what nobody waited for was not released: %s", error)
        self._requests.forget((ino, 1) for ino in answer.entries)

    # -- names --------------------------------------------------------------------------------------------------

    async def _lookup(self, request: Request) -> Answer:
        shown = await self._requests.lookup(request.nodeid, request.names[0])
        return _entry(shown) if shown is not None else Answer((protocol.missing_entry(self._requests.show.timeout),))

    async def _getattr(self, request: Request) -> Answer:
        return Answer((protocol.attr_out(await self._requests.getattr(request.nodeid)),))

    async def _setattr(self, request: Request) -> Answer:
        valid, _, _, size, _, atime, mtime, _, atimensec, mtimensec, _, mode, _, uid, gid, _ = request.fields
        with self.backings.changing(request.nodeid) if valid & Attr.SIZE else nullcontext():
            changed = await self._requests.setattr(
                request.nodeid,
                mode=stat_module.S_IMODE(mode) if valid & Attr.MODE else None,
                uid=uid if valid & Attr.UID else None,
                gid=gid if valid & Attr.GID else None,
                size=size if valid & Attr.SIZE else None,
                atime_ns=_moment(valid & Attr.ATIME, valid & Attr.ATIME_NOW, atime, atimensec),
                mtime_ns=_moment(valid & Attr.MTIME, valid & Attr.MTIME_NOW, mtime, mtimensec),
            )
        return Answer((protocol.attr_out(changed),))

    async def _readlink(self, request: Request) -> Answer:
        return Answer((await self._requests.readlink(request.nodeid),))

    async def _symlink(self, request: Request) -> Answer:
        name, target = request.names
        return _entry(await self._requests.symlink(request.nodeid, name, target, _caller(request, 0)))

    async def _mknod(self, request: Request) -> Answer:
        mode, rdev, umask, _ = request.fields
        caller = _caller(request, umask)
        return _entry(await self._requests.mknod(request.nodeid, request.names[0], mode, rdev, caller))

    async def _mkdir(self, request: Request) -> Answer:
        mode, umask = request.fields
        return _entry(await self._requests.mkdir(request.nodeid, request.names[0], mode, _caller(request, umask)))

    async def _unlink(self, request: Request) -> Answer:
        await self._requests.unlink(request.nodeid, request.names[0])
        return _NOTHING

    async def _rmdir(self, request: Request) -> Answer:
        await self._requests.rmdir(request.nodeid, request.names[0])
        return _NOTHING

    async def _rename(self, request: Request) -> Answer:
        directory, flags = request.fields[0], request.fields[1] if request.opcode is Opcode.RENAME2 else 0
        await self._requests.rename(request.nodeid, request.names[0], directory, request.names[1], flags)
        return _NOTHING

    async def _link(self, request: Request) -> Answer:
        return _entry(await self._requests.link(request.fields[0], request.nodeid, request.names[0]))

    # -- files --------------------------------------------------------------------------------------------------

    async def _open(self, request: Request) -> Answer:
        ino, flags = request.nodeid, request.fields[0]
        with self.backings.changing(ino) if writes(flags) else nullcontext():
            fh = await self._requests.open(ino, flags)
            return Answer((protocol.open_out(fh, *self.backings.open(ino, fh, flags)),), file=fh)

    async def _create(self, request: Request) -> Answer:
        flags, mode, umask, _ = request.fields
        caller = _caller(request, umask)
        shown, fh = await self._requests.create(request.nodeid, request.names[0], mode, flags, caller)
        try:
            with self.backings.changing(shown.ino):
                opened = protocol.open_out(fh, *self.backings.open(shown.ino, fh, flags | os.O_RDWR))
        except RefusedError:  # there was one all of a sudden, and readers have it
            await self._requests.release(fh)
            self._requests.forget(((shown.ino, 1),))
            raise
        return Answer((protocol.entry_out(shown), opened), entries=(shown.ino,), file=fh)

    def _read_now(self, request: Request) -> bool:
        fh, offset, size = request.fields[:3]
        now = self._requests.read_now(fh, offset, size)
        if now is None:
            return False
        self._send(request.unique, now)
        return True

    async def _read(self, request: Request) -> Answer:
        fh, offset, size = request.fields[:3]
        if size > limits.FUSE_MAX_IO:
            raise RefusedError(errno.EINVAL)
        with trio.CancelScope() as scope:
            self._reads[request.unique] = scope
            try:
                return Answer((await self._requests.read(fh, offset, size),))
            finally:
                del self._reads[request.unique]
        raise RefusedError(errno.EINTR)

    def _write_now(self, request: Request) -> bool:
        fh, offset = request.fields[:2]
        if not self._requests.write_now(fh, offset, request.data):
            return False
        self._send(request.unique, protocol.STRUCTS["fuse_write_out"].pack(len(request.data), 0))
        return True

    async def _write(self, request: Request) -> Answer:
        fh, offset = request.fields[:2]
        written = await self._requests.write(fh, offset, request.data)
        return Answer((protocol.STRUCTS["fuse_write_out"].pack(written, 0),))

    async def _flush(self, request: Request) -> Answer:
        await self._requests.flush(request.fields[0])
        return _NOTHING

    async def _release(self, request: Request) -> Answer:
        await self._requests.release(request.fields[0])
        return _NOTHING

    async def _release_passed(self, reader: FileReader, request: Request) -> Answer:
        await reader.release()
        return await self._release(request)

    async def _fsync(self, request: Request) -> Answer:
        await self._requests.fsync(request.fields[0])
        return _NOTHING

    # -- directories --------------------------------------------------------------------------------------------

    async def _opendir(self, request: Request) -> Answer:
        fh = await self._requests.opendir(request.nodeid)
        return Answer((protocol.open_out(fh, OpenFlag(0)),), directory=fh)

    async def _readdirplus(self, request: Request) -> Answer:
        fh, start, size = request.fields[:3]
        room = min(size, limits.FUSE_MAX_IO)
        body, entries = bytearray(), list[int]()

        def take(name: bytes, shown: Shown, position: int) -> bool:
            entry = protocol.direntplus(name, shown, position)
            if len(body) + len(entry) > room:
                return False
            body.extend(entry)
            entries.append(shown.ino)
            return True

        await self._requests.readdir(fh, start, take)
        return Answer((body,), entries=tuple(entries))

    async def _releasedir(self, request: Request) -> Answer:
        await self._requests.releasedir(request.fields[0])
        return _NOTHING

    async def _fsyncdir(self, request: Request) -> Answer:
        await self._requests.fsyncdir(request.fields[0])
        return _NOTHING

    # -- the rest -----------------------------------------------------------------------------------------------

    async def _statfs(self, request: Request) -> Answer:
        disk = await self._requests.statfs()
        counts = (disk.f_blocks, disk.f_bfree, disk.f_bavail, disk.f_files, disk.f_ffree)
        body = protocol.STRUCTS["fuse_kstatfs"].pack(*counts, disk.f_bsize, limits.NAME_MAX, disk.f_frsize, 0)
        return Answer((body,))

    async def _setxattr(self, request: Request) -> Answer:
        await self._requests.setxattr(request.nodeid, request.names[0], bytes(request.data))
        return _NOTHING

    async def _getxattr(self, request: Request) -> Answer:
        return _sized(await self._requests.getxattr(request.nodeid, request.names[0]), request.fields[0])

    async def _listxattr(self, request: Request) -> Answer:
        names = await self._requests.listxattr(request.nodeid)
        return _sized(b"".join(name + b"\0" for name in names), request.fields[0])

    async def _removexattr(self, request: Request) -> Answer:
        await self._requests.removexattr(request.nodeid, request.names[0])
        return _NOTHING

    async def _destroy(self, request: Request) -> Answer:
        return _NOTHING


def _entry(shown: Shown) -> Answer:
    return Answer((protocol.entry_out(shown),), entries=(shown.ino,))


def _caller(request: Request, umask: int) -> Caller:
    return Caller(request.uid, request.gid, umask)


def _moment(given: int, now: int, seconds: int, nanoseconds: int) -> int | None:
    """A time of SETATTR in nanoseconds; None when it stays."""
    if now:
        return time.time_ns()
    if not given:
        return None
    signed = seconds - (1 << 64) if seconds >> 63 else seconds
    return signed * 10**9 + nanoseconds


def _sized(value: bytes, size: int) -> Answer:
    """An attribute's value, or its length for who asks with no room."""
    if not size:
        return Answer((protocol.STRUCTS["fuse_getxattr_out"].pack(len(value), 0),))
    if len(value) > size:
        raise RefusedError(errno.ERANGE)
    return Answer((value,))


def _gone(fd: int) -> bool:
    """True when the other side of the connection is gone: somebody has unmounted."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return any(event & select.POLLERR for _, event in poller.poll(0))
