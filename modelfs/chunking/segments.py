"""A file of known layout as a row of segments, each with its own rule for boundaries.

* a tensor of at least ``group_size`` bytes: cut every ``avg_size`` from its own start, so that it gives the same
  chunks wherever it lies and rows appended to it change only its end;
* between such tensors: neighbours (small tensors, padding, short headers) are grouped. A group may end only where a
  tensor begins whose name's hash says so, or where it would grow too long: a neighbour that comes, goes or changes
  leaves the groups further on as they were;
* long stretches that no tensor covers (a header): content-defined.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import Enum
from typing import Final

from modelfs.chunking.params import ChunkParams
from modelfs.formats.layout import Layout

_GROUP_END_ONE_IN: Final = 4
_REST_MIN: Final = 4096  # as files that are inline: less is not worth an object


class Rule(Enum):
    """How a segment is cut."""

    FIXED = "fixed"
    WHOLE = "whole"
    CONTENT = "content"


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes ``[start, end)`` of the file."""

    start: int
    end: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class _Piece:
    """A small tensor, or a short stretch without one (``name`` "")."""

    start: int
    end: int
    name: str


def segments(layout: Layout, params: ChunkParams) -> list[Segment]:
    """Segments that cover ``[0, layout.size)`` without gaps.

    Of a layout that is not complete they end where what is to come could still change them: at the end of its last
    large tensor.
    """
    out: list[Segment] = []
    run: list[_Piece] = []
    at = 0

    def flush() -> None:
        out.extend(_groups(run, params))
        run.clear()

    def gap(end: int) -> None:
        if end - at >= params.group_size:
            flush()
            out.append(Segment(at, end, Rule.CONTENT))
        elif end > at:
            run.append(_Piece(at, end, ""))

    for span in layout.spans:
        gap(span.offset)
        at = span.offset + span.length
        if span.length >= params.group_size:
            flush()
            out.append(Segment(span.offset, at, Rule.FIXED))
        elif span.length:
            run.append(_Piece(span.offset, at, span.name))
    if layout.complete:
        gap(layout.size)
        flush()
    return out


def _groups(run: list[_Piece], params: ChunkParams) -> list[Segment]:
    out: list[Segment] = []
    start = end = -1
    for piece in run:
        if start >= 0 and (
            piece.end - start > params.avg_size or (end - start >= params.min_size and _may_begin(piece.name))
        ):
            out.append(Segment(start, end, Rule.WHOLE))
            start = -1
        if start < 0:
            start = piece.start
        end = piece.end
    if start >= 0:
        out.append(Segment(start, end, Rule.WHOLE))
    return out


def _may_begin(name: str) -> bool:
    return bool(name) and zlib.crc32(name.encode("utf-8", "surrogatepass")) % _GROUP_END_ONE_IN == 0


def next_cut(segment: Segment, position: int, params: ChunkParams) -> int:
    """The boundary after ``position`` in a segment that is not cut by content.

    What is left of a tensor behind its last whole piece is a piece of its own, so that rows appended to a table whose
    size is a whole number of pieces change none of them; only a very short rest is cut together with the piece before.
    """
    if segment.rule is Rule.WHOLE:
        return segment.end
    pieces = (position - segment.start) // params.avg_size + 1
    cut = segment.start + pieces * params.avg_size
    return segment.end if segment.end - cut < min(_REST_MIN, params.avg_size) else cut
