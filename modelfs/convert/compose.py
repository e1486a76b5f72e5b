"""A plan becomes a file of the store: chunks that are there already where it can, new ones for the rest.

The file is cut as any writer would cut it, so the same model saved by its framework gives the same chunks. A tensor
whose source was cut otherwise (its writer did not know the format) keeps the chunks of the source that lie wholly in
it: any boundaries are valid, and its bytes are not stored again.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from modelfs import limits
from modelfs.chunking.cutter import Cutter
from modelfs.chunking.segments import Rule, Segment, segments
from modelfs.chunking.zeros import is_zero
from modelfs.convert.plan import Copy, Plan
from modelfs.errors import UsageError
from modelfs.formats import detect
from modelfs.formats.layout import Layout, read_all
from modelfs.repository.objects import Entry, Extent, Kind, Manifest
from modelfs.repository.repository import Repository, Tensor
from modelfs.writer.tensors import Tensors


@dataclass(frozen=True, slots=True)
class Composed:
    """A new file. ``shared``: its bytes in chunks that were the source's; ``sent``: bytes that went to the store."""

    entry: Entry
    shared: int
    sent: int


def compose(repo: Repository, plan: Plan, mode: int) -> Composed:
    """Write the planned file, its permissions being ``mode``; nothing refers to it yet."""
    if plan.size <= limits.INLINE_MAX:
        return Composed(_entry(Kind.INLINE, mode, plan.size, plan.read(0, plan.size)), 0, 0)
    layout = None if plan.format else read_all(detect.parse(plan.size), plan.outline)
    layout = layout or Layout(plan.format, tuple(plan.spans), plan.size)
    composer = _Composer(repo, plan, layout)
    manifest = Manifest(plan.size, composer.run(), repo.write_layout(layout) if layout.format else b"")
    return Composed(_entry(Kind.FILE, mode, plan.size, repo.write_manifest(manifest)), composer.shared, composer.sent)


def _entry(kind: Kind, mode: int, size: int, content: bytes) -> Entry:
    return Entry(b"", kind, mode, os.getuid(), os.getgid(), time.time_ns(), size, content)


class _Composer:
    """Makes the extents of one file, some chunks at a time."""

    def __init__(self, repo: Repository, plan: Plan, layout: Layout) -> None:
        self._repo = repo
        self._plan = plan
        self._params = repo.format.chunking
        self._segments = segments(layout, self._params)
        self._cutter = Cutter(self._params, layout)
        self._tensors = Tensors(layout)
        self._extents: list[Extent] = []
        self._waiting: deque[Extent | Future[tuple[Extent, int]]] = deque()
        self.shared = self.sent = 0

    def run(self) -> tuple[Extent, ...]:
        with ThreadPoolExecutor(limits.UPLOAD_THREADS, "compose") as pool:
            for segment in self._segments:
                for extent, position, length in self._parts(segment):
                    if extent is None:
                        self._store(pool, position, position + length)
                    else:
                        self.shared += length if extent.id else 0
                        self._waiting.append(extent)
                while len(self._waiting) > 2 * limits.UPLOAD_THREADS:
                    self._take()
            while self._waiting:
                self._take()
        return tuple(self._extents)

    def _parts(self, segment: Segment) -> Iterator[tuple[Extent | None, int, int]]:
        """(extent of the source or None, position, length) of a segment, in order. None: bytes that need a chunk."""
        position = first = segment.start
        piece, start = self._plan.piece(position)
        length = segment.end - position
        if segment.rule is Rule.FIXED and isinstance(piece, Copy) and start + piece.length >= segment.end:
            for extent, at, count in piece.file.extents(piece.offset + position - start, length):
                whole = not at and count == extent.length
                if whole or not extent.id:
                    if first < position:
                        yield None, first, position - first
                    yield (extent if whole else Extent(b"", count)), position, count
                    first = position + count
                position += count
        if first < segment.end:
            yield None, first, segment.end - first

    def _store(self, pool: ThreadPoolExecutor, position: int, end: int) -> None:
        """Chunks of our own for ``[position, end)``."""
        while position < end:
            window = memoryview(self._plan.read(position, min(2 * self._params.max_size, end - position)))
            done = 0
            for length in self._cutter.cut(window, position, position + len(window) == end):
                self._waiting.append(pool.submit(self._write, window[done : done + length], position + done))
                done += length
            position += done
            while len(self._waiting) > 2 * limits.UPLOAD_THREADS:
                self._take()

    def _write(self, piece: memoryview, position: int) -> tuple[Extent, int]:
        if is_zero(piece):
            return Extent(b"", len(piece)), 0
        _, element = self._tensors.at(position, len(piece))
        chunk, sent = self._repo.write_chunk(piece, Tensor(element))
        return Extent(chunk, len(piece)), sent

    def _take(self) -> None:
        found = self._waiting.popleft()
        extent, sent = (found, 0) if isinstance(found, Extent) else found.result()
        self.sent += sent
        if not extent.id and self._extents and not self._extents[-1].id:
            extent = Extent(b"", self._extents.pop().length + extent.length)
        self._extents.append(extent)
        if len(self._extents) > limits.MANIFEST_CHUNKS_MAX:
            raise UsageError(f"a file has at most {limits.MANIFEST_CHUNKS_MAX:,} chunks")
