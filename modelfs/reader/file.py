"""Byte ranges of one version of a file.

`FileReader.read_now` answers on the event loop, without a thread, when the bytes are verified, on local disk and in
the page cache (preadv with RWF_NOWAIT); `FileReader.read` does whatever it takes. A reader belongs to one manifest
and never sees another version. It is counted: whoever holds one has retained it, and the cache file is let go of when
the last one releases it, so no worker thread ever meets a descriptor that was closed and given to another file.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from itertools import accumulate

import trio

from modelfs import limits
from modelfs.cache.files import CacheFile, Uncached
from modelfs.concurrency import together
from modelfs.formats.layout import end_of
from modelfs.ids import ChunkId
from modelfs.reader.prefetch import Tensors
from modelfs.reader.source import ChunkSource, Location
from modelfs.repository.objects import Manifest
from modelfs.store.base import Buffer

# One reply at a time is copied out before the loop runs anything else, so the fast path may reuse its buffer.
_reply = bytearray(limits.FUSE_MAX_IO)


class FileReader:
    """Reads ranges of a manifest through the cache and the store."""

    def __init__(self, source: ChunkSource, manifest: Manifest, file: CacheFile | Uncached) -> None:
        self.manifest = manifest
        self.size = manifest.size
        self._source = source
        self._file = file
        self._starts = [0, *accumulate(extent.length for extent in manifest.chunks)]
        self._users = 1
        self._seen = bytearray(len(manifest.chunks))  # 1: was read in, and counted as a lookup
        # Where its tensors lie, for prefetching; None until `find_tensors` is done.
        self.tensors: Tensors | None = None if manifest.tensors else Tensors()

    async def find_tensors(self) -> None:
        """Look the tensors up; a failure means to go on without."""
        repo = self._source.repo
        found = Tensors()
        self.retain()
        try:
            layout = await trio.to_thread.run_sync(repo.read_layout, self.manifest, limiter=self._source.threads)
            if layout is not None:
                found = Tensors((span.offset, end_of(span)) for span in layout.spans)
        finally:
            self.tensors = found
            await self.release()

    def chunks(self, start: int, end: int) -> range:
        """Indices of the chunks that ``[start, end)`` touches."""
        end = min(end, self.size)
        if start >= end:
            return range(0)
        return range(bisect_right(self._starts, start) - 1, bisect_right(self._starts, end - 1))

    def read_now(self, offset: int, length: int) -> memoryview | None:
        """The range as a view that is valid until the next call, or None when that would have to wait."""
        end = min(offset + length, self.size)
        if end <= offset:
            return memoryview(b"")
        if end - offset > len(_reply):
            return None
        view = memoryview(_reply)[: end - offset]
        for i in self.chunks(offset, end):
            extent = self.manifest.chunks[i]
            a = max(offset, self._starts[i])
            b = min(end, self._starts[i + 1])
            target = view[a - offset : b - offset]
            if not extent.id:
                target[:] = bytes(b - a)
                continue
            data = self._source.in_memory(ChunkId(extent.id))
            if data is not None:
                if not self._seen[i]:
                    self._count(i)
                piece = data[a - self._starts[i] : b - self._starts[i]]
                if len(piece) == len(view):
                    return piece
                target[:] = piece
                continue
            place = self._file.locate(i)
            if place is None:
                return None
            if not _pread_now(place[0], target, place[1] + a - self._starts[i]):
                return None
            if not self._seen[i]:
                self._count(i)
        return view

    def _count(self, i: int) -> None:
        self._seen[i] = 1
        self._source.looked_up(ChunkId(self.manifest.chunks[i].id), self.manifest.chunks[i].length)

    async def _bring(self, i: int) -> Location | memoryview:
        found = await self._source.bring(self._file, self.manifest, i)
        if not self._seen[i]:
            self._count(i)
        return found

    async def read(self, offset: int, length: int) -> Buffer:
        """The range (short at the end of the file), fetched concurrently where it is not here yet."""
        end = min(offset + length, self.size)
        if end <= offset:
            return b""
        touched = self.chunks(offset, end)
        wanted = [i for i in touched if self.manifest.chunks[i].id]
        self.retain()
        try:
            if len(touched) == len(wanted) == 1:
                found = await self._bring(wanted[0])
                base = self._starts[wanted[0]]
                if isinstance(found, memoryview):
                    return found[offset - base : end - base]
                out = bytearray(end - offset)
                await self._pread(found, memoryview(out), offset - base)
            else:
                out = bytearray(end - offset)
                async with together() as nursery:
                    for i in wanted:
                        nursery.start_soon(self._copy, i, offset, end, out)
        finally:
            await self.release()
        return out

    async def _copy(self, i: int, offset: int, end: int, out: bytearray) -> None:
        base = self._starts[i]
        a, b = max(offset, base), min(end, self._starts[i + 1])
        found = await self._bring(i)
        target = memoryview(out)[a - offset : b - offset]
        if isinstance(found, tuple):
            await self._pread(found, target, a - base)
        else:
            target[:] = found[a - base : b - base]

    async def _pread(self, place: Location, target: memoryview, offset: int) -> None:
        """Read from a cache file. A small read waits for the disk on the loop, which goes on with others meanwhile: a
        hop to a thread and back takes longer than a fast disk does."""
        fd, at = place[0], place[1] + offset
        if len(target) <= limits.POLLED_READ:
            for _ in range(limits.READ_POLLS):
                await trio.lowlevel.checkpoint()
                if _pread_now(fd, target, at):
                    return
        await trio.to_thread.run_sync(_pread_all, fd, target, at, limiter=self._source.local)

    def whole(self) -> int | None:
        """Descriptor of a local file that has all bytes of this version, verified, at their places, and stays so while
        this reader is held; None when there is none. Not to be written, read from with an offset, or closed."""
        return self._file.whole()

    def counted_whole(self) -> None:
        """Somebody reads the local file by itself: all of its chunks were here when they were looked up."""
        for i, extent in enumerate(self.manifest.chunks):
            if extent.id and not self._seen[i]:
                self._count(i)

    def wanted(self) -> float:
        """Which share of the bytes readers have looked at, by whole chunks: 0 to 1."""
        seen = sum(extent.length for extent, flag in zip(self.manifest.chunks, self._seen, strict=True) if flag)
        return seen / self.size if self.size else 0.0

    async def complete(self) -> bool:
        """Have all of this version in one local file: what is not here is fetched, what lies in the files of others is
        shared or copied, within the cache's budget. True when it is `whole`. Raises as `ChunkSource.bring`, CacheError,
        OSError."""
        self.retain()
        try:
            local = self._source.local
            budget: int | None = None
            for i in self._file.astray():
                found = await self._source.bring(self._file, self.manifest, i)
                if budget is None:
                    budget = await trio.to_thread.run_sync(self._source.cache.copy_budget, limiter=local)
                plain = found if isinstance(found, memoryview) else None
                taken = await trio.to_thread.run_sync(self._file.bring_home, i, plain, budget, limiter=local)
                if taken is None:
                    return False
                budget -= taken
            return self.whole() is not None
        finally:
            await self.release()

    def missing(self, start: int, end: int) -> list[int]:
        """Chunks of ``[start, end)`` that are neither here nor on their way."""
        return [
            i
            for i in self.chunks(start, end)
            if (chunk := ChunkId(self.manifest.chunks[i].id))
            and not self._source.busy(chunk)
            and self._source.in_memory(chunk) is None
            and self._file.locate(i) is None
        ]

    async def prefetch(self, index: int) -> None:
        """Bring one chunk; raises as `ChunkSource.bring`."""
        self.retain()
        try:
            await self._source.bring(self._file, self.manifest, index)
        finally:
            await self.release()

    def retain(self) -> FileReader:
        """One more user, who will call `release`."""
        self._users += 1
        return self

    async def release(self) -> None:
        """One user less; the last one lets go of the cache file, also when it is being cancelled."""
        self._users -= 1
        if not self._users:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._file.close, limiter=self._source.local)


def _pread_now(fd: int, target: memoryview, offset: int) -> bool:
    """Read what is in the page cache; when that is not all of it, ask the disk for it and return False."""
    try:
        if os.preadv(fd, [target], offset, os.RWF_NOWAIT) == len(target):
            return True
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
            raise
    os.posix_fadvise(fd, offset, len(target), os.POSIX_FADV_WILLNEED)
    return False


def _pread_all(fd: int, target: memoryview, offset: int) -> None:
    done = 0
    while done < len(target):
        n = os.preadv(fd, [target[done:]], offset + done)
        if n == 0:
            raise OSError(errno.EIO, "a cache file ended early")
        done += n
