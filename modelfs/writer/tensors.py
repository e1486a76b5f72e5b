"""Tensors of a file as the writer cuts them: which tensor a chunk is a piece of, and which piece."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

from modelfs.codecs import Element, element_of
from modelfs.formats.layout import Layout, Span, end_of, unique_names
from modelfs.ids import ChunkId
from modelfs.repository.objects import Manifest

# Name, element type, offset in the tensor and length of a piece. The shape does not matter: a table that has got more
# rows is the same in front.
Key = tuple[str, str, int, int]


class Tensors:
    """The tensors of one layout."""

    def __init__(self, layout: Layout) -> None:
        self._spans = layout.spans
        self._starts = [span.offset for span in layout.spans]
        self._names = list(unique_names(layout))

    def at(self, offset: int, length: int) -> tuple[Key | None, Element | None]:
        """Key and element type of the chunk ``[offset, offset + length)`` of the file.

        A chunk that holds several tensors has no key; it has an element type when all of them have the same.
        """
        i = bisect_right(self._starts, offset) - 1
        if i >= 0 and offset + length <= end_of(self._spans[i]):
            span = self._spans[i]
            return (self._names[i], span.dtype, offset - span.offset, length), element_of(span.dtype)
        return None, self._common(i + 1 if i < 0 or end_of(self._spans[i]) <= offset else i, offset + length)

    def _common(self, first: int, end: int) -> Element | None:
        found: set[Element | None] = set()
        for span in self._spans[first : first + 1000]:
            if span.offset >= end:
                break
            found.add(element_of(span.dtype))
        return found.pop() if len(found) == 1 else None


def pieces(layout: Layout, manifest: Manifest) -> dict[Key, ChunkId]:
    """The chunks of a stored file that are pieces of tensors."""
    tensors = Tensors(layout)
    found: dict[Key, ChunkId] = {}
    starts = accumulate((extent.length for extent in manifest.chunks), initial=0)
    for start, extent in zip(starts, manifest.chunks, strict=False):
        if extent.id:
            key, _ = tensors.at(start, extent.length)
            if key is not None:
                found[key] = ChunkId(extent.id)
    return found


def large(layout: Layout, least: int) -> Iterator[Span]:
    """Tensors of at least ``least`` bytes: those that have chunks of their own."""
    return (span for span in layout.spans if span.length >= least)
