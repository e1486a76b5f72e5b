"""Read-ahead of one open file: a window that grows while access is sequential, and nothing for random access.

The window is half of what the reader has already consumed in order, and there is none before the kernel's own
read-ahead was consumed: so a reader that takes one tensor out of a large file, or just its header, fetches little
else. Pure bookkeeping; the mount starts the fetches.
"""

from __future__ import annotations

from modelfs import limits


class Window:
    """Decides, read by read, up to which offset to fetch ahead."""

    __slots__ = ("_ahead", "_next", "_run")

    def __init__(self) -> None:
        self._next = 0  # where a sequential reader would go on
        self._run = 0  # bytes read in order so far
        self._ahead = 0  # asked for up to here

    def advance(self, offset: int, length: int) -> tuple[int, int] | None:
        """Note a read; return the range to prefetch now, or None.

        The kernel sends several requests of one read-ahead at once and not always in order, so anything within
        its read-ahead size of the expected place counts as sequential.
        """
        end = offset + length
        slack = limits.KERNEL_READAHEAD
        if offset <= self._next + slack and end >= self._next - slack:
            self._run += max(0, end - self._next)
            self._next = max(self._next, end)
        else:
            self._next, self._run, self._ahead = end, length, end
            return None
        if self._run <= limits.KERNEL_READAHEAD:
            return None
        window = min(self._run // 2, limits.PREFETCH_MAX)
        start, stop = max(self._ahead, end), self._next + window
        if stop - start < min(window // 2, limits.PREFETCH_STEP):
            return None
        self._ahead = stop
        return start, stop
