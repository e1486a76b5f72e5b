"""Looks at the mounts of this user every few seconds, as `modelfs top` does, so that no page ever asks one.

A mount that does not answer keeps one thread for `limits.CONTROL_TIMEOUT` seconds and is not asked again meanwhile; the
others are. One that was unmounted is remembered as such, as long as there is room.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from modelfs import limits
from modelfs.errors import UsageError
from modelfs.fuse import daemon
from modelfs.ui.throughput import COUNTERS, Throughput

Facts = dict[str, Any]


@dataclass(slots=True)
class Watched:
    """What is known of a mount. ``facts``: those that it told last, None before; ``state``: of now; ``at``: Unix time
    of the facts."""

    mountpoint: Path
    state: str = "not looked at yet"
    facts: Facts | None = None
    at: float = 0.0
    throughput: Throughput = field(default_factory=Throughput)

    @property
    def healthy(self) -> bool:
        """It is mounted, and its store answers."""
        return self.state == "mounted" and self.facts is not None and self.facts["away"] is None


class Watch:
    """``only``: look at no other mount point; ``store_id``: remember mounts of this store only."""

    def __init__(self, only: Path | None = None, store_id: str | None = None) -> None:
        self.mounts: dict[Path, Watched] = {}
        self.looked = trio.Event()  # once
        self._only = only
        self._store_id = store_id
        self._threads = trio.CapacityLimiter(limits.UI_MOUNT_THREADS)
        self._asking: set[Path] = set()

    async def run(self) -> None:
        """For ever."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._look(nursery)
                await trio.sleep(limits.UI_INTERVAL)

    async def _look(self, nursery: trio.Nursery) -> None:
        found = [] if self._only is None else [self._only]
        if self._only is None:
            found = await trio.to_thread.run_sync(daemon.mountpoints, limiter=self._threads, abandon_on_cancel=True)
        for path in self.mounts.keys() - set(found):
            self._gone(path)
        async with trio.open_nursery() as first:  # the first look waits for all, that the first page has something
            for path in found[: limits.UI_MOUNTS]:
                if path not in self._asking:
                    self._asking.add(path)
                    (nursery if self.looked.is_set() else first).start_soon(self._ask, path)
        self.looked.set()

    async def _ask(self, path: Path) -> None:
        try:
            facts = await trio.to_thread.run_sync(daemon.status, path, limiter=self._threads, abandon_on_cancel=True)
        except UsageError:  # it is not in the registry (any more)
            self._gone(path)
        else:
            self.note(path, facts, time.monotonic())
        finally:
            self._asking.discard(path)

    def note(self, path: Path, facts: Facts, at: float) -> None:
        """What a mount said at ``at`` (monotonic), or what its record says of it."""
        complete = facts.keys() >= {"commit", "store_id", "cache_directory", *COUNTERS}
        # A mount that never told its store is shown only where all are.
        known = facts["store_id"] if complete else None
        if self._store_id is not None and known != self._store_id and (complete or path not in self.mounts):
            self.mounts.pop(path, None)
            return
        watched = self.mounts.setdefault(path, Watched(path))
        watched.state = str(facts.get("state") or facts.get("error") or "not answering")
        watched.throughput.note(at, facts if complete else None)
        if complete:
            watched.facts, watched.at = facts, time.time()
        self._forget()

    def _gone(self, path: Path) -> None:
        if (watched := self.mounts.get(path)) is not None:
            watched.state = "unmounted"
            watched.throughput.note(time.monotonic(), None)
        elif self._only is not None:
            self.mounts[path] = Watched(path, "unmounted")

    def _forget(self) -> None:
        """Mounts that are gone leave first."""
        while len(self.mounts) > limits.UI_MOUNTS:
            self.mounts.pop(min(self.mounts, key=lambda p: (self.mounts[p].state == "mounted", self.mounts[p].at)))
