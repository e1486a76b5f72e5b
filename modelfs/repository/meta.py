"""Content-addressed metadata objects: manifests and tree pages, verified on arrival, kept decoded in memory.

An id is the digest of the plain msgpack, so an object is what its id says or it is a CorruptError naming the key.
Decoded objects live in one LRU bounded in bytes. Objects that this process has written or verified are not written
again; one that arrived damaged or was missing is, the next time somebody has its bytes. Safe to use from many
threads; `manifests` and `pages` are the callers.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from modelfs import limits
from modelfs.errors import CorruptError, NotFoundError
from modelfs.ids import PLAIN, Ids
from modelfs.repository.again import twice
from modelfs.repository.envelope import unwrap, wrap
from modelfs.repository.keys import meta_key
from modelfs.repository.presence import Presence
from modelfs.store.base import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MetaStatistics:
    """Counters since the repository was opened; sizes in bytes."""

    objects: int
    memory: int
    hits: int
    misses: int
    written: int


class MetaObjects:
    """Loads and saves metadata objects of one store."""

    def __init__(
        self, store: Store, ids: Ids = PLAIN, memory: int = limits.META_MEMORY, presence: Presence | None = None
    ) -> None:
        self.ids = ids
        self._store = store
        self.presence = presence or Presence()
        self._lock = threading.Lock()
        # By (what it was decoded as, id): a hostile store must not pass a page off as a manifest.
        self._decoded: OrderedDict[tuple[str, bytes], tuple[Any, int]] = OrderedDict()
        self._memory_limit = memory
        self._memory = 0
        self._hits = self._misses = self._written = 0

    def load(self, what: str, object_id: bytes, unpack: Callable[[bytes], T]) -> T:
        """The object decoded by ``unpack`` (ValueError = damaged). ``what`` names its type, in errors too."""
        with self._lock:
            found = self._decoded.get((what, object_id))
            if found is not None:
                self._decoded.move_to_end((what, object_id))
                self._hits += 1
                value: T = found[0]
                return value
            self._misses += 1
        key = meta_key(object_id)

        stamp = self.presence.stamp()

        def read() -> tuple[T, int]:
            plain = self.fetch(what, object_id)
            return unpack(plain), len(plain)

        try:
            decoded, size = twice(read, key)
        except (ValueError, CorruptError) as error:
            self.presence.suspect(object_id)
            raise CorruptError(f"{what} {object_id.hex()} in {self._store.url} is damaged: {error}", key) from error
        self.presence.confirm(object_id, stamp)
        self.remember(what, object_id, decoded, size)
        return decoded

    def recall(self, what: str, object_id: bytes) -> object | None:
        """The decoded object if it is in memory, without asking the store."""
        with self._lock:
            found = self._decoded.get((what, object_id))
        return None if found is None else found[0]

    def fetch(self, what: str, object_id: bytes) -> bytes:
        """The verified msgpack bytes of an object. NotFoundError; ValueError when they are damaged."""
        key = meta_key(object_id)
        try:
            stored = self._store.get(key)
        except NotFoundError as error:
            self.presence.suspect(object_id)
            message = f"{what} {object_id.hex()} is missing in {self._store.url}"
            raise NotFoundError(message, key) from error
        plain = unwrap(stored)
        if self.ids.digest(plain) != object_id:
            raise ValueError("its bytes do not match its id")
        return plain

    def remember(self, what: str, object_id: bytes, decoded: object, plain_size: int) -> None:
        """Keep a decoded object in memory."""
        cost = plain_size * limits.META_MEMORY_FACTOR
        if cost > self._memory_limit // 2:
            return  # it would push out everything else
        with self._lock:
            _, old = self._decoded.pop((what, object_id), (None, 0))
            self._decoded[what, object_id] = (decoded, cost)
            self._memory += cost - old
            while self._memory > self._memory_limit:
                _, (_, gone) = self._decoded.popitem(last=False)
                self._memory -= gone

    def save(self, object_id: bytes, plain: bytes) -> None:
        """Store an object unless it is known to be there. Returns when the store has acknowledged it."""
        if self.presence.known(object_id):
            return
        stamp = self.presence.stamp()
        self._store.put(meta_key(object_id), wrap(plain))
        self.presence.wrote(object_id, stamp)
        with self._lock:
            self._written += 1

    def save_all(self, objects: Mapping[bytes, bytes]) -> None:
        """Store many objects, several at once; all are acknowledged on return, or an error is raised."""
        missing = [item for item in objects.items() if not self.presence.known(item[0])]
        if len(missing) < 2:
            for item in missing:
                self.save(*item)
            return
        with ThreadPoolExecutor(min(limits.META_THREADS, len(missing)), "modelfs-meta") as pool:
            for done in [pool.submit(self.save, *item) for item in missing]:
                done.result()

    def stored(self, object_id: bytes) -> bool:
        """Ask the store for an object that is not doubtful."""
        stamp = self.presence.stamp()
        there = bool(self._store.size(meta_key(object_id)))
        if there:
            self.presence.vouch((object_id,), stamp)
        return there

    def statistics(self) -> MetaStatistics:
        """What is held in memory and how often it served."""
        with self._lock:
            return MetaStatistics(len(self._decoded), self._memory, self._hits, self._misses, self._written)
