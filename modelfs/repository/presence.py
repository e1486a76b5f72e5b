"""What this process knows about objects in the store: there, damaged, condemned, or nothing at all.

The writer asks before it uploads. "Known" is only said of what was verified on arrival, acknowledged on upload, or
vouched for by a manifest that the branch reaches; "bad" of what arrived damaged or was missing, and it beats every
other opinion until the object has been written again. So does "condemned": a collection found that nothing reaches
the object and will delete it, unless it is written again (`condemned` keeps that list and tells us). Knowledge is
valid for the list that it was gained under: who asks the store takes a `stamp` before, and what came to be known
under an older list is not remembered. All sets are bounded; safe to use from many threads.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Iterable

from modelfs import limits


class Presence:
    """Known, bad, condemned and pardoned ids of one area of the store."""

    def __init__(self, known: int = limits.KNOWN_IDS, bad: int = limits.BAD_IDS) -> None:
        self._lock = threading.Lock()
        self._known: dict[bytes, None] = {}
        self._known_limit = known
        self._bad: dict[bytes, None] = {}
        self._bad_limit = bad
        self._overflow = False
        self._stamp = 0
        self._condemned: Container[bytes] = ()
        self._pardoned: set[bytes] = set()  # condemned, and written again here since

    def stamp(self) -> int:
        """The list of condemned objects that counts now. Taken before the store is asked or written to."""
        return self._stamp

    def known(self, object_id: bytes) -> bool:
        """True when the object need not be uploaded nor asked for."""
        return object_id in self._known

    def doubtful(self, object_id: bytes) -> bool:
        """True when the store saying that it has the object is not enough."""
        return object_id in self._bad or self._overflow or self.condemned(object_id)

    def condemned(self, object_id: bytes) -> bool:
        """True when a collection is about to delete the object and nobody here has written it since."""
        return object_id in self._condemned and object_id not in self._pardoned

    def pardoned(self, object_id: bytes) -> bool:
        """True when the object is condemned and was written again here."""
        return object_id in self._pardoned

    def vouch(self, ids: Iterable[bytes], stamp: int | None = None) -> None:
        """Ids that something reachable refers to, or that the store says it has: known, unless seen bad."""
        with self._lock:
            if stamp is None or stamp == self._stamp:
                for object_id in ids:
                    if not self.doubtful(object_id):
                        self._remember(object_id)

    def confirm(self, object_id: bytes, stamp: int) -> None:
        """The object was read and verified just now."""
        with self._lock:
            self._bad.pop(object_id, None)
            if stamp == self._stamp and not self.condemned(object_id):
                self._remember(object_id)

    def wrote(self, object_id: bytes, stamp: int) -> None:
        """The object was written just now. Of a condemned one this lifts the sentence."""
        with self._lock:
            self._bad.pop(object_id, None)
            if stamp == self._stamp:
                if object_id in self._condemned:
                    self._pardoned.add(object_id)
                self._remember(object_id)

    def suspect(self, object_id: bytes) -> None:
        """The object is damaged or missing."""
        with self._lock:
            self.forget(object_id)
            if len(self._bad) < self._bad_limit or object_id in self._bad:
                self._bad[object_id] = None
            else:
                # A store so damaged that we cannot remember all of it: nothing there is believed unseen any more.
                self._overflow = True

    def forget(self, object_id: bytes) -> None:
        """Nothing is known of the object any more."""
        self._known.pop(object_id, None)

    def judge(self, condemned: Container[bytes], changed: Iterable[bytes], *, forget_all: bool = False) -> None:
        """A new list of condemned objects. ``changed``: ids that are in it and were not, or were and are not any
        more; ``forget_all``: too much may have happened since the last list."""
        with self._lock:
            self._stamp += 1
            self._condemned = condemned
            if forget_all:
                self._known.clear()
            for object_id in changed:
                self._known.pop(object_id, None)
                self._pardoned.discard(object_id)

    def sizes(self) -> tuple[int, int]:
        """Number of known and of bad ids."""
        return len(self._known), len(self._bad)

    def _remember(self, object_id: bytes) -> None:
        self._known.pop(object_id, None)
        self._known[object_id] = None
        if len(self._known) > self._known_limit:
            del self._known[next(iter(self._known))]
