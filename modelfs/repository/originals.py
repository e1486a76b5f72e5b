"""Following links: reading ranges of objects outside the store, below what the user allows and nowhere else.

A source's URL is never opened. It is compared with the places that were allowed (``--allow-source``), and what is
opened is the user's own URL, with the credentials and options that he gave; the rest of the source's path and the key
of the link name an object there. Each is opened once in a process, when a link first needs it, with the retries of a
store. What comes back is only bytes until `Chunks` has found that they have the chunk's id.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from modelfs import limits
from modelfs.codecs import Link
from modelfs.errors import (
    BrokenLinkError,
    CorruptError,
    LinkError,
    LinkRefusedError,
    NotFoundError,
    StoreError,
    UsageError,
)
from modelfs.repository.places import Place, allowed
from modelfs.repository.sources import Sources
from modelfs.store.base import Store
from modelfs.store.foreign import ForeignFiles
from modelfs.store.open import open_backend
from modelfs.store.retry import RetryStore


class State(Enum):
    """What an original looks like beside what a link says of it."""

    FINE = "as it was linked"
    GONE = "is gone"
    RESIZED = "has another size"
    TOUCHED = "was modified later, and may have other bytes"
    AWAY = "cannot be asked for"
    REFUSED = "may not be read here"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of an original. ``place``: for people; ``why``: in words."""

    state: State
    place: str
    why: str


class Originals:
    """The originals of one store's links. ``allow``: paths and URLs; ``timeout``: as that of a store. Safe to use from
    many threads. UsageError for what is no path or URL."""

    def __init__(self, sources: Sources, allow: Sequence[str] = (), timeout: float = limits.STORE_RETRY_BUDGET) -> None:
        self._sources = sources
        self._allowed = [allowed(text) for text in allow]
        self._timeout = timeout
        self._lock = threading.Lock()
        self._opened: dict[str, RetryStore] = {}

    def allow(self, text: str) -> None:
        """Allow one more path or URL. UsageError."""
        self._allowed.append(allowed(text))

    def read(self, link: Link, length: int) -> bytes:
        """``length`` bytes of the original, not verified. BrokenLinkError when it cannot have them, LinkRefusedError
        when nobody allows it, LinkError when its source fails."""
        place = self.place(link)
        store, key = self._reach(place)
        try:
            data = store.get_range(key, link.offset, length)
        except NotFoundError as error:
            raise BrokenLinkError(f"{place} is gone", original=str(place)) from error
        except StoreError as error:
            raise LinkError(f"{place} cannot be read: {error}", original=str(place)) from error
        if len(data) != length:
            raise self.changed(link)
        return data

    def changed(self, link: Link) -> BrokenLinkError:
        """What to say of an original whose bytes are not those of the chunk."""
        place = self.place(link)
        seen = self.look(link)
        why = f" (it {seen.why})" if seen.state in (State.RESIZED, State.TOUCHED) else ""
        what = f"{place} was changed after it was linked{why}: its bytes from {link.offset} on are other ones"
        return BrokenLinkError(what, original=str(place))

    def look(self, link: Link) -> Seen:
        """Compare the original with what the link says, without reading it."""
        try:
            place = self.place(link)
        except CorruptError as error:
            return Seen(State.GONE, "", str(error))
        try:
            store, key = self._reach(place)
            found = store.info(key)
        except LinkRefusedError as error:
            return Seen(State.REFUSED, str(place), str(error))
        except StoreError as error:
            return Seen(State.AWAY, str(place), f"cannot be asked for: {error}")
        if found is None:
            return Seen(State.GONE, str(place), State.GONE.value)
        if found.size != link.size:
            return Seen(State.RESIZED, str(place), f"has {found.size} bytes, and had {link.size}")
        if link.mtime_ns and found.mtime and mtime_ns(found.mtime) != link.mtime_ns:
            return Seen(State.TOUCHED, str(place), State.TOUCHED.value)
        return Seen(State.FINE, str(place), State.FINE.value)

    def place(self, link: Link) -> Place:
        """Where a link leads. CorruptError when it says nonsense, or its source cannot be read."""
        try:
            return self._sources.place(link.source).at(link.key)
        except ValueError as error:
            raise CorruptError(f"its link is damaged: {error}") from error

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            opened, self._opened = self._opened, {}
        for store in opened.values():
            store.close()

    def _reach(self, place: Place) -> tuple[RetryStore, str]:
        """What holds the original, and its key there. LinkRefusedError, LinkError."""
        for allow in self._allowed:
            parts = place.below(allow.place)
            if parts is not None:
                url = allow.url if parts else allow.above
                return self._open(url, place), os.fsdecode(b"/".join(parts or place.parts[-1:]))
        raise LinkRefusedError(f"{place} may only be read if --allow-source says so")

    def _open(self, url: str, place: Place) -> RetryStore:
        with self._lock:
            store = self._opened.get(url)
            if store is None:
                try:
                    backend = self._backend(url)
                except (UsageError, StoreError) as error:
                    raise LinkError(f"{place} cannot be opened: {error}", original=str(place)) from error
                store = self._opened[url] = RetryStore(backend, budget=self._timeout, foreign=True)
            return store

    def _backend(self, url: str) -> Store:
        split = urlsplit(url)
        if split.scheme == "file":
            return ForeignFiles(Path(unquote(split.path, errors="surrogateescape")))
        return open_backend(url, timeout=min(self._timeout, limits.STORE_REQUEST_TIMEOUT))


def mtime_ns(mtime: float) -> int:
    """A modification time, in seconds, as links have it."""
    return round(mtime * 1e9)
