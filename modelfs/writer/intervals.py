"""A set of non-overlapping byte ranges: which parts of a staged file are present. Pure; called by `staging`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class IntervalSet:
    """Half-open ranges ``[start, end)`` of non-negative integers, kept sorted and merged."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Add ``[start, end)``; neighbours that touch are merged."""
        if start >= end:
            return
        lo = bisect_left(self._ends, start)
        hi = bisect_right(self._starts, end)
        if lo < hi:
            start = min(start, self._starts[lo])
            end = max(end, self._ends[hi - 1])
        self._starts[lo:hi] = [start]
        self._ends[lo:hi] = [end]

    def remove(self, start: int, end: int) -> None:
        """Take ``[start, end)`` out; ranges that reach over its edges are cut."""
        if start >= end:
            return
        lo = bisect_right(self._ends, start)
        hi = bisect_left(self._starts, end)
        if lo >= hi:
            return
        starts, ends = [], []
        if self._starts[lo] < start:
            starts.append(self._starts[lo])
            ends.append(start)
        if self._ends[hi - 1] > end:
            starts.append(end)
            ends.append(self._ends[hi - 1])
        self._starts[lo:hi] = starts
        self._ends[lo:hi] = ends

    def covers(self, start: int, end: int) -> bool:
        """True when all of ``[start, end)`` is in the set."""
        if start >= end:
            return True
        i = bisect_right(self._starts, start) - 1
        return i >= 0 and self._ends[i] >= end

    def split(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Cut ``[start, end)`` into consecutive ``(start, end, present)`` pieces, in order."""
        pos = start
        i = bisect_right(self._ends, start)
        while pos < end:
            if i >= len(self._starts) or self._starts[i] >= end:
                yield pos, end, False
                return
            if self._starts[i] > pos:
                yield pos, self._starts[i], False
                pos = self._starts[i]
            stop = min(end, self._ends[i])
            yield pos, stop, True
            pos = stop
            i += 1

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def total(self) -> int:
        """Number of integers in the set."""
        return sum(self._ends) - sum(self._starts)
