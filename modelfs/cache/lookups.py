"""How often what readers wanted was here: counted by each process, summed up for the cache in its index.

A lookup is a chunk that an open file is read in for the first time. It is a miss when a fetch brought the chunk for
it, a hit when it was here before. `reader.source` counts on the event loop, with plain integers; `Cache` brings what
was counted since the last time into the index, when it is asked and when it ends.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from modelfs.cache.index import Index


@dataclass(slots=True)
class Lookups:
    """Counters; sizes in bytes of chunks."""

    hits: int = 0
    hit_bytes: int = 0
    misses: int = 0
    miss_bytes: int = 0

    @property
    def ratio(self) -> float | None:
        """Share of the bytes that were here; None while nothing was looked up."""
        total = self.hit_bytes + self.miss_bytes
        return self.hit_bytes / total if total else None

    def since(self, before: Lookups) -> Lookups:
        """What came after ``before``."""
        return Lookups(*(a - b for a, b in zip(astuple(self), astuple(before), strict=True)))


def add(index: Index, more: Lookups) -> None:
    """Add to the sums of the cache. CacheError."""
    with index.transaction() as db:
        db.execute(
            "UPDATE totals SET hits = hits + ?, hit_bytes = hit_bytes + ?, misses = misses + ?, "
            "miss_bytes = miss_bytes + ?",
            astuple(more),
        )


def read(index: Index) -> Lookups:
    """The sums of the cache, over all processes that ever used it. CacheError."""
    with index.connection() as db:
        return Lookups(*db.execute("SELECT hits, hit_bytes, misses, miss_bytes FROM totals").fetchone())
