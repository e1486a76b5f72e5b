"""Where chunks end: the same however the bytes arrive, stable under changes nearby, within the bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfs.chunking.cutter import Cutter
from modelfs.chunking.params import ChunkParams
from modelfs.chunking.segments import segments
from modelfs.chunking.zeros import is_zero
from modelfs.formats.layout import Layout, Span

SMALL = ChunkParams(min_size=256, avg_size=1024, max_size=4096, group_size=512)


def _bytes(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def _layout(sizes: list[int], header: int, tail: int = 0) -> Layout:
    spans, at = [], header
    for number, size in enumerate(sizes):
        spans.append(Span(at, size, "F32", (size // 4,), f"layer.{number}.weight"))
        at += size
    return Layout("test", tuple(spans), at + tail)


def _cut_in_windows(cutter: Cutter, data: bytes, windows: list[int]) -> list[int]:
    """Cut as a writer does: whatever has arrived so far, from where the last cut ended."""
    lengths: list[int] = []
    have = at = 0
    pieces = iter(windows)
    while at < len(data):
        have = min(len(data), max(have, at) + next(pieces, 2 * SMALL.max_size))
        done = cutter.cut(memoryview(data)[at:have], at, have == len(data))
        lengths += done
        at += sum(done)
    return lengths


_layouts = st.one_of(
    st.none(),
    st.builds(_layout, st.lists(st.integers(0, 9000), max_size=12), st.integers(0, 3000), st.integers(0, 3000)),
)


@settings(max_examples=150, deadline=None)
@given(_layouts, st.integers(0, 40_000), st.integers(0, 1000), st.lists(st.integers(1, 9000), max_size=40))
def test_chunks_do_not_depend_on_how_the_bytes_arrive(
    layout: Layout | None, length: int, seed: int, windows: list[int]
) -> None:
    data = _bytes(seed, length)
    cutter = Cutter(SMALL, layout)
    whole = cutter.cut(memoryview(data), 0, True) if data else []
    assert sum(whole) == length
    assert all(0 < n <= SMALL.max_size for n in whole)
    assert _cut_in_windows(cutter, data, windows) == whole


@settings(max_examples=100, deadline=None)
@given(_layouts, st.integers(0, 50_000), st.integers(0, 1000))
def test_a_window_of_twice_the_maximum_always_gives_a_chunk(layout: Layout | None, offset: int, seed: int) -> None:
    window = memoryview(_bytes(seed, 2 * SMALL.max_size))
    assert Cutter(SMALL, layout).cut(window, offset, False)


@settings(max_examples=100, deadline=None)
@given(_layouts)
def test_segments_cover_the_file(layout: Layout | None) -> None:
    if layout is None:
        return
    at = 0
    for segment in segments(layout, SMALL):
        assert segment.start == at
        assert segment.end > at
        at = segment.end
    assert at == layout.size


def _chunks(data: bytes, layout: Layout | None) -> list[bytes]:
    out, at = [], 0
    for length in Cutter(SMALL, layout).cut(memoryview(data), 0, True):
        out.append(data[at : at + length])
        at += length
    return out


def test_a_tensor_gives_the_same_chunks_wherever_it_lies() -> None:
    tensor = _bytes(1, 10_000)
    first = _layout([10_000], header=100)
    second = _layout([700, 10_000, 3000], header=2222)
    a = _chunks(_bytes(2, 100) + tensor, first)
    b = _chunks(_bytes(3, 2922) + tensor + _bytes(4, 3000), second)
    assert set(_chunks(tensor, _layout([10_000], 0))) <= set(a) & set(b)


def test_rows_appended_to_a_tensor_change_only_its_end() -> None:
    old, new = _bytes(1, 10_000), _bytes(1, 10_000) + _bytes(9, 2000)
    a, b = _chunks(old, _layout([10_000], 0)), _chunks(new, _layout([12_000], 0))
    assert a[:-1] == b[: len(a) - 1]


def test_groups_of_small_tensors_survive_a_new_neighbour() -> None:
    tensors = [_bytes(i, 100) for i in range(200)]

    def chunks(names: list[int]) -> set[bytes]:
        spans = tuple(Span(i * 100, 100, "F32", (25,), f"block.{n}.bias") for i, n in enumerate(names))
        return set(_chunks(b"".join(tensors[n] for n in names), Layout("test", spans, 100 * len(names))))

    before, after = chunks(list(range(199))), chunks([199, *range(199)])
    assert len(before - after) <= 3
    assert len(before) > 8


def test_an_insertion_into_unknown_bytes_changes_few_chunks() -> None:
    data = _bytes(5, 200_000)
    changed = data[:50_000] + b"inserted" + data[50_000:]
    assert len(set(_chunks(data, None)) - set(_chunks(changed, None))) <= 3


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_zeros(kind: type) -> None:
    assert is_zero(kind(bytes(10_000)))
    assert is_zero(kind(b""))
    for position in (0, 1, 4999, 9999):
        data = bytearray(10_000)
        data[position] = 1
        assert not is_zero(kind(data))
