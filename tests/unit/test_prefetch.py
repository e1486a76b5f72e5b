"""What is fetched ahead of a reader: more the longer it reads in order, and no neighbour of a single tensor."""

from __future__ import annotations

from itertools import pairwise

from modelfs import limits
from modelfs.reader.prefetch import Window

MiB = limits.MiB
ENDS = [20 * MiB * i for i in range(1, 101)]


def read(window: Window, start: int, end: int, ends: list[int] | None) -> list[tuple[int, int]]:
    """Read ``[start, end)`` in requests of 1 MiB; what was asked for ahead."""
    asked = [window.advance(at, MiB, ends) for at in range(start, end, MiB)]
    return [ahead for ahead in asked if ahead is not None]


def test_reading_in_order_is_fetched_ahead_without_gaps() -> None:
    asked = read(Window(), 0, 200 * MiB, [])
    assert asked[0][0] > limits.KERNEL_READAHEAD
    assert all(a[1] == b[0] for a, b in pairwise(asked))
    assert asked[-1][1] > 200 * MiB
    assert max(b - a for a, b in asked) <= limits.PREFETCH_MAX


def test_reading_here_and_there_is_not() -> None:
    window = Window()
    assert [a for n in range(50) if (a := window.advance(n * 37 % 50 * 40 * MiB, MiB)) is not None] == []


def test_a_reader_of_one_tensor_gets_no_neighbour() -> None:
    """The kernel reads around the first page and ahead behind the last."""
    begin, end = ENDS[9], ENDS[10]
    asked = read(Window(), begin - 4 * MiB - 4096, end + 8 * MiB, ENDS)
    assert asked
    assert max(stop for _, stop in asked) == end


def test_a_reader_of_the_whole_file_is_fetched_ahead_across_tensors() -> None:
    window = Window()
    first = read(window, 0, 30 * MiB, ENDS)
    assert max(stop for _, stop in first) == ENDS[0]
    later = read(window, 30 * MiB, 200 * MiB, ENDS)
    assert max(stop for _, stop in later) > 200 * MiB


def test_tensors_that_are_small_do_not_hold_a_reader_up() -> None:
    ends = [100_000 * i for i in range(1, 5000)]
    asked = read(Window(), 0, 60 * MiB, ends)
    assert max(stop for _, stop in asked) > 60 * MiB


def test_nothing_is_fetched_ahead_while_the_tensors_are_being_looked_up() -> None:
    window = Window()
    assert read(window, 0, 40 * MiB, None) == []
    assert window.in_order
    assert read(window, 40 * MiB, 60 * MiB, ENDS)
