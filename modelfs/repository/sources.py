"""Sources: the URLs below which the originals of linked chunks lie, as small objects under ``sources/``.

A store without any has no links, which is what `Sources.exist` tells: only then must anybody look whether a chunk is
one. A URL that is read here is compared with what the user allows (`originals`) and shown, never opened.
"""

from __future__ import annotations

import re
import threading
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from modelfs import limits
from modelfs.errors import CorruptError, NotFoundError
from modelfs.ids import Ids
from modelfs.repository.envelope import unwrap, wrap
from modelfs.repository.places import Place, said
from modelfs.store.base import Store

SOURCES: Final = "sources/"
_KEY: Final = re.compile(r"sources/([0-9a-f]{64})")


class Source(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where originals lie."""

    url: Annotated[str, Meta(min_length=1, max_length=limits.SOURCE_URL_MAX)]


def pack_source(source: Source) -> bytes:
    """Plain bytes of a source."""
    said(source.url)
    return msgspec.msgpack.encode(source)


def unpack_source(plain: bytes) -> Source:
    """A source. ValueError."""
    try:
        source = msgspec.msgpack.decode(plain, type=Source)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    said(source.url)
    return source


def source_key(source_id: bytes) -> str:
    """Key of a source."""
    return f"{SOURCES}{source_id.hex()}"


def parse_source_key(key: str) -> bytes | None:
    """The id of a source; None when the key is none's."""
    found = _KEY.fullmatch(key)
    return bytes.fromhex(found[1]) if found else None


class Sources:
    """The sources of one store. Safe to use from many threads."""

    def __init__(self, store: Store, ids: Ids) -> None:
        self._store = store
        self._ids = ids
        self._lock = threading.Lock()
        self._looked: float | None = None
        self._known: dict[bytes, Place] = {}
        self.exist = False  # as far as this process knows

    def keep_fresh(self, moment: float) -> None:
        """Look for sources unless that was done since ``moment`` (any clock, always the same). StoreError."""
        if self.exist or (self._looked is not None and self._looked >= moment):
            return
        with self._lock:
            self.exist = any(parse_source_key(info.key) for info in self._store.list(SOURCES))
            self._looked = moment

    def place(self, source_id: bytes) -> Place:
        """Where a source is. CorruptError when it is missing or damaged."""
        self.exist = True
        if (known := self._known.get(source_id)) is not None:
            return known
        key = source_key(source_id)
        try:
            plain = unwrap(self._store.get(key))
            if self._ids.digest(plain) != source_id:
                raise ValueError("its bytes do not match its id")
            found = said(unpack_source(plain).url)
        except (NotFoundError, ValueError) as error:
            raise CorruptError(f"{key}, which says where its original is, cannot be read: {error}", key) from error
        with self._lock:
            if len(self._known) >= limits.SOURCES_KNOWN:
                self._known.clear()
            self._known[source_id] = found
        return found

    def add(self, url: str) -> bytes:
        """The id of the source with this URL, which is in the store from then on. StoreError."""
        plain = pack_source(Source(url))
        source_id = self._ids.digest(plain)
        if source_id not in self._known:
            self._store.put(source_key(source_id), wrap(plain))
            self.place(source_id)
        return source_id

    def all(self) -> list[Place]:
        """All sources that can be read, sorted. StoreError."""
        found = []
        for info in self._store.list(SOURCES):
            if (source_id := parse_source_key(info.key)) is not None:
                try:
                    found.append(self.place(source_id))
                except CorruptError:
                    continue
        return sorted(found, key=str)
