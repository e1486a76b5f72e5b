"""One collection at a time: who owns it, and is it still alive?

A run is an object ``gc/runs/<number>``, created exclusively, so of two that begin one wins; the highest number counts.
The owner writes it again as a sign of life. One that gave none for `limits.GC_RUN_TTL` by the store's clock is dead,
and the next run takes over what it left. The owner, too, stops believing in itself, long before others do: it
deletes only while its last sign of life is fresh by a clock that goes on while the machine sleeps.
"""

from __future__ import annotations

import getpass
import os
import secrets
import socket

import msgspec

from modelfs import limits
from modelfs.errors import AlreadyExistsError, ConflictError, NotFoundError, UsageError
from modelfs.repository import gcformat as gc
from modelfs.repository.condemned import alive, read_run
from modelfs.repository.gcformat import Run
from modelfs.store.base import Store
from modelfs.store.clock import Clock


class Ownership:
    """The claim of one run. Make one with `take`."""

    def __init__(self, store: Store, number: int, run: Run, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._run = run
        self._renewed = clock.boot()
        self.number = number
        self.token = run.token

    @classmethod
    def take(cls, store: Store, grace: float, now: float, *, exclusive: bool, clock: Clock) -> Ownership:
        """Begin a run. ``now`` by the store's clock; ``grace`` in seconds, which may be shorter than
        `limits.GC_GRACE_MIN` only if writers know of it from the run before, or ``exclusive``: nobody else writes.
        Writers who open the store later go by it, if it is `limits.GC_GRACE_KNOWN` at least.

        UsageError when another run is at work, or for the grace period.
        """
        runs = {number: info for info in store.list(gc.RUNS) if (number := gc.parse_run_key(info.key))}
        newest = max(runs, default=0)
        before = _read(store, newest) if newest else None
        if before is not None and alive(runs[newest], before, now):
            raise UsageError(
                f"{store.url} is being collected by {before.user}@{before.host} (process {before.pid}); if that one is "
                f"dead, it can be taken over {limits.GC_RUN_TTL:.0f} s after its last sign of life"
            )
        known = before.grace if before is not None else limits.GC_GRACE_DEFAULT
        if grace < min(known, limits.GC_GRACE_MIN) and not exclusive:
            raise UsageError(
                f"a grace period of {grace:g} s: writers look at the list of what is condemned every "
                f"{limits.GC_STALE:.0f} s, so it takes {limits.GC_GRACE_MIN:.0f} s at least, or --exclusive when "
                "nobody has the store open for writing"
            )
        told = grace if grace >= limits.GC_GRACE_KNOWN else known
        run = Run(secrets.token_hex(16), socket.gethostname()[:256], os.getpid(), _user(), told, ended=False)
        began = clock.boot()
        try:
            store.put_if_absent(gc.run_key(newest + 1), gc.pack(run))
        except AlreadyExistsError as error:
            raise UsageError(f"another collection of {store.url} began at this moment") from error
        owner = cls(store, newest + 1, run, clock)
        owner._renewed = began
        for number in runs:
            store.delete(gc.run_key(number))
        return owner

    def check(self) -> None:
        """Called before everything that cannot be undone, and often: the run is still ours, or ConflictError."""
        if self._clock.boot() - self._renewed > limits.GC_RUN_RENEW:
            self._renew(self._run)

    def insist(self) -> None:
        """Called right before each deletion: no other run can have taken over yet, or ConflictError."""
        silent = self._clock.boot() - self._renewed
        if silent > limits.GC_RUN_TTL / 2:
            raise ConflictError(_lost(self._store, silent))

    def end(self) -> None:
        """The run is over; the next one may begin."""
        self._renew(msgspec.structs.replace(self._run, ended=True))

    def _renew(self, run: Run) -> None:
        self.insist()
        began = self._clock.boot()
        numbers = [number for info in self._store.list(gc.RUNS) if (number := gc.parse_run_key(info.key))]
        if max(numbers, default=0) != self.number:
            raise ConflictError(_lost(self._store, began - self._renewed))
        self._store.put(gc.run_key(self.number), gc.pack(run))
        self._renewed = began


def _lost(store: Store, silent: float) -> str:
    return (
        f"this collection of {store.url} gave no sign of life for {silent:.0f} s and gives up; the next one goes on "
        "where it was"
    )


def _read(store: Store, number: int) -> Run | None:
    try:
        return read_run(store, number)
    except NotFoundError:  # another run has just begun, and won
        return None


def _user() -> str:
    try:
        return getpass.getuser()[:256]
    except (KeyError, OSError, ImportError):  # a container without a passwd entry for us
        return str(os.getuid())
