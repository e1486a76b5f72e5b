"""What was asked of one store, how it ended and how long it took: plain counters, for status and metrics.

`RetryStore` notes every operation once, with all its attempts in it. Safe to use from many threads.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

# Seconds; upper bounds as an object store is judged by, from a local disk to a store that is given up.
BOUNDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


@dataclass(slots=True)
class Asked:
    """Of one kind of operation. ``results``: how many ended as "ok", "not_found", "exists" or "error"; ``seconds``:
    the sum of their times; ``counts``: how many took up to each of `BOUNDS` and longer than the one before, then
    those above all of them."""

    results: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))


class Meter:
    """The counters of one store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[str, Asked] = {}

    def note(self, operation: str, result: str, seconds: float) -> None:
        """One operation has ended."""
        with self._lock:
            asked = self._asked.setdefault(operation, Asked())
            asked.results[result] = asked.results.get(result, 0) + 1
            asked.seconds += seconds
            asked.counts[bisect_left(BOUNDS, seconds)] += 1

    def read(self) -> dict[str, Asked]:
        """A copy of the counters, by operation."""
        with self._lock:
            return {name: Asked(dict(a.results), a.seconds, list(a.counts)) for name, a in self._asked.items()}
