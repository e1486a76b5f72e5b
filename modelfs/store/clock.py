"""The store's clock: what time it is where objects get their modification times.

Whoever compares times of objects (collection, its lock) asks this clock and never that of the machine it runs on.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from modelfs import limits
from modelfs.errors import StoreError, UsageError
from modelfs.store.base import Store


def store_time(store: Store) -> float:
    """Seconds since the epoch by the store's clock, found by writing an object and listing it.

    UsageError when the store does not say when its objects were written.
    """
    name = secrets.token_hex(16)
    folder = f"probe/{name}/"
    key = folder + "clock"
    try:
        store.put(key, b"what time is it?\n")
        found = [info.mtime for info in store.list(folder) if info.key == key]
    finally:
        with contextlib.suppress(StoreError):
            store.delete(key)
    if not found or found[0] <= 0:
        raise UsageError(f"{store.url} does not tell when its objects were written, which collection goes by")
    return found[0]


def _boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Clock:
    """The clocks of this machine, as one thing that tests can replace. ``boot``: seconds on a clock that nobody sets
    and that goes on while the machine sleeps; ``wall_ns``: nanoseconds since the epoch."""

    boot: Callable[[], float] = _boot_time
    wall_ns: Callable[[], int] = time.time_ns
    sleep: Callable[[float], None] = time.sleep


def check_skew(store: Store, now: float, wall: float) -> None:
    """UsageError when this machine's clock (``wall``) and the store's (``now``) are far apart."""
    skew = abs(wall - now)
    if skew > limits.GC_SKEW:
        raise UsageError(
            f"the clock of this machine and that of {store.url} differ by {skew:.0f} s: set one of them right "
            f"({limits.GC_SKEW:.0f} s are allowed)"
        )
