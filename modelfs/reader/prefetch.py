"""Read-ahead of one open file: a window for each place where it is being read in order, nothing for random access.

Programs read one file in several places at once (two threads sum up a mapped tensor, each its half), so an open file
has several streams. A stream's window grows with what was read in order, up to a budget, and there is none before the
kernel's own read-ahead was consumed: a reader that takes just the header of a large file fetches little else.

Where the tensors of the file are known, a reader that begins with a tensor's first page gets the rest of that tensor
at once, and as much of the next ones as it has begun one after the other before: who loads all of them touches the
first page of each before anything else, and would wait for the store at every one. Else no window reaches behind the
tensor in which its stream began until the stream has clearly gone on to the next: what the kernel reads around a page
by itself, its read-ahead size in front and twice that behind, says nothing.

Pure bookkeeping; the mount starts the fetches.
"""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from modelfs import limits

_FAR: Final = 2 * limits.KERNEL_READAHEAD  # the kernel reads ahead twice as far when it was told to expect order


class Tensors:
    """Where the tensors of a file lie: byte ranges, sorted, none within another."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        known = sorted(ranges)
        self._starts = [start for start, _ in known]
        self._ends = [end for _, end in known]

    def at(self, offset: int) -> tuple[int, int] | None:
        """The tensor at ``offset``, else the next one."""
        i = bisect_right(self._ends, offset)
        return (self._starts[i], self._ends[i]) if i < len(self._ends) else None


class Readahead:
    """Decides, read by read, which range of one open file to fetch ahead."""

    __slots__ = ("_begun", "_row", "_streams")

    def __init__(self) -> None:
        self._streams: list[_Stream] = []  # the one that was read last in front
        self._begun = (-1, -1)  # the tensor that was begun last
        self._row = 0  # bytes of those that were begun before it, each behind the other

    def advance(self, offset: int, length: int, tensors: Tensors | None) -> tuple[int, int] | None:
        """Note a read; return the range to prefetch now, or None. ``tensors`` None: not known yet, which means to
        wait."""
        end = offset + length
        for i, stream in enumerate(self._streams):
            if stream.continued_by(offset, end):
                if i:
                    self._streams.insert(0, self._streams.pop(i))
                fresh = stream.note(offset, end)
                return (fresh and self._begin(stream, tensors, length)) or stream.advance(tensors)
        stream = _Stream(offset, end)
        self._streams.insert(0, stream)
        del self._streams[limits.PREFETCH_STREAMS :]
        return self._begin(stream, tensors, length)

    def _begin(self, stream: _Stream, tensors: Tensors | None, length: int) -> tuple[int, int] | None:
        """The rest of the tensor that a stream begins with, and what follows when tensors are begun in a row."""
        tensor = stream.tensor(tensors, length)
        if tensor is None:
            return None
        if tensor != self._begun:
            start, end = self._begun
            self._row = self._row + end - start if 0 <= tensor[0] - end <= _FAR else 0
            self._begun = tensor
        return stream.ask(tensor[1] + self._row)


class _Stream:
    """One place of a file that is being read in order."""

    __slots__ = ("_ahead", "_begun", "_next", "_run")

    def __init__(self, offset: int, end: int) -> None:
        self._begun = offset  # where reading in order began
        self._next = self._ahead = end  # where it would go on; asked for up to here
        self._run = end - offset  # bytes read in order so far

    @property
    def in_order(self) -> bool:
        return self._run > _FAR

    def continued_by(self, offset: int, end: int) -> bool:
        """True when a read is a part of this stream. The kernel sends several requests of one read-ahead at once and
        not always in order, so what is near the expected place counts."""
        return offset <= self._next + _FAR and end >= self._next - _FAR

    def tensor(self, tensors: Tensors | None, length: int) -> tuple[int, int] | None:
        """The tensor that is read from its beginning, as the first pages that are read tell.

        A page that is touched in mapped memory lies in the middle of what the kernel reads around it, or at the end of
        the first half when it was told to expect order. Short requests are somebody who looks at what stands before a
        tensor, as at the headers in a zip archive.
        """
        if tensors is None or not self._begun or length < limits.FUSE_MAX_IO // 2:
            return None
        around = limits.KERNEL_READAHEAD
        for touched in (self._begun, self._begun + around // 2, self._begun + around):
            page = touched // mmap.PAGESIZE
            tensor = tensors.at((page + 1) * mmap.PAGESIZE - 1)
            if touched < self._next and tensor is not None and tensor[0] // mmap.PAGESIZE == page:
                return tensor
        return None

    def note(self, offset: int, end: int) -> bool:
        """Another read of the stream; True while it may still be what the kernel reads around its first page."""
        fresh = self._run <= _FAR
        self._run += max(0, end - self._next)
        self._next = max(self._next, end)
        if fresh:
            self._begun = min(self._begun, offset)
        return fresh

    def advance(self, tensors: Tensors | None) -> tuple[int, int] | None:
        """What to fetch ahead after a read that was noted."""
        if not self.in_order or tensors is None:
            return None
        window = min(self._run, limits.PREFETCH_MAX)
        stop = self._next + window
        last = self._end_of_tensor(tensors)
        if last is not None and last < stop:
            return self.ask(last)
        if stop - self._ahead < min(window // 2, limits.PREFETCH_STEP):
            return None
        return self.ask(stop)

    def ask(self, stop: int) -> tuple[int, int] | None:
        """What is not asked for yet up to ``stop``, within the budget."""
        start, stop = max(self._ahead, self._next), min(stop, self._next + limits.PREFETCH_MAX)
        if stop <= start:
            return None
        self._ahead = stop
        return start, stop

    def _end_of_tensor(self, tensors: Tensors) -> int | None:
        """Where the tensor ends in which the stream began; None once it has gone on, or without tensors."""
        home = tensors.at(self._begun)
        if home is not None and self._next > home[1]:
            # It may have begun with what lies around the first page of the tensor after that.
            home = tensors.at(self._begun + _FAR + limits.FUSE_MAX_IO)
        if home is None or self._next > home[1] + 3 * _FAR:
            return None
        return home[1]
