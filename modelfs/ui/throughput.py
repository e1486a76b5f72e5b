"""Throughput of one mount over time, from its counters. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelfs import limits

COUNTERS: Final = ("read_bytes", "written_bytes", "store_received_bytes", "store_sent_bytes")


@dataclass(frozen=True, slots=True)
class Rate:
    """Bytes a second between two looks, by counter. ``start`` and ``end``: seconds of a clock that only goes on."""

    start: float
    end: float
    by: Mapping[str, float]


class Throughput:
    """Remembers the last rates. Where a look failed, or the mount began anew, there is a gap."""

    def __init__(self, capacity: int = limits.UI_SAMPLES) -> None:
        self.rates: deque[Rate] = deque(maxlen=capacity)
        self._last: tuple[float, int, tuple[int, ...]] | None = None

    def note(self, at: float, facts: Mapping[str, Any] | None) -> None:
        """What a mount said at a time; None: nothing."""
        if facts is None:
            self._last = None
            return
        counts = tuple(int(facts[name]) for name in COUNTERS)
        last, self._last = self._last, (at, int(facts["pid"]), counts)
        if last is None or last[1] != facts["pid"] or at <= last[0]:
            return
        seconds = at - last[0]
        rates = {name: max(0, now - then) / seconds for name, now, then in zip(COUNTERS, counts, last[2], strict=True)}
        self.rates.append(Rate(last[0], at, rates))
