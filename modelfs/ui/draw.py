"""Pictures as geometry: which cells, segments and lines; templates make SVG of them. Pure, and bounded in size.

Coordinates of strips are thousandths of a file's length; those of charts are the pixels of their own box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

from modelfs import limits
from modelfs.reader.residency import Ranges, ResidentTensor
from modelfs.shown import printable, size
from modelfs.ui.throughput import Rate

STRIP: Final = 1000
WIDTH: Final = 420
HEIGHT: Final = 140
LEFT: Final = 84  # room for labels
TOP: Final = 8
BOTTOM: Final = 22
_STEPS: Final = (60, 300, 600, 1200, 1800)


@dataclass(frozen=True, slots=True)
class Cell:
    """A part of a file. ``share``: how much of it is here, in quarters; only nothing is 0 and only all is 4."""

    x: float
    width: float
    share: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A tensor, or several small neighbours, in the picture of a file. ``odd`` alternates, so that they can be told
    apart."""

    x: float
    width: float
    share: int
    odd: bool
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """One counter of a chart. ``path``: of SVG; a gap begins a new part of it."""

    name: str
    label: str
    path: str
    last: float
    mean: float
    peak: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines with their scales: (coordinate, label)."""

    lines: tuple[Line, ...]
    rows: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, str], ...]
    minutes: float


def quarters(resident: int, length: int) -> int:
    """How much of ``length`` is here: 0 for nothing and 4 for all, 1 to 3 between."""
    if resident <= 0 or length <= 0:
        return 0
    return 4 if resident >= length else 1 + min(2, 3 * resident // length)


def strip(length: int, ranges: Sequence[tuple[int, int]], cells: int = limits.UI_CELLS) -> list[Cell]:
    """A file as cells from its beginning to its end, equal neighbours joined."""
    if length <= 0:
        return []
    here = Ranges(list(ranges))
    edges = [length * i // cells for i in range(cells + 1)]
    shares = [
        (start, end, quarters(here.within(start, end), end - start)) for start, end in pairwise(edges) if end > start
    ]
    found = []
    for share, group in groupby(shares, key=lambda cell: cell[2]):
        parts = list(group)
        start, end = parts[0][0], parts[-1][1]
        found.append(Cell(_x(start, length), _x(end - start, length), share))
    return found


def segments(length: int, tensors: Sequence[ResidentTensor], cells: int = limits.UI_CELLS) -> list[Segment]:
    """Tensors in the picture of a file. Those that would be narrower than a cell are joined with their neighbours."""
    found: list[Segment] = []
    least = max(1, length // cells)
    group: list[ResidentTensor] = []
    for tensor in tensors:
        if group and (tensor.length >= least or tensor.offset + tensor.length - group[0].offset > least):
            found.append(_segment(length, group, odd=len(found) % 2 == 1))
            group = []
        group.append(tensor)
        if tensor.length >= least:
            found.append(_segment(length, group, odd=len(found) % 2 == 1))
            group = []
    if group:
        found.append(_segment(length, group, odd=len(found) % 2 == 1))
    return found


def _segment(length: int, tensors: Sequence[ResidentTensor], *, odd: bool) -> Segment:
    first, last = tensors[0], tensors[-1]
    total, resident = sum(t.length for t in tensors), sum(t.resident for t in tensors)
    what = name_of(first) if len(tensors) == 1 else f"{len(tensors)} tensors, {name_of(first)} to {name_of(last)}"
    title = f"{what}: {size(resident)} of {size(total)} are here"
    end = last.offset + last.length
    return Segment(_x(first.offset, length), _x(end - first.offset, length), quarters(resident, total), odd, title)


def name_of(tensor: ResidentTensor) -> str:
    """For people."""
    return printable(tensor.name.encode("utf-8", "surrogatepass"))


def _x(offset: int, length: int) -> float:
    return round(STRIP * offset / length, 2)


def chart(rates: Sequence[Rate], now: float, series: Sequence[tuple[str, str]]) -> Chart:
    """Rates over time up to ``now``. ``series``: counter and label of each line."""
    span = next((step for step in _STEPS if not rates or now - rates[0].start <= step), _STEPS[-1])
    shown = [rate for rate in rates if rate.start >= now - span]
    top = _nice(max((rate.by[name] for rate in shown for name, _ in series), default=0.0))
    inner = HEIGHT - TOP - BOTTOM

    def x(at: float) -> float:
        return round(LEFT + (WIDTH - LEFT) * (1 - (now - at) / span), 1)

    def y(rate: float) -> float:
        return round(TOP + inner * (1 - rate / top), 1)

    lines = []
    for name, label in series:
        points = [(x(rate.start), x(rate.end), y(rate.by[name])) for rate in shown]
        values = [rate.by[name] for rate in shown]
        seconds = sum(rate.end - rate.start for rate in shown)
        mean = sum(rate.by[name] * (rate.end - rate.start) for rate in shown) / seconds if seconds else 0.0
        fresh = bool(shown) and now - shown[-1].end < 3 * limits.UI_INTERVAL
        last = values[-1] if fresh else 0.0
        lines.append(Line(name, label, " ".join(_path(points)), last, mean, max(values, default=0.0)))
    rows = tuple((y(top * part), f"{size(int(top * part))}/s" if part else "0") for part in (0, 0.5, 1))
    columns = tuple((x(now - span * part), _ago(span * part)) for part in (1, 0.5, 0))
    return Chart(tuple(lines), rows, columns, span / 60)


def _path(points: Sequence[tuple[float, float, float]]) -> Iterator[str]:
    """Steps: a rate is of the whole time between two looks."""
    end = -1.0
    for start, stop, y in points:
        yield f"{'L' if start == end else 'M'}{start:g} {y:g}L{stop:g} {y:g}"
        end = stop


def _ago(seconds: float) -> str:
    return "now" if not seconds else f"-{seconds / 60:g} min" if seconds >= 60 else f"-{seconds:g} s"


def _nice(value: float) -> float:
    """The smallest of 1, 2, 5, 10, … that is not below; 1 kB/s at least."""
    if value <= 1000:
        return 1000.0
    scale = 10.0 ** math.floor(math.log10(value))
    return next((factor * scale for factor in (1, 2, 5) if value <= factor * scale), 10 * scale)
