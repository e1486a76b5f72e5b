"""What the pages draw and remember: throughput, strips of files, charts, what is forgotten."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfs import limits
from modelfs.reader.residency import ResidentTensor
from modelfs.ui import render
from modelfs.ui.draw import HEIGHT, LEFT, STRIP, TOP, WIDTH, chart, quarters, segments, strip
from modelfs.ui.remembered import Remembered
from modelfs.ui.throughput import COUNTERS, Throughput


def told(pid: int, *counts: int) -> dict[str, Any]:
    return {"pid": pid, **dict(zip(COUNTERS, counts, strict=True))}


def test_rates_are_differences_over_time() -> None:
    seen = Throughput()
    seen.note(10.0, told(1, 0, 0, 0, 0))
    seen.note(12.0, told(1, 4000, 2000, 0, 10))
    seen.note(16.0, told(1, 4000, 6000, 8, 10))
    assert [dict(rate.by) for rate in seen.rates] == [
        {"read_bytes": 2000, "written_bytes": 1000, "store_received_bytes": 0, "store_sent_bytes": 5},
        {"read_bytes": 0, "written_bytes": 1000, "store_received_bytes": 2, "store_sent_bytes": 0},
    ]


@pytest.mark.parametrize("between", [None, told(2, 0, 0, 0, 0)])
def test_silence_and_another_daemon_are_gaps(between: dict[str, Any] | None) -> None:
    seen = Throughput()
    for at, facts in enumerate([told(1, 0, 0, 0, 0), told(1, 5, 0, 0, 0), between, told(1, 50, 0, 0, 0)]):
        seen.note(float(at), facts)
    seen.note(4.0, told(1, 60, 0, 0, 0))
    assert [(rate.start, rate.end) for rate in seen.rates] == [(0, 1), (3, 4)]
    assert chart(tuple(seen.rates), 4.0, [("read_bytes", "read")]).lines[0].path.count("M") == 2


def test_the_ring_is_bounded_and_no_rate_is_negative() -> None:
    seen = Throughput(capacity=10)
    for i in range(100):
        seen.note(float(i), told(1, 100 - i, i, 0, 0))
    assert len(seen.rates) == 10
    assert {rate.by["read_bytes"] for rate in seen.rates} == {0}


def test_charts_stay_in_their_box() -> None:
    seen = Throughput()
    for i in range(limits.UI_SAMPLES + 50):
        seen.note(2.0 * i, told(1, i * i * 1000, 7 * i, 0, 0))
    now = 2.0 * (limits.UI_SAMPLES + 49)
    made = chart(tuple(seen.rates), now, [("read_bytes", "read"), ("written_bytes", "written")])
    for line in made.lines:
        points = [tuple(map(float, part.split())) for part in line.path.replace("M", "L").split("L")[1:]]
        assert all(LEFT <= x <= WIDTH and TOP <= y <= HEIGHT for x, y in points)
    assert made.lines[0].peak >= made.lines[0].mean >= made.lines[1].mean > 0
    assert made.minutes == 30
    assert len(made.lines[0].path) < 40_000


def test_a_chart_of_nothing_is_a_chart() -> None:
    made = chart((), 5.0, [("read_bytes", "read")])
    assert made.lines[0].path == ""
    assert made.rows[0][1] == "0"


@given(st.integers(1, 10**13), st.lists(st.floats(0, 1), max_size=40), st.integers(1, 300))
def test_strips_tile_the_file(length: int, edges: list[float], cells: int) -> None:
    offsets = sorted({int(length * edge) for edge in edges})
    ranges = list(zip(offsets[::2], offsets[1::2], strict=False))
    drawn = strip(length, ranges, cells)
    assert 1 <= len(drawn) <= cells
    assert sum(cell.width for cell in drawn) == pytest.approx(STRIP, abs=0.02 * len(drawn))
    assert all(a.share != b.share for a, b in pairwise(drawn))
    if not ranges:
        assert {cell.share for cell in drawn} == {0}


def test_shares_tell_nothing_and_all_from_the_rest() -> None:
    assert [quarters(n, 100) for n in (0, 1, 50, 99, 100)] == [0, 1, 2, 3, 4]
    assert strip(0, []) == []
    assert [cell.share for cell in strip(100, [(0, 100)])] == [4]


def tensors(*lengths: int, resident: int = 0) -> list[ResidentTensor]:
    found, at = [], 0
    for i, length in enumerate(lengths):
        found.append(ResidentTensor(f"t{i}", "F32", (length,), at, length, min(resident, length)))
        at += length
    return found


def test_every_tensor_has_a_segment_with_its_name_when_there_is_room() -> None:
    drawn = segments(400, tensors(100, 200, 100, resident=100))
    assert [(s.x, s.width, s.share, s.odd) for s in drawn] == [
        (0, 250, 4, False),
        (250, 500, 2, True),
        (750, 250, 4, False),
    ]
    assert drawn[0].title == "t0: 100 bytes of 100 bytes are here"


def test_thousands_of_tensors_are_few_segments() -> None:
    drawn = segments(100_000, tensors(*[1] * 50_000, 50_000))
    assert len(drawn) <= 2 * limits.UI_CELLS + 2
    assert "tensors, t0 to t" in drawn[0].title
    assert drawn[-1].title.startswith("t50000")


def test_names_of_tensors_cannot_leave_their_title() -> None:
    bad = [ResidentTensor("\x1b[2J\u202e<b>\ud800", "F32", (1,), 0, 4, 0)]
    assert segments(4, bad)[0].title.startswith("\\x1b[2J\\u202e<b>\\xed\\xa0\\x80:")


def test_what_was_not_asked_for_longest_is_forgotten() -> None:
    memory: Remembered[int, str] = Remembered(2)
    memory.put(1, "a")
    memory.put(2, "b")
    assert memory.get(1) == "a"
    memory.put(3, "c")
    assert (memory.get(1), memory.get(2), memory.get(3), len(memory)) == ("a", None, "c", 2)


@pytest.mark.parametrize(
    ("share", "text"), [(None, ""), (0, "0 %"), (1, "100 %"), (0.9999, "99.9 %"), (0.00001, "0.1 %"), (0.5, "50 %")]
)
def test_percent(share: float | None, text: str) -> None:
    assert render.percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (9000, "2 h"), (1e6, "12 d")]
)
def test_durations(seconds: float, text: str) -> None:
    assert render.duration(seconds) == text


def test_links_carry_any_name() -> None:
    assert render.link("/a", path=b"x y/\xff&\n", ref=None) == "/a?path=x+y%2F%FF%26%0A"
    assert render.link("/a") == "/a"


def test_pages_escape_what_they_are_given() -> None:
    text = render.page("error.html", target='<img src=x onerror="1">', stores=[], title="<b>", message="</p>\x00&")
    assert "<img" not in text
    assert "<b>" not in text
    assert "&lt;/p&gt;\\x00&amp;" in text
