"""The contract of an object store: what every backend promises and what every caller may assume.

Methods are plain blocking functions, safe to call from many threads at once; the mount calls them in worker
threads under a limiter. A key is relative to the root of the store, ASCII, `/`-separated (see `check_key`).

Promises of a backend:

* ``put`` and ``put_if_absent`` are atomic: a reader sees the whole object or none. They return when the object is
  as durable as the backend can make it (the local backend has synced file and directory).
* ``put_if_absent`` creates or raises AlreadyExistsError; of several concurrent callers exactly one wins.
  A backend that cannot do this says so in ``properties.exclusive_put`` (False), and `probe` checks it in any case.
* ``get`` and ``get_range`` of a missing object raise NotFoundError. ``get_range`` that reaches past the end
  returns what there is (b"" at or beyond the end).
* ``delete`` of a missing object succeeds.
* ``list`` yields the objects whose key starts with ``prefix`` (a plain string prefix ending in ``/`` or ""), in any
  order, without temporary files of unfinished writes. It shows what was acknowledged before it began (collection
  relies on that), and `mtime` moves when an object is written again.
* Foreign exceptions never leave a backend: they are translated into `modelfs.errors` with the cause chained.
  Idempotent operations may be retried by the caller (`retry.RetryStore`); a backend does not retry by itself,
  except where its library insists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

Buffer = bytes | bytearray | memoryview

_KEY: Final = re.compile(r"[A-Za-z0-9._@=+-]+(/[A-Za-z0-9._@=+-]+)*")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One listed object. ``size`` in bytes; ``mtime`` seconds since the epoch by the store's clock (0.0: unknown)."""

    key: str
    size: int
    mtime: float


@dataclass(frozen=True, slots=True)
class StoreProperties:
    """What differs between backends, as data."""

    scheme: str
    writable: bool  # False: http(s)
    exclusive_put: bool  # put_if_absent is atomic by design (still probed)
    local: bool  # reads need no network


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Counters since the store was opened."""

    gets: int
    puts: int
    bytes_in: int
    bytes_out: int
    retries: int
    errors: int


@runtime_checkable
class Dated(Protocol):
    """A backend that tells of one object what a listing would."""

    def info(self, key: str) -> ObjectInfo | None:
        """The object, or None when it does not exist."""


class Store(Protocol):
    """An object store. See the module's text for the promises."""

    @property
    def url(self) -> str:
        """The URL for people and logs, without credentials."""

    @property
    def properties(self) -> StoreProperties: ...

    def get(self, key: str) -> Buffer: ...

    def get_range(self, key: str, start: int, length: int) -> bytes: ...

    def put(self, key: str, data: Buffer) -> None: ...

    def put_if_absent(self, key: str, data: Buffer) -> None: ...

    def size(self, key: str) -> int | None:
        """Size of the object in bytes, or None when it does not exist."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]: ...

    def delete(self, key: str) -> None: ...

    def close(self) -> None: ...


def check_key(key: str) -> str:
    """Return ``key`` if it is one that the format can produce, else raise ValueError (no `..`, no empty parts)."""
    if len(key) > 512 or not _KEY.fullmatch(key) or any(p in (".", "..") for p in key.split("/")):
        raise ValueError(f"not an object key: {key!r}")
    return key
