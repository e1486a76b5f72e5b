"""Cuts the bytes of one file into chunks, window by window.

The same file gives the same chunks however it is split into windows, so a writer may cut behind its write head.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right

from modelfs import limits
from modelfs.chunking import cdc
from modelfs.chunking.params import ChunkParams
from modelfs.chunking.segments import Rule, Segment, next_cut, segments
from modelfs.formats.layout import Layout


class Cutter:
    """The boundaries of one file. Stateless between calls; safe to use from several threads."""

    def __init__(self, params: ChunkParams, layout: Layout | None) -> None:
        """``layout`` None: of an unknown format."""
        self._params = params
        self._segments = segments(layout, params) if layout is not None else []
        self._starts = [segment.start for segment in self._segments]
        self._known = self._segments[-1].end if self._segments else 0
        self._complete = layout is None or layout.complete

    def cut(self, window: memoryview, offset: int, at_end: bool) -> list[int]:
        """Lengths of the chunks at the start of ``window`` that more bytes would not change.

        ``window`` holds the file's bytes from ``offset`` on, which is where a chunk begins. ``at_end``: the file (or
        what is to be cut of it) ends with the window, so all of it is cut. Of a window of at least
        ``2 * max_size`` bytes something is always cut, unless its layout is not known so far.
        """
        lengths: list[int] = []
        position, end = offset, offset + len(window)
        while position < end:
            segment = self._segment(position)
            if segment is None:
                break
            stop = min(segment.end, end)
            if segment.rule is Rule.CONTENT:
                whole = at_end or segment.end <= end
                found = cdc.cut(window[position - offset : stop - offset], self._params, at_end=whole)
                lengths += found
                position += sum(found)
                if position < stop:
                    break
                continue
            cut = next_cut(segment, position, self._params)
            if cut > end:
                if not at_end:
                    break
                cut = end
            lengths.append(cut - position)
            position = cut
        return lengths

    def knows(self, position: int) -> bool:
        """False where the layout is not known so far: nothing can be cut there."""
        return self._complete or position < self._known

    def agrees_until(self, other: Cutter) -> int:
        """Where the first byte lies before which both cut alike."""
        for ours, theirs in itertools.zip_longest(self._segments, other._segments):
            if ours != theirs:
                return min(segment.start for segment in (ours, theirs) if segment is not None)
        return limits.FILE_SIZE_MAX if self._complete and other._complete else self._known

    def _segment(self, position: int) -> Segment | None:
        if position >= self._known:
            return Segment(self._known, 1 << 63, Rule.CONTENT) if self._complete else None
        return self._segments[bisect_right(self._starts, position) - 1]
