"""The lease of ``--single-writer``: one object that says who writes, for stores without exclusive creation.

It warns of a second writer; it cannot stop two that take it in the same instant, which is why such stores are
refused by default. The holder renews it well before it ends; a lease that has ended may be taken over. Times are
those of this machine's clock, so clocks that differ by more than the lease's length defeat it.
"""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import time

import msgspec

from modelfs import limits
from modelfs.errors import ConflictError, NotFoundError, UsageError
from modelfs.store.base import Store

KEY = "lease.json"


class _Held(msgspec.Struct, frozen=True):
    """Content of the lease object. ``expires``: Unix seconds."""

    token: str
    host: str
    pid: int
    user: str
    expires: float


class Lease:
    """One writer's claim to a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._token = secrets.token_hex(16)

    def acquire(self) -> None:
        """Take the lease; UsageError names who has it."""
        held = self._read()
        if held is not None and held.expires > time.time() and held.token != self._token:
            left = held.expires - time.time()
            raise UsageError(
                f"{self._store.url} is being written by {held.user}@{held.host} (process {held.pid}); "
                f"its lease ends in {left:.0f} s unless it is renewed"
            )
        self._write()
        held = self._read()
        if held is None or held.token != self._token:
            raise UsageError(f"{self._store.url}: somebody else took the single-writer lease at the same moment")

    def renew(self) -> None:
        """Extend the lease; ConflictError when somebody else took it over."""
        held = self._read()
        if held is not None and held.token != self._token:
            raise ConflictError(f"{self._store.url}: {held.user}@{held.host} (process {held.pid}) took the lease over")
        self._write()

    def release(self) -> None:
        """Give the lease up, if it is still ours."""
        held = self._read()
        if held is not None and held.token == self._token:
            self._store.delete(KEY)

    def _write(self) -> None:
        expires = time.time() + limits.LEASE_TTL
        held = _Held(self._token, socket.gethostname(), os.getpid(), getpass.getuser(), expires)
        self._store.put(KEY, msgspec.json.encode(held))

    def _read(self) -> _Held | None:
        try:
            return msgspec.json.decode(self._store.get(KEY), type=_Held)
        except NotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{self._store.url}: {KEY} is not a lease; delete it if nobody writes") from error


def ended(store: Store, now: float) -> bool:
    """True when there is a lease that nobody has renewed for so long that its writer is gone (``now``: the store's
    clock)."""
    try:
        held = msgspec.json.decode(store.get(KEY), type=_Held)
    except (NotFoundError, ValueError, RecursionError):
        return False
    return held.expires + limits.GC_LEFT_OVER < now
