"""Interval sets against a set of integers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelfs.writer.intervals import IntervalSet

_steps = st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 40)), max_size=40)


@given(_steps, st.integers(0, 40), st.integers(0, 40))
def test_against_a_set(steps: list[tuple[bool, int, int]], start: int, end: int) -> None:
    made, model = IntervalSet(), set[int]()
    for add, a, b in steps:
        if add:
            made.add(a, b)
            model |= set(range(a, b))
        else:
            made.remove(a, b)
            model -= set(range(a, b))
    ranges = list(made)
    assert {i for a, b in ranges for i in range(a, b)} == model
    assert all(a < b for a, b in ranges)
    assert all(ranges[i][1] < ranges[i + 1][0] for i in range(len(ranges) - 1))
    assert made.total() == len(model)
    assert made.covers(start, end) == (set(range(start, end)) <= model)
    pieces = list(made.split(start, end)) if start < end else []
    assert [i for a, b, _ in pieces for i in range(a, b)] == list(range(start, end))
    for a, b, present in pieces:
        assert all((i in model) == present for i in range(a, b))
