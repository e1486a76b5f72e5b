"""What this process knows about objects in the store: there, damaged, or nothing at all.

The writer asks before it uploads. "Known" is only said of what was verified on arrival, acknowledged on upload, or
vouched for by a manifest that the branch reaches; "bad" of what arrived damaged or was missing, and it beats every
other opinion until the object has been written again. Both sets are bounded; safe to use from many threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from modelfs import limits


class Presence:
    """Known and bad ids."""

    def __init__(self, known: int = limits.KNOWN_IDS, bad: int = limits.BAD_IDS) -> None:
        self._lock = threading.Lock()
        self._known: dict[bytes, None] = {}
        self._known_limit = known
        self._bad: dict[bytes, None] = {}
        self._bad_limit = bad
        self._overflow = False

    def known(self, object_id: bytes) -> bool:
        """True when the object need not be uploaded nor asked for."""
        return object_id in self._known

    def doubtful(self, object_id: bytes) -> bool:
        """True when the store saying that it has the object is not enough."""
        return object_id in self._bad or self._overflow

    def vouch(self, ids: Iterable[bytes]) -> None:
        """Ids that something reachable refers to: known, unless seen bad."""
        with self._lock:
            for object_id in ids:
                if not self.doubtful(object_id):
                    self._remember(object_id)

    def confirm(self, object_id: bytes) -> None:
        """The object was verified or written just now."""
        with self._lock:
            self._bad.pop(object_id, None)
            self._remember(object_id)

    def suspect(self, object_id: bytes) -> None:
        """The object is damaged or missing."""
        with self._lock:
            self._known.pop(object_id, None)
            if len(self._bad) < self._bad_limit or object_id in self._bad:
                self._bad[object_id] = None
            else:
                # A store so damaged that we cannot remember all of it: nothing there is believed unseen any more.
                self._overflow = True

    def sizes(self) -> tuple[int, int]:
        """Number of known and of bad ids."""
        return len(self._known), len(self._bad)

    def _remember(self, object_id: bytes) -> None:
        self._known.pop(object_id, None)
        self._known[object_id] = None
        if len(self._known) > self._known_limit:
            del self._known[next(iter(self._known))]
