"""What is fetched ahead of a reader: more the longer it reads in order, and no neighbour of a single tensor."""

from __future__ import annotations

from itertools import pairwise

from modelfs import limits
from modelfs.reader.prefetch import Readahead, Tensors

MiB = limits.MiB
NONE = Tensors()
HEADER = 10_000
RANGES = [(HEADER + 20 * MiB * i, HEADER + 20 * MiB * (i + 1)) for i in range(100)]
TENSORS = Tensors(RANGES)


def read(handle: Readahead, start: int, end: int, tensors: Tensors | None) -> list[tuple[int, int]]:
    """Read ``[start, end)`` in requests of 1 MiB; what was asked for ahead."""
    asked = [handle.advance(at, MiB, tensors) for at in range(start, end, MiB)]
    return [ahead for ahead in asked if ahead is not None]


def test_reading_in_order_is_fetched_ahead_without_gaps() -> None:
    asked = read(Readahead(), 0, 200 * MiB, NONE)
    assert asked[0][0] > limits.KERNEL_READAHEAD
    assert all(a[1] == b[0] for a, b in pairwise(asked))
    assert asked[-1][1] > 200 * MiB
    assert max(b - a for a, b in asked) <= limits.PREFETCH_MAX


def test_reading_here_and_there_is_not() -> None:
    handle = Readahead()
    assert [a for n in range(50) if (a := handle.advance(n * 37 % 50 * 40 * MiB, MiB, NONE)) is not None] == []


def test_several_places_are_read_in_order_at_once() -> None:
    handle, places = Readahead(), [100 * MiB * i for i in range(limits.PREFETCH_STREAMS)]
    asked = [ahead for at in range(0, 60 * MiB, MiB) for place in places for ahead in read_one(handle, place + at)]
    for place in places:
        assert any(place < start and stop > place + 60 * MiB for start, stop in asked)


def read_one(handle: Readahead, at: int) -> list[tuple[int, int]]:
    """One request."""
    return read(handle, at, at + 1, NONE)


def test_who_touches_the_first_page_of_a_tensor_gets_the_rest_of_it_at_once() -> None:
    start, end = RANGES[10]
    page = start // 4096 * 4096
    for before in (0, limits.KERNEL_READAHEAD // 2, limits.KERNEL_READAHEAD):
        handle = Readahead()
        asked = read(handle, page - before, page + max(before, MiB), TENSORS)
        assert [stop for _, stop in asked] == [end]
        assert asked[0][0] <= page + MiB
    handle = Readahead()
    behind = handle.advance(page, MiB, TENSORS)
    assert behind == (page + MiB, end)
    assert handle.advance(page - MiB, MiB, TENSORS) is None, "the kernel sent the first half second"


def test_who_looks_at_a_header_before_a_tensor_or_into_its_middle_does_not() -> None:
    start, end = RANGES[10]
    assert Readahead().advance(start // 4096 * 4096, 128 * 1024, TENSORS) is None
    assert Readahead().advance(start + 7 * MiB, MiB, TENSORS) is None
    assert read(Readahead(), end - MiB // 4 * 5, end + MiB // 4 * 3, TENSORS) == [], "around its last page"
    assert Readahead().advance(0, MiB, TENSORS) is None


def test_a_reader_of_one_tensor_gets_no_neighbour() -> None:
    """The kernel reads around the first page and ahead behind the last."""
    begin, end = RANGES[10]
    asked = read(Readahead(), begin - limits.KERNEL_READAHEAD // 2, end + 4 * limits.KERNEL_READAHEAD, TENSORS)
    assert asked
    assert max(stop for _, stop in asked) == end


def test_who_touches_one_tensor_after_the_other_gets_the_next_ones_too() -> None:
    """As `safetensors.torch.load_file` does, before anything else is read."""
    handle = Readahead()

    def touch(start: int) -> int:
        page = start // 4096 * 4096
        asked = read(handle, page - limits.KERNEL_READAHEAD // 2, page + limits.KERNEL_READAHEAD // 2, TENSORS)
        return max(stop for _, stop in asked)

    assert touch(RANGES[10][0]) == RANGES[10][1]
    assert touch(RANGES[11][0]) == RANGES[12][1]
    assert touch(RANGES[12][0]) == RANGES[14][1]
    assert RANGES[15][1] < touch(RANGES[13][0]) <= RANGES[13][0] + limits.PREFETCH_MAX + limits.KERNEL_READAHEAD
    assert touch(RANGES[30][0]) == RANGES[30][1], "a tensor elsewhere"
    assert touch(RANGES[29][0]) == RANGES[29][1], "nor is it a row backwards"
    assert touch(RANGES[31][0]) == RANGES[31][1], "or with one left out"


def test_a_reader_of_the_whole_file_is_fetched_ahead_across_tensors() -> None:
    handle = Readahead()
    first = read(handle, 0, 24 * MiB, TENSORS)
    assert max(stop for _, stop in first) == RANGES[0][1]
    later = read(handle, 24 * MiB, 200 * MiB, TENSORS)
    assert max(stop for _, stop in later) > 200 * MiB


def test_tensors_that_are_small_do_not_hold_a_reader_up() -> None:
    small = Tensors((100_000 * i, 100_000 * (i + 1)) for i in range(5000))
    asked = read(Readahead(), 0, 60 * MiB, small)
    assert max(stop for _, stop in asked) > 60 * MiB


def test_nothing_is_fetched_ahead_while_the_tensors_are_being_looked_up() -> None:
    handle = Readahead()
    assert read(handle, 0, 40 * MiB, None) == []
    assert read(handle, 40 * MiB, 60 * MiB, TENSORS)
