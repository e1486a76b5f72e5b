"""Content of regular files: reading a version, staging changes over it, finishing them.

`Files` ties a `FileNode` to the reader (its finished version) and to the writer (its staged changes). Reads see the
staged changes first. `finish` turns staged changes into a new finished version; the commit that publishes it is the
committer's work, and `published` then lets go of what is staged.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from modelfs import limits
from modelfs.errors import ModelfsError
from modelfs.ids import ManifestId
from modelfs.reader.file import FileReader
from modelfs.reader.prefetch import Readahead
from modelfs.reader.source import ChunkSource
from modelfs.repository.objects import Entry, Kind, Manifest
from modelfs.store.base import Buffer
from modelfs.vfs.ledger import Acknowledged, Ledger, acknowledge
from modelfs.vfs.localwrites import LocalWrites, sealed
from modelfs.vfs.nodes import Changes, FileNode, path_of
from modelfs.writer.bases import BASE_ATTRIBUTE, Origin, resolve_named
from modelfs.writer.staging import ReadBase, StagedFile
from modelfs.writer.uploader import Finished, Uploader

log = logging.getLogger(__name__)


class Files:
    """Reads and writes file contents of one mount."""

    def __init__(
        self,
        source: ChunkSource,
        uploader: Uploader,
        stage_dir: Path,
        nursery: trio.Nursery,
        on_finished: Callable[[FileNode], None],
        newest: Callable[[], Entry],
        ledger: Ledger,
        *,
        write_back: bool = False,
    ) -> None:
        """``on_finished`` is called in the instant in which a node has a new finished version; ``newest`` gives the
        root of the newest known commit; ``write_back``: what is written goes to this machine's disk at once, and is cut
        and sent only when it is finished, which leaves the processor to who writes."""
        self._on_finished = on_finished
        self._newest = newest
        self._ledger = ledger
        self._write_back = write_back
        self._source = source
        self._uploader = uploader
        self._stage_dir = stage_dir
        self._nursery = nursery
        self._io = trio.CapacityLimiter(limits.LOCAL_IO_THREADS)
        self._local = LocalWrites(stage_dir, source.cache, self._io, through=write_back)
        self._opening: dict[int, trio.Lock] = {}
        self._finishing: dict[int, trio.Lock] = {}
        self.completes = False  # files that most was read of are brought together in the cache
        self._completed: dict[ManifestId, None] = {}  # those that this is or was tried with
        self._completing = trio.CapacityLimiter(limits.PASSTHROUGH_JOBS)
        self._prefetches = 0
        self._prefetching = trio.CapacityLimiter(limits.PREFETCHES)

    # -- reading ------------------------------------------------------------------------------------------------

    async def reader(self, node: FileNode) -> FileReader | None:
        """The reader of the node's finished version (None for inline content), opened once per node."""
        if node.kind is not Kind.FILE or not node.exists_finished:
            return None
        if node.reader is not None:
            return node.reader
        lock = self._opening.setdefault(node.ino, trio.Lock())
        try:
            async with lock:
                if node.reader is None:
                    node.reader = await self._open_reader(node, ManifestId(node.content))
                    if node.reader.tensors is None:
                        self._nursery.start_soon(self._find_tensors, node.reader)
                return node.reader
        finally:
            if not lock.locked():
                self._opening.pop(node.ino, None)

    async def _open_reader(
        self, node: FileNode, manifest_id: ManifestId, manifest: Manifest | None = None
    ) -> FileReader:
        repo = self._source.repo
        found = manifest or repo.recall_manifest(manifest_id)
        if found is None:
            found = await trio.to_thread.run_sync(repo.read_manifest, manifest_id, limiter=self._source.threads)
        path = path_of(node)
        file = await trio.to_thread.run_sync(
            self._source.open_file, manifest_id, found, path, limiter=self._source.local
        )
        return FileReader(self._source, found, file)

    def read_now(self, node: FileNode, readahead: Readahead, offset: int, length: int) -> memoryview | None:
        """The range without waiting, or None. The view is valid until the next call."""
        if node.state is not None:
            return None
        if node.reader is None:
            return memoryview(node.content)[offset : offset + length] if node.kind is Kind.INLINE else None
        data = node.reader.read_now(offset, length)
        if data is not None:
            self._prefetch(node.reader, readahead, offset, length)
        return data

    async def read(self, node: FileNode, readahead: Readahead, offset: int, length: int) -> Buffer:
        """The range of the current content (short at its end)."""
        state = node.state
        if state is not None:
            plan = list(state.staged.pieces(offset, offset + length))
            if not plan:
                return b""
            async with self._using(state):
                return await trio.to_thread.run_sync(state.staged.read, plan, state.read_base, limiter=self._io)
        if node.kind is Kind.INLINE:
            return node.content[offset : offset + length]
        reader = await self.reader(node)
        if reader is None:
            return b""
        self._prefetch(reader, readahead, offset, length)
        return await reader.read(offset, length)

    def _prefetch(self, reader: FileReader, readahead: Readahead, offset: int, length: int) -> None:
        ahead = readahead.advance(offset, length, reader.tensors)
        if ahead is None:
            return
        for index in reader.missing(*ahead):
            if self._prefetches >= limits.PREFETCH_QUEUE:
                return
            self._prefetches += 1
            self._nursery.start_soon(self._prefetch_one, reader, index)

    async def _find_tensors(self, reader: FileReader) -> None:
        try:
            await reader.find_tensors()
        except (ModelfsError, OSError) as error:
            log.warning("the tensors of a file cannot be told, it is read ahead without: %s", error)

    def complete_if_wanted(self, node: FileNode) -> None:
        """A reader of the file is gone: if most of it was read, have all of it here for the next one."""
        reader, content = node.reader, ManifestId(node.content)
        if not self.completes or reader is None or node.state is not None or content in self._completed:
            return
        if reader.size < limits.PASSTHROUGH_MIN or reader.whole() is not None:
            return
        if reader.wanted() < limits.PASSTHROUGH_WANTED:
            return
        while len(self._completed) >= limits.PASSTHROUGH_REMEMBERED:
            self._completed.pop(next(iter(self._completed)))
        self._completed[content] = None
        self._nursery.start_soon(self._complete, reader.retain(), content, path_of(node))

    async def _complete(self, reader: FileReader, content: ManifestId, path: bytes) -> None:
        try:
            async with self._completing:
                if await reader.complete():
                    self._completed.pop(content, None)
                else:
                    log.info("%r stays in several files of the cache, for want of room there", path)
        except (ModelfsError, OSError) as error:
            log.info("%r could not be brought together in the cache: %s", path, error)
        except Exception:
            log.exception("%r could not be brought together in the cache: unexpected error", path)
        finally:
            await reader.release()

    async def _prefetch_one(self, reader: FileReader, index: int) -> None:
        try:
            async with self._prefetching:
                await reader.prefetch(index)
        except (ModelfsError, OSError) as error:
            log.debug("prefetch of chunk %d failed, the read itself will say so: %s", index, error)
        except Exception:
            log.exception("prefetch of chunk %d: unexpected error", index)
        finally:
            self._prefetches -= 1

    # -- writing ------------------------------------------------------------------------------------------------

    async def staged(self, node: FileNode, *, discard: bool = False) -> StagedFile:
        """The node's staged changes, begun over its finished version (over nothing when ``discard``).

        They take writes when this returns, until the caller awaits something.
        """
        await self._unsealed(node)
        if discard and node.state is not None and self._ledger.guards(node, 0, node.state.staged.size):
            self._retire(node)  # what was acknowledged stays in its file; the new content begins in another
        if node.state is None:
            reader, inline = None, None
            if not discard and node.exists_finished:
                if node.kind is Kind.INLINE:
                    inline = node.content
                else:
                    reader = await self.reader(node)
            if node.state is None:  # nobody else began meanwhile
                manifest = reader.manifest if reader is not None else None
                staged = StagedFile(self._stage_dir / uuid.uuid4().hex, manifest, inline)
                node.state = self._changes(node, staged, reader)
                self._ledger.opened(node)
        if discard and node.state.staged.size:
            node.state.staged.truncate(0)
            node.state.begin_again()
            self._ledger.opened(node)
        if discard:
            node.state.failed = None
        return node.state.staged

    async def _unsealed(self, node: FileNode) -> None:
        while node.state is not None and node.state.sealed is not None:
            await node.state.sealed.wait()

    async def keep(self, node: FileNode, note: Callable[[Acknowledged], None]) -> None:
        """Bring what was written to this machine's disk, then call ``note`` with what that is, before it can change.
        OSError as the disk says; then nothing was noted."""
        await self._unsealed(node)
        if (state := node.state) is None:
            note(acknowledge(node))
            return
        async with self._using(state), sealed(state):
            await self._local.sync(state)
            note(acknowledge(node))

    async def _preserve(self, node: FileNode, start: int, end: int) -> None:
        """What was acknowledged is safe from a change of ``[start, end)``, until the caller awaits something."""
        while self._ledger.guards(node, start, end):
            await self._unsealed(node)
            if node.state is not None and self._ledger.guards(node, start, end):
                async with self._using(node.state), sealed(node.state):
                    await self._ledger.preserve(node)

    def _changes(self, node: FileNode, staged: StagedFile, base: FileReader | None) -> Changes:
        retained = base.retain() if base is not None else None
        return Changes(staged, self._base_of(base), origin=partial(self._origin, node), base=retained)

    def _origin(self, node: FileNode) -> Origin:
        """Where a file is being written, and what its attributes or its directory's name as its earlier version."""
        path = path_of(node)
        named = node.xattrs.get(BASE_ATTRIBUTE)
        if named is None and node.parent is not None:
            named = node.parent.xattrs.get(BASE_ATTRIBUTE)
        return Origin(self._newest(), path, () if named is None else resolve_named(path, named))

    def _base_of(self, reader: FileReader | None) -> ReadBase:
        """How a worker thread reads the version under staged changes."""

        def read_base(offset: int, length: int) -> bytes:
            assert reader is not None
            return bytes(trio.from_thread.run(reader.read, offset, length))

        return read_base

    async def take_back(self, node: FileNode, content: Acknowledged, *, trim: bool = False) -> None:
        """Go on with a content that was acknowledged and is only in its local file, which the ledger keeps. OSError
        when the file is missing. The node has the version that shows through as its finished one. ``trim``: what lies
        behind the content in the file was written later and given up."""
        if content.file:
            reader = await self.reader(node)
            path = self._stage_dir / content.file
            manifest = reader.manifest if reader is not None else None
            staged = StagedFile.reopen(path, manifest, content.size, content.base_limit, content.present)
            if trim and os.fstat(staged.fd).st_size > content.size:
                os.ftruncate(staged.fd, content.size)
            node.state = self._changes(node, staged, reader)
        node.modified = node.written = True

    async def write(self, node: FileNode, offset: int, data: Buffer) -> int:
        """Write to the node; returns the number of bytes taken (all of them). After an OSError (ENOSPC, …) the staged
        changes are of no use: they are never finished, and go with the last writer."""
        end = offset + len(data)
        if self.write_now(node, offset, data):
            return len(data)
        await self.staged(node)
        while self._ledger.guards(node, offset, end):
            await self._preserve(node, offset, end)
            await self.staged(node)
        state = node.state
        assert state is not None
        self._touched(node)
        try:
            async with self._using(state):
                await self._local.write(state, offset, data)
        except OSError as error:
            state.failed = error
            raise
        self._written(node, state, end)
        return len(data)

    def write_now(self, node: FileNode, offset: int, data: Buffer) -> bool:
        """Write a few bytes without waiting; False when that cannot be: `write` has to be called. OSError as there."""
        state, end = node.state, offset + len(data)
        if state is None or state.sealed is not None or self._ledger.guards(node, offset, end):
            return False
        try:
            done = self._local.write_now(state, offset, data)
        except OSError as error:
            state.failed = error
            raise
        if done:
            self._written(node, state, end)
        return done

    def _written(self, node: FileNode, state: Changes, end: int) -> None:
        """Bytes up to ``end`` are in the local file: the file has changed, and what stands behind may go up."""
        self._touched(node)
        if self._write_back or state.retired or state.busy:
            return
        if span := self._uploader.ready_behind(state.staged, end):
            state.busy = True
            self._nursery.start_soon(self._advance, node, state, *span)

    async def _advance(self, node: FileNode, state: Changes, start: int, end: int) -> None:
        try:
            async with self._using(state):
                await self._uploader.advance(state, start, end)
        except (ModelfsError, OSError) as error:
            log.warning("upload behind the write head of %r: %s (close tries again)", path_of(node), error)
        except Exception:
            log.exception("upload behind the write head of %r: unexpected error (close tries again)", path_of(node))

    async def truncate(self, node: FileNode, size: int) -> None:
        """Set the file's size."""
        if size == node.size:
            return
        staged = await self.staged(node, discard=size == 0)
        while size < staged.size and self._ledger.guards(node, size, staged.size):
            await self._preserve(node, size, staged.size)
            staged = await self.staged(node)
        shown = staged.base_limit
        staged.truncate(size)
        self._touched(node)
        if staged.base_limit < shown:
            self._ledger.opened(node)

    def _touched(self, node: FileNode) -> None:
        node.modified = node.written = True
        node.mtime_ns = node.ctime_ns = time.time_ns()

    # -- finishing ----------------------------------------------------------------------------------------------

    async def finish(self, node: FileNode, may: Callable[[int], bool] = lambda generation: True) -> bool:
        """Make the current content the node's finished version; False when there was nothing to finish, or ``may`` says
        that the generation which was uploaded is none that others should see.

        StoreError and OSError pass through and leave the changes staged.
        """
        lock = self._finishing.setdefault(node.ino, trio.Lock())
        node.finishing += 1
        try:
            async with lock:
                if not node.modified:
                    return False
                if node.state is None:
                    node.modified = node.written = False
                    self._take_finished(node, Kind.INLINE, b"", 0)
                    return True
                state = node.state
                if state.failed is not None:
                    raise state.failed
                async with self._using(state):
                    try:
                        done = await self._uploader.finish(state)
                    except (ModelfsError, OSError):
                        if state.retired:  # unlinked and closed meanwhile: nobody wants it any more
                            return False
                        raise
                    if node.state is not state or not may(done.generation):
                        return False
                    if state.failed is not None:
                        raise state.failed
                    state.finished = done.generation
                    current = self._is_current(node, state, done)
                    if current:
                        node.modified = node.written = False
                    self._take_finished(node, done.kind, done.content, done.size)
                    if current:
                        await self._settle(node, state, done)
                return True
        finally:
            node.finishing -= 1
            if not lock.locked():
                self._finishing.pop(node.ino, None)

    def _take_finished(self, node: FileNode, kind: Kind, content: bytes, size: int) -> None:
        node.kind, node.content, node.finished_size = kind, content, size
        node.exists_finished = True
        node.theirs, node.removed = None, False
        self._on_finished(node)

    def take_over(self, node: FileNode, source: FileNode) -> None:
        """Give a new file, of which nothing is finished yet, the finished content of another: no bytes move."""
        self.discard(node)
        node.written = False
        node.mtime_ns = node.ctime_ns = time.time_ns()
        self._take_finished(node, source.kind, source.content, source.finished_size)

    def _is_current(self, node: FileNode, state: Changes, done: Finished) -> bool:
        """True when the finished version is all there is."""
        return node.state is state and state.staged.generation == done.generation and not state.writing

    async def _settle(self, node: FileNode, state: Changes, done: Finished) -> None:
        """Serve the finished version from the cache, to which the staged bytes go; writes wait that long."""

        def hand_over() -> None:
            if done.manifest is not None and state.staged.whole():
                os.ftruncate(state.staged.fd, done.size)
                path = state.staged.path
                self._source.cache.adopt(
                    ManifestId(done.content), done.manifest, path, keep=self._ledger.speaks_of(path)
                )

        if self._ledger.speaks_of(state.staged.path):
            # The cache gets the file under a second name, and may punch holes into it: the journal must not need it.
            await self._ledger.sync()
        await self._unsealed(node)
        if not self._is_current(node, state, done):  # written to in the instant before
            return
        async with sealed(state):
            reader = None
            if done.manifest is not None:
                await trio.to_thread.run_sync(hand_over, limiter=self._io)
                reader = await self._open_reader(node, ManifestId(done.content), done.manifest)
            old, node.reader = node.reader, reader
            self._retire(node)
        if old is not None:
            await old.release()
        if node.opens == 0:
            await self.release(node)

    async def release(self, node: FileNode) -> None:
        """Nobody has the node open: let go of its reader; staged changes stay until they are finished."""
        reader = node.reader
        if reader is not None and node.opens == 0 and node.state is None:
            node.reader = None
            await reader.release()

    def discard(self, node: FileNode, *, keep: bool = False) -> None:
        """The node's staged changes are of no use to it any more; ``keep``: their local file stays all the same."""
        node.modified = False
        self._retire(node, keep=keep)

    # -- staged changes in use ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _using(self, state: Changes) -> AsyncIterator[Changes]:
        """Work on staged changes in worker threads: their local file stays open until it is done."""
        state.users += 1
        try:
            yield state
        finally:
            state.users -= 1
            await self._dispose_if_unused(state)

    def _retire(self, node: FileNode, *, keep: bool = False) -> None:
        state, node.state = node.state, None
        if state is not None:
            state.retired, state.keep = True, keep or self._ledger.speaks_of(state.staged.path)
            if not state.users:
                self._nursery.start_soon(self._dispose_if_unused, state)

    async def _dispose_if_unused(self, state: Changes) -> None:
        if not state.retired or state.users:
            return
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(partial(state.staged.close, keep=state.keep), limiter=self._io)
            if state.base is not None:
                await state.base.release()
