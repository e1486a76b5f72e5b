"""A plan becomes a file of the store: chunks that are there already where it can, new ones for the rest.

The file is cut as any writer would cut it, so the same model saved by its framework gives the same chunks. A tensor
whose source was cut otherwise (its writer did not know the format) keeps the chunks of the source that lie wholly in
it: any boundaries are valid, and its bytes are not stored again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
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
    layout = read_all(detect.parse(plan.size), plan.outline) or Layout(plan.format, tuple(plan.spans), plan.size)
    composer = _Composer(repo, plan, layout)
    manifest = Manifest(plan.size, composer.run(), repo.write_layout(layout) if layout.format else b"")
    return Composed(_entry(Kind.FILE, mode, plan.size, repo.write_manifest(manifest)), composer.shared, composer.sent)


def _entry(kind: Kind, mode: int, size: int, content: bytes) -> Entry:
    return Entry(b"", kind, mode, os.getuid(), os.getgid(), time.time_ns(), size, content)


class _Composer:
    def __init__(self, repo: Repository, plan: Plan, layout: Layout) -> None:
        self._repo = repo
        self._plan = plan
        self._params = repo.format.chunking
        self._segments = segments(layout, self._params)
        self._cutter = Cutter(self._params, layout)
        self._tensors = Tensors(layout)
        self._extents: list[Extent] = []
        self.shared = self.sent = 0

    def run(self) -> tuple[Extent, ...]:
        for segment in self._segments:
            piece, start = self._plan.piece(segment.start)
            if segment.rule is Rule.FIXED and isinstance(piece, Copy) and start + piece.length >= segment.end:
                for extent, position, length in self._shared(piece, start, segment):
                    if extent is None:
                        self._store(position, position + length)
                    else:
                        self._add(extent)
                        self.shared += length if extent.id else 0
            else:
                self._store(segment.start, segment.end)
        return tuple(self._extents)

    def _shared(self, piece: Copy, start: int, segment: Segment) -> Iterator[tuple[Extent | None, int, int]]:
        """(extent of the source or None, position, length) of a tensor, in order. None: bytes that need a chunk."""
        position = first = segment.start
        for extent, at, length in piece.file.extents(piece.offset + segment.start - start, segment.end - segment.start):
            whole = not at and length == extent.length
            if whole or not extent.id:
                if first < position:
                    yield None, first, position - first
                yield (extent if whole else Extent(b"", length)), position, length
                first = position + length
            position += length
        if first < segment.end:
            yield None, first, segment.end - first

    def _store(self, position: int, end: int) -> None:
        """Chunks of our own for ``[position, end)``."""
        while position < end:
            window = memoryview(self._plan.read(position, min(2 * self._params.max_size, end - position)))
            done = 0
            for length in self._cutter.cut(window, position, position + len(window) == end):
                self._write(window[done : done + length], position + done)
                done += length
            position += done

    def _write(self, piece: memoryview, position: int) -> None:
        if is_zero(piece):
            self._add(Extent(b"", len(piece)))
            return
        _, element = self._tensors.at(position, len(piece))
        chunk, sent = self._repo.write_chunk(piece, Tensor(element))
        self.sent += sent
        self._add(Extent(chunk, len(piece)))

    def _add(self, extent: Extent) -> None:
        if not extent.id and self._extents and not self._extents[-1].id:
            extent = Extent(b"", self._extents.pop().length + extent.length)
        self._extents.append(extent)
        if len(self._extents) > limits.MANIFEST_CHUNKS_MAX:
            raise UsageError(f"a file has at most {limits.MANIFEST_CHUNKS_MAX:,} chunks")
