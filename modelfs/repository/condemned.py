"""A writer's view of what collections have condemned, never older than `limits.GC_STALE` when it counts.

A condemned object is treated as absent: it is written again, which lifts its sentence. What a writer knew of objects
holds from one list to the next, because a sentence stands for a whole grace period, which is longer than the time
between two lists: whatever is deleted was seen to be condemned. When too much time has passed and a collection was at
work meanwhile, everything known is forgotten and the store is asked again. `Repository` keeps one; `chunks`, `meta`
and `assurance` ask it. Safe to use from many threads.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from modelfs import limits
from modelfs.errors import ConflictError, CorruptError, NotFoundError
from modelfs.repository import gcformat as gc
from modelfs.repository.gcformat import Run, Sentence
from modelfs.repository.idset import IdSet
from modelfs.repository.presence import Presence
from modelfs.store.base import Buffer, ObjectInfo, Store
from modelfs.store.clock import Clock, store_time

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Standing:
    """A sentence that stands, as its ids alone."""

    area: str
    ids: IdSet

    @classmethod
    def of(cls, sentence: Sentence) -> _Standing:
        # Of a note that is condemned, a writer must not count on the delta: what it writes has to be whole.
        ids = (pair[-32:] for pair in sentence) if sentence.area == gc.DELTAS else iter(sentence)
        if sentence.branch:
            ids = (number.rjust(32, b"\0") for number in ids)
        made = cls(sentence.area, IdSet(ids))
        len(made.ids)  # sorted once, so that threads may look into it
        return made


class Condemned:
    """The sentences of one store, and what they do to the knowledge of who writes here."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._sentences: dict[str, _Standing] = {}
        self._began = -math.inf  # when the list that counts was asked for
        self.patience = limits.GC_STALE  # how old a list, or a head, may be to commit by it
        self._run: tuple[ObjectInfo, Run] | None = None  # the newest collection, when that list was made
        self.chunks = Presence()
        self.meta = Presence()

    @property
    def began(self) -> float:
        """When the list that counts was asked for, by a clock of this process."""
        return self._began

    def age(self) -> float:
        """Seconds since the list that counts was asked for."""
        return self._clock.boot() - self._began

    def stale(self) -> bool:
        """True when the list is too old to commit by."""
        return self.age() > self.patience

    def keep_fresh(self) -> None:
        """Ask for the list again when it is too old. StoreError, CorruptError."""
        if self.stale():
            with self._lock:
                if self.stale():
                    self._refresh()

    def refresh(self) -> None:
        """Ask for the list now. StoreError, CorruptError."""
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        began = self._clock.boot()
        listed = list(self._store.list(gc.GC))
        run = self._newest_run(listed)
        names = {name for info in listed if (name := gc.parse_sentence_key(info.key))}
        gone = {name: found for name, found in self._sentences.items() if name not in names}
        fresh = self._read(sorted(names - self._sentences.keys()))
        quiet = run == self._run and (run is None or run[1].ended)
        forget = began - self._began > self.patience and not quiet
        self._sentences = {name: found for name, found in self._sentences.items() if name in names} | fresh
        changed = [*gone.values(), *fresh.values()]
        for presence, areas in ((self.chunks, (gc.DATA, gc.DELTAS)), (self.meta, (gc.META,))):
            ids = IdSet(i for found in self._sentences.values() if found.area in areas for i in found.ids)
            len(ids)
            presence.judge(ids, (i for found in changed if found.area in areas for i in found.ids), forget_all=forget)
        self._run = run
        self.patience = min(limits.GC_STALE, run[1].grace / 2) if run is not None else limits.GC_STALE
        self._began = began

    def _newest_run(self, listed: Iterable[ObjectInfo]) -> tuple[ObjectInfo, Run] | None:
        runs = {number: info for info in listed if (number := gc.parse_run_key(info.key))}
        if not runs:
            return None
        info = runs[max(runs)]
        if self._run is not None and self._run[0] == info and self._run[1].ended:
            return self._run
        try:
            return info, read_run(self._store, max(runs))
        except NotFoundError:  # a newer one began in between, and tidied up
            return self._newest_run(self._store.list(gc.RUNS))

    def _read(self, names: list[str]) -> dict[str, _Standing]:
        def read(name: str) -> _Standing | None:
            try:
                return _Standing.of(read_sentence(self._store, name))
            except NotFoundError:  # executed in between
                return None

        if not names:
            return {}
        with ThreadPoolExecutor(min(limits.META_THREADS, len(names)), "condemned") as pool:
            return {name: found for name, found in zip(names, pool.map(read, names), strict=True) if found is not None}

    # -- what a commit asks -------------------------------------------------------------------------------------

    def commit(self, branch: str, number: int) -> bool:
        """True when that commit is condemned."""
        area, wanted = gc.commits_area(branch), commit_id(number)
        return any(found.area == area and wanted in found.ids for found in self._sentences.values())

    def lifted(self, area: str, ids: Iterable[bytes]) -> bool:
        """Did writing condemned objects again save them? True: every run that executes their sentences from now on
        sees that they are new. False: a sentence was executed meanwhile, nobody knows. Waits while a run is at work
        on them; ConflictError when it does not end.
        """
        wanted, waited = set(ids), 0.0
        while (answer := self._lifted(area, wanted)) is None:
            if waited >= limits.GC_WAIT:
                raise ConflictError(f"a collection of {self._store.url} deletes what is needed here and does not end")
            self._clock.sleep(limits.GC_WAIT_POLL)
            waited += limits.GC_WAIT_POLL
        return answer

    def _lifted(self, area: str, wanted: set[bytes]) -> bool | None:
        # The order of the two questions is what makes the answer right: a flag stands from before a run looks at the
        # objects until after the sentence is gone.
        names = {
            name
            for name, found in self._sentences.items()
            if found.area == area and any(i in found.ids for i in wanted)
        }
        flags = [flag for info in self._store.list(gc.EXECUTING) if (flag := gc.parse_flag_key(info.key))]
        standing = {gc.parse_sentence_key(info.key) for info in self._store.list(gc.CONDEMNED)}
        tokens = {token for name, token in flags if name in names}
        if tokens and self._alive(tokens):
            return None
        return names <= standing

    def _alive(self, tokens: set[str]) -> bool:
        """True when one of these runs may still be deleting."""
        now = store_time(self._store)
        newest = self._newest_run(self._store.list(gc.RUNS))
        return newest is not None and newest[1].token in tokens and alive(newest[0], newest[1], now)


def commit_id(number: int) -> bytes:
    """The number of a commit as an id among the condemned."""
    return number.to_bytes(32, "big")


def alive(info: ObjectInfo, run: Run, now: float) -> bool:
    """True when a run may still be at work at ``now`` (the store's clock)."""
    return not run.ended and now < info.mtime + limits.GC_RUN_TTL


def read_run(store: Store, number: int) -> Run:
    """One run. NotFoundError, CorruptError."""
    return _read(store, gc.run_key(number), gc.unpack_run)


def read_sentence(store: Store, name: str) -> Sentence:
    """One sentence. NotFoundError, CorruptError."""
    return _read(store, gc.sentence_key(name), gc.unpack_sentence)


def _read(store: Store, key: str, unpack: Callable[[Buffer], T]) -> T:
    try:
        return unpack(store.get(key))
    except ValueError as error:
        raise CorruptError(f"{key} in {store.url} is damaged: {error}", key) from error
