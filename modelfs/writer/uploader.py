"""Staged bytes -> chunks -> manifest, behind the write head and at the end.

`Uploader.advance` is called after writes: when enough contiguous bytes stand behind the write head it cuts and
uploads them while the application goes on writing. `Uploader.finish` cuts what is left and returns the content that
a tree entry holds. Chunking, hashing, encoding and the store run in worker threads under two limiters; at most
``CUT_JOBS`` windows are in memory at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import trio

from modelfs import limits
from modelfs.chunking.cutter import Cutter
from modelfs.chunking.params import ChunkParams
from modelfs.chunking.zeros import is_zero
from modelfs.concurrency import together
from modelfs.formats import detect
from modelfs.formats.layout import Growing, Layout, read_all
from modelfs.repository.objects import Extent, Kind, Manifest
from modelfs.repository.repository import Repository, Tensor
from modelfs.writer.bases import Bases, Earlier, Origin
from modelfs.writer.staging import ReadBase, StagedFile


@dataclass(frozen=True, slots=True)
class Finished:
    """What a tree entry says of a file's content, and the generation of the staged file that it covers."""

    kind: Kind
    content: bytes
    size: int
    manifest: Manifest | None
    generation: int


class Uploader:
    """Cuts and uploads staged files of one mount."""

    def __init__(self, repo: Repository, params: ChunkParams) -> None:
        self._repo = repo
        self._params = params
        self._window = 2 * params.max_size
        self._jobs = trio.CapacityLimiter(limits.CUT_JOBS)
        self._threads = trio.CapacityLimiter(limits.UPLOAD_THREADS)
        self._io = trio.CapacityLimiter(limits.LOCAL_IO_THREADS)
        self._bases = Bases(repo)
        self._active = 0

    def active(self) -> int:
        """Files being cut or uploaded at this moment."""
        return self._active

    def ready_behind(self, staged: StagedFile, head: int) -> tuple[int, int] | None:
        """The contiguous range behind write head ``head`` that is worth cutting now, if there is one."""
        start = staged.cut_end_before(head)
        if head - start >= limits.WRITE_BEHIND and staged.settled(start, head):
            return start, head
        return None

    async def advance(self, work: UploadState, start: int, end: int) -> None:
        """Cut ``[start, end)`` as far as more bytes would not change it, and upload the pieces. ``work.busy`` ends when
        the cutting does: the next call may cut on while these pieces are on their way."""
        async with self._at_work() as sending:
            try:
                async with work.cutting:
                    await self._advance(work, start, end, sending)
            finally:
                work.busy = False

    async def _advance(self, work: UploadState, start: int, end: int, sending: trio.Nursery) -> None:
        await self._follow(work)
        if not work.following.told:
            return
        if (told := work.following.layout) is not None:
            await self._take_layout(work, told)
        elif work.cutter is None:
            await self._take_layout(work, await self._guess(work, None))
        # Another call may have come first, or a write may have thrown pieces away.
        start = max(start, work.staged.cut_end_before(end))
        if work.staged.settled(start, end):
            await self._cut(work, start, end, sending, at_end=False)

    async def finish(self, work: UploadState) -> Finished:
        """Cut and upload all that is left. OSError and StoreError pass through; the staged file stays as it is."""
        async with work.cutting:
            return await self._finish(work)

    @asynccontextmanager
    async def _at_work(self) -> AsyncIterator[trio.Nursery]:
        """A nursery for pieces of one file on their way; `active` counts it."""
        self._active += 1
        try:
            async with together() as nursery:
                yield nursery
        finally:
            self._active -= 1

    async def _finish(self, work: UploadState) -> Finished:
        staged = work.staged
        generation = staged.generation
        if staged.size <= limits.INLINE_MAX:
            data = await self._read(work, 0, staged.size)
            return Finished(Kind.INLINE, bytes(data), len(data), None, generation)
        whole = staged.snapshot(work.read_base)
        layout = await trio.to_thread.run_sync(read_all, detect.parse(staged.size), whole, limiter=self._threads)
        layout = layout or await self._guess(work, staged.size)
        await self._take_layout(work, layout)
        for _ in range(limits.FINISH_ROUNDS):
            generation = staged.generation
            if gaps := staged.gaps(absorb_below=self._params.min_size):
                async with self._at_work() as sending:
                    for start, end in gaps:
                        await self._cut(work, start, end, sending, at_end=True)
            elif staged.sending():  # what was cut behind the write head; what fails of it is a gap again
                await work.sent.wait()
            else:
                break
        else:
            raise BlockingIOError("the file is being written faster than it can be cut")
        manifest = staged.manifest()

        def store() -> tuple[Manifest, bytes]:
            tensors = self._repo.write_layout(layout) if layout is not None and layout.size == manifest.size else b""
            described = msgspec.structs.replace(manifest, tensors=tensors)
            self._bases.written(layout, described)
            return described, self._repo.write_manifest(described)

        manifest, content = await trio.to_thread.run_sync(store, limiter=self._threads)
        return Finished(Kind.FILE, content, manifest.size, manifest, generation)

    async def _follow(self, work: UploadState) -> None:
        """Let the format's parser see what has been written since."""
        staged, following = work.staged, work.following
        while (want := following.want) and staged.settled(want.offset, want.offset + want.length):
            claim = staged.claim(want.offset, want.offset + want.length)
            try:
                data = await self._read(work, claim.start, claim.end)
            finally:
                staged.abandon(claim)
            if not claim.valid or following is not work.following:
                return
            following.feed(bytes(data))

    async def _guess(self, work: UploadState, size: int | None) -> Layout | None:
        if work.origin is None:
            return None
        return await trio.to_thread.run_sync(self._bases.guess, work.origin(), size, limiter=self._threads)

    async def _take_layout(self, work: UploadState, layout: Layout | None) -> None:
        """Cut by ``layout`` from now on; pieces that it would have cut otherwise are cut again."""
        cutter = Cutter(self._params, layout)
        if work.cutter is not None:
            work.staged.drop_cuts_from(work.cutter.agrees_until(cutter))
        work.cutter = cutter
        if layout is None:
            work.earlier = None
        elif work.earlier is None:
            origin = work.origin() if work.origin is not None else None
            work.earlier = await trio.to_thread.run_sync(
                self._bases.earlier, layout, origin, work.staged.base, limiter=self._threads
            )
        else:
            work.earlier.take(layout)

    async def _read(self, work: UploadState, start: int, end: int) -> bytearray:
        plan = list(work.staged.pieces(start, end))
        if not plan:
            return bytearray()
        return await trio.to_thread.run_sync(work.staged.read, plan, work.read_base, limiter=self._io)

    async def _cut(self, work: UploadState, start: int, end: int, sending: trio.Nursery, *, at_end: bool) -> None:
        """Cut ``[start, end)`` window by window; the pieces are uploaded by tasks of ``sending``."""
        staged, cutter = work.staged, work.cutter
        assert cutter is not None
        pos: int | None = start
        while pos is not None and pos < end and (at_end or cutter.knows(pos)):
            if at_end and (skipped := self._hole(staged, pos, end)):
                claim = staged.claim(pos, skipped)
                staged.settle(claim, [Extent(b"", skipped - pos)])
                pos = skipped
                continue
            pos = await sending.start(self._cut_window, work, cutter, pos, end, at_end)

    async def _cut_window(
        self,
        work: UploadState,
        cutter: Cutter,
        start: int,
        end: int,
        at_end: bool,
        *,
        task_status: trio.TaskStatus[int | None],
    ) -> None:
        """Cut what the window at ``start`` holds, tell where the next one begins (None: cut no further), and upload the
        pieces."""
        staged = work.staged
        async with self._jobs:
            stop = min(start + self._window, end)
            claim = staged.claim(start, stop)
            try:
                data = await self._read(work, start, stop)
                window = memoryview(data)
                lengths: list[int] = []
                if len(window) == stop - start:  # else truncated meanwhile
                    last = at_end and stop == end
                    lengths = await trio.to_thread.run_sync(cutter.cut, window, start, last, limiter=self._threads)
                if not lengths or not claim.valid:
                    task_status.started(None)
                    return
                staged.cut(claim, start + sum(lengths))
                task_status.started(claim.end)
                extents = [Extent(b"", n) for n in lengths]
                async with together() as nursery:
                    at = 0
                    for i, n in enumerate(lengths):
                        tensor = work.earlier.tensor(start + at, n) if work.earlier is not None else None
                        nursery.start_soon(self._upload, window[at : at + n], tensor, extents, i)
                        at += n
                staged.settle(claim, extents)
            finally:
                staged.abandon(claim)
                work.sent.set()
                work.sent = trio.Event()

    def _hole(self, staged: StagedFile, pos: int, end: int) -> int:
        """End of the run that was never written at ``pos`` when it is long enough to be a hole, else 0."""
        for a, b, where in staged.pieces(pos, end):
            return b if a == pos and where == "zero" and b - a >= self._params.max_size else 0
        return 0

    async def _upload(self, piece: memoryview, tensor: Tensor | None, extents: list[Extent], i: int) -> None:
        def work() -> Extent:
            if is_zero(piece):
                return Extent(b"", len(piece))
            return Extent(self._repo.write_chunk(piece, tensor)[0], len(piece))

        extents[i] = await trio.to_thread.run_sync(work, limiter=self._threads)


@dataclass(slots=True)
class UploadState:
    """What the uploader keeps about one staged file between calls."""

    staged: StagedFile
    read_base: ReadBase
    origin: Callable[[], Origin] | None = None  # where it is written; asked once, when its first chunks are cut
    following: Growing = field(default_factory=lambda: Growing(detect.parse(None)))  # the format, while it grows
    cutter: Cutter | None = None  # what the pieces so far were cut by
    earlier: Earlier | None = None
    busy: bool = False  # an `advance` is cutting
    sent: trio.Event = field(default_factory=trio.Event)  # set whenever the pieces of a window have come to their end
    cutting: trio.Lock = field(default_factory=trio.Lock)  # two cuts of the same bytes would be recorded twice

    def begin_again(self) -> None:
        """The content was thrown away: what is written from now on may be of another format."""
        self.following = Growing(detect.parse(None))
