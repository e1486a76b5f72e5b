"""Which parts of a file are on this machine, and which tensors those are.

For `modelfs cache map`, which asks a store and a cache, and for the daemon, which answers for a file of its mount.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from modelfs.cache.cache import Cache
from modelfs.formats.layout import end_of, unique_names
from modelfs.repository.objects import Manifest
from modelfs.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class ResidentTensor:
    """One tensor: ``length`` bytes at ``offset``, ``resident`` of them here."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int
    resident: int


@dataclass(frozen=True, slots=True)
class Residency:
    """Of one version of a file. ``ranges``: (start, end) of what is here, in order; zeros that are not stored count as
    here. ``format``: "" when its tensors are not known."""

    size: int
    resident: int
    chunks: int
    ranges: tuple[tuple[int, int], ...]
    format: str
    tensors: tuple[ResidentTensor, ...]


class Ranges:
    """Answers how much of a byte range lies within sorted ranges that do not touch."""

    def __init__(self, ranges: list[tuple[int, int]]) -> None:
        self._starts = [start for start, _ in ranges]
        self._ends = [end for _, end in ranges]
        self._before = [0]
        for start, end in ranges:
            self._before.append(self._before[-1] + end - start)

    def within(self, start: int, end: int) -> int:
        """Bytes of ``[start, end)`` in the ranges."""
        return self._below(end) - self._below(start)

    def _below(self, offset: int) -> int:
        i = bisect_right(self._starts, offset)
        return self._before[i] - max(0, self._ends[i - 1] - offset) if i else 0


def inline(size: int) -> Residency:
    """Of a small file, which comes with its directory."""
    return Residency(size, size, 0, ((0, size),) if size else (), "", ())


def residency(repo: Repository, cache: Cache, manifest: Manifest) -> Residency:
    """Blocking. CacheError; NotFoundError and CorruptError of the tensor table."""
    return resident_in(repo, cache.ranges(manifest), manifest)


def resident_in(repo: Repository, found: list[tuple[int, int]], manifest: Manifest) -> Residency:
    """As `residency`, of a file of which the sorted ranges ``found`` are here."""
    here = Ranges(found)
    layout = repo.read_layout(manifest)
    tensors: tuple[ResidentTensor, ...] = ()
    if layout is not None:
        tensors = tuple(
            ResidentTensor(
                name, span.dtype, span.shape, span.offset, span.length, here.within(span.offset, end_of(span))
            )
            for name, span in zip(unique_names(layout), layout.spans, strict=True)
        )
    return Residency(
        manifest.size,
        here.within(0, manifest.size),
        sum(bool(extent.id) for extent in manifest.chunks),
        tuple(found),
        layout.format if layout is not None else "",
        tensors,
    )
