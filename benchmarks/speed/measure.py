"""Taking turns, timing, and what becomes of the figures."""

from __future__ import annotations

import contextlib
import mmap
import resource
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.speed.sides import Side, cpu_of, drop_page_cache


@dataclass
class Figures:
    """One side of one comparison: a value for each round. Seconds; bytes fetched from the store; ``p99``: seconds that
    99 of 100 single operations were below, where operations were timed."""

    wall: list[float] = field(default_factory=list)
    daemon_cpu: list[float] = field(default_factory=list)
    own_cpu: list[float] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.wall)

    @property
    def spread(self) -> tuple[float, float]:
        """Fewest and most seconds."""
        return min(self.wall), max(self.wall)


@dataclass
class Comparison:
    """What was measured, in how many bytes (0: not a matter of bytes), and what each side needed."""

    name: str
    size: int
    sides: dict[str, Figures] = field(default_factory=dict)

    def ratio(self, over: str, under: str) -> float:
        """How many times as long ``over`` took as ``under``: the median of the ratios of the rounds."""
        pairs = zip(self.sides[over].wall, self.sides[under].wall, strict=True)
        return statistics.median(a / b for a, b in pairs)


class Ballast:
    """Holds the machine's free memory and lets go of it piece by piece as others need it.

    A virtual machine gives pages that stay free for a second back to its host, and the first touch of such a page costs
    ten times as much as of any other. Without this a round would measure for how long the memory had been idle.
    """

    piece = 256 << 20
    reserve = 1 << 30  # bytes that are always free
    ready = 3 << 30  # bytes that are free when a round begins, the latest freed first in line

    def __init__(self) -> None:
        self._pieces: list[mmap.mmap] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def take(self) -> None:
        """Hold what is free now, every page touched."""
        while _free_memory() > self.reserve + self.piece:
            held = mmap.mmap(-1, self.piece, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            held.madvise(mmap.MADV_HUGEPAGE)
            for at in range(0, self.piece, mmap.PAGESIZE):
                held[at] = 1
            with self._lock:
                self._pieces.append(held)

    def let_go(self) -> None:
        """A round begins."""
        self._free_up_to(self.ready)

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            self._free_up_to(self.reserve)

    def _free_up_to(self, size: int) -> None:
        while self._pieces and _free_memory() < size:
            with self._lock:
                self._pieces.pop().close()

    def close(self) -> None:
        """Let go of everything."""
        self._ended.set()
        self._thread.join()
        while self._pieces:
            self._pieces.pop().close()


def _free_memory() -> int:
    return int(Path("/proc/meminfo").read_text().split("MemFree:")[1].split()[0]) * 1024


class Table:
    """All comparisons of a run, by name."""

    def __init__(self, say: Callable[[str], None], ballast: Ballast) -> None:
        self.comparisons: dict[str, Comparison] = {}
        self._say = say
        self._ballast = ballast

    def figures(self, name: str, size: int, side: str) -> Figures:
        """Where a side's values go."""
        return self.comparisons.setdefault(name, Comparison(name, size)).sides.setdefault(side, Figures())

    @contextlib.contextmanager
    def timed(self, name: str, size: int, side: Side) -> Iterator[None]:
        """Add what happens inside as one round of a side."""
        figures = self.figures(name, size, side.name)
        pids = side.pids()
        daemon = cpu_of(pids)
        before = resource.getrusage(resource.RUSAGE_SELF)
        start = time.perf_counter()
        yield
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
        figures.wall.append(wall)
        figures.daemon_cpu.append(cpu_of(pids) - daemon)
        figures.own_cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        figures.received.append(side.received())
        self._say(f"{name}: {side.name} {wall:.2f} s, daemon {figures.daemon_cpu[-1]:.2f} CPU s")

    def turn(
        self,
        name: str,
        size: int,
        sides: Sequence[Side],
        action: Callable[[Side], object],
        *,
        before: Callable[[Side], None] | None = None,
        cold: bool = True,
    ) -> None:
        """One round: each side in its turn. ``before`` is not measured; ``cold`` empties the page cache after it."""
        for side in sides:
            if cold:
                drop_page_cache()
                self._ballast.take()
            if before is not None:
                before(side)
            if cold:
                drop_page_cache()
            self._ballast.take()
            self._ballast.let_go()
            with self.timed(name, size, side):
                action(side)
