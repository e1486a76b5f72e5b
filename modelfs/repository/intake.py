"""How a store is filled with objects of another one that has the same ids.

An object that is there need not be moved; whether it is there is told by what this process knows, by a listing, or by
the store itself. The first questions are asked one by one; when there were `limits.SYNC_ASKS` of them, the store is
listed once instead. A condemned or doubtful object counts as absent, as for every writer (`presence`), so that what
was taken here is safe from collections by the same argument. Safe to use from many threads.
"""

from __future__ import annotations

import threading

from modelfs import limits
from modelfs.ids import ChunkId
from modelfs.repository.chunks import Chunks
from modelfs.repository.condemned import Condemned
from modelfs.repository.idset import IdSet
from modelfs.repository.keys import DATA, META, parse_object_key
from modelfs.repository.meta import MetaObjects
from modelfs.repository.presence import Presence
from modelfs.store.base import Buffer, Store


class Intake:
    """Asks for and takes objects of one store."""

    def __init__(self, store: Store, condemned: Condemned, chunks: Chunks, meta: MetaObjects) -> None:
        self._store = store
        self._condemned = condemned
        self._chunks = chunks
        self._meta = meta
        self._lock = threading.Lock()
        self._asked = 0
        self._listed: dict[str, tuple[IdSet, int]] = {}  # by area: ids, and the list of condemned they were seen under

    def expect_many(self) -> None:
        """Much will be asked for: list at once."""
        with self._lock:
            self._asked = limits.SYNC_ASKS

    def has_chunk(self, chunk: ChunkId) -> bool:
        """True when the store has a chunk and it stays. A link is none: its bytes are elsewhere. StoreError."""
        presence = self._chunks.presence
        listed = self._look(DATA, presence, chunk)
        there = listed if listed is not None else bool(self._chunks.stored(chunk))
        return there and not self._chunks.is_link(chunk)

    def has_meta(self, object_id: bytes) -> bool:
        """The same of a manifest, tensor table or tree page."""
        listed = self._look(META, self._meta.presence, object_id)
        return listed if listed is not None else self._meta.stored(object_id)

    def _look(self, area: str, presence: Presence, object_id: bytes) -> bool | None:
        """What is known without asking for this object; None: it has to be asked for."""
        self._condemned.keep_fresh()
        if presence.doubtful(object_id):
            return False
        if presence.known(object_id):
            return True
        with self._lock:
            self._asked += 1
            if self._asked <= limits.SYNC_ASKS and area not in self._listed:
                return None
            if area not in self._listed:
                stamp = presence.stamp()
                found = (parse_object_key(info.key) for info in self._store.list(area) if info.size)
                self._listed[area] = IdSet(object_id for object_id in found if object_id), stamp
            ids, stamp = self._listed[area]
            there = object_id in ids
        if there:
            presence.vouch((object_id,), stamp)
        return there

    def take_chunk(self, chunk: ChunkId, encoded: Buffer, plain: Buffer) -> int:
        """Store a chunk as the other store has it, its base before: the bytes sent, 0 when it came meanwhile."""
        if self._chunks.presence.known(chunk) and not self._chunks.is_link(chunk):
            return 0
        return self._chunks.take(chunk, encoded, plain)

    def take_meta(self, object_id: bytes, plain: bytes) -> None:
        """Store a metadata object, after what it refers to."""
        self._condemned.keep_fresh()
        self._meta.save(object_id, plain)
