"""Read-ahead of one open file: a window that grows while access is sequential, and nothing for random access.

The window is half of what the reader has already consumed in order, and there is none before the kernel's own
read-ahead was consumed: so a reader that takes just the header of a large file fetches little else. Where the file's
tensors are known, the window ends with the tensor in which the reader began, until it has clearly gone on to the next:
what the kernel reads around a page by itself, up to its read-ahead size in front and twice that behind, says nothing.
Pure bookkeeping; the mount starts the fetches.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from modelfs import limits


class Window:
    """Decides, read by read, up to which offset to fetch ahead."""

    __slots__ = ("_ahead", "_begun", "_next", "_run")

    def __init__(self) -> None:
        self._begun = 0  # where reading in order began
        self._next = 0  # where a sequential reader would go on
        self._run = 0  # bytes read in order so far
        self._ahead = 0  # asked for up to here

    @property
    def in_order(self) -> bool:
        """True when more was read in order than the kernel reads by itself."""
        return self._run > limits.KERNEL_READAHEAD

    def advance(self, offset: int, length: int, tensor_ends: Sequence[int] | None = ()) -> tuple[int, int] | None:
        """Note a read; return the range to prefetch now, or None. ``tensor_ends``: where the tensors of the file end,
        sorted; empty when it has none, None while that is not known, which means to wait.

        The kernel sends several requests of one read-ahead at once and not always in order, so anything within
        its read-ahead size of the expected place counts as sequential.
        """
        end = offset + length
        slack = limits.KERNEL_READAHEAD
        if offset <= self._next + slack and end >= self._next - slack:
            self._run += max(0, end - self._next)
            self._next = max(self._next, end)
        else:
            self._begun, self._next, self._run, self._ahead = offset, end, length, end
            return None
        if not self.in_order or tensor_ends is None:
            return None
        window = min(self._run // 2, limits.PREFETCH_MAX)
        start, stop = max(self._ahead, end), self._next + window
        last = self._end_of_tensor(tensor_ends)
        if last is not None and last < stop:
            stop = last
            if stop <= start:
                return None
        elif stop - start < min(window // 2, limits.PREFETCH_STEP):
            return None
        self._ahead = stop
        return start, stop

    def _end_of_tensor(self, tensor_ends: Sequence[int]) -> int | None:
        """Where the tensor ends in which the reader began; None once it has gone on, or without tensors."""
        home = bisect_right(tensor_ends, self._begun)
        if home < len(tensor_ends) and self._next > tensor_ends[home]:
            # It may have begun with what lies around the first page of the tensor after that.
            home = bisect_right(tensor_ends, self._begun + limits.KERNEL_READAHEAD + limits.FUSE_MAX_IO)
        if home == len(tensor_ends) or self._next > tensor_ends[home] + 3 * limits.KERNEL_READAHEAD:
            return None
        return tensor_ends[home]
