"""Many ids in little memory: a set of 32-byte values, sorted in one array, with the newest in a Python set.

A million ids take 32 MB (a Python set of bytes takes four times that), twice that for the instant in which the newest
are merged in. Ids are added one by one or in batches, never removed. Not safe to use from several threads at once.
The marks of a collection and of fsck, and the list of condemned objects that every writer keeps, are such sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from modelfs import limits
from modelfs.ids import ID_LENGTH

_TYPE: Final = np.dtype(f"S{ID_LENGTH}")  # fixed width and compared as bytes, so that trailing zeros do no harm


class IdSet:
    """A set of ids."""

    def __init__(self, ids: Iterable[bytes] = ()) -> None:
        self._sorted: npt.NDArray[np.bytes_] = np.empty(0, _TYPE)
        self._recent: set[bytes] = set()
        self.update(ids)

    def add(self, object_id: bytes) -> bool:
        """Add an id; True when it was not in the set."""
        if object_id in self:
            return False
        self._recent.add(object_id)
        self._settle()
        return True

    def update(self, ids: Iterable[bytes]) -> None:
        """Add many ids."""
        self._recent.update(ids)
        self._settle()

    def __contains__(self, object_id: object) -> bool:
        if not isinstance(object_id, bytes):
            return False
        if object_id in self._recent:
            return True
        place = int(self._sorted.searchsorted(np.frombuffer(object_id, _TYPE)[0]))
        return place < len(self._sorted) and self._at(place) == object_id

    def __len__(self) -> int:
        self._merge()
        return len(self._sorted)

    def __iter__(self) -> Iterator[bytes]:
        """All ids, sorted."""
        self._merge()
        for place in range(len(self._sorted)):
            yield self._at(place)

    def _at(self, place: int) -> bytes:
        return self._sorted[place : place + 1].tobytes()

    def _settle(self) -> None:
        # A merge costs as much as the array is long: it waits until the newest are a good part of it.
        if len(self._recent) >= max(limits.ID_SET_RECENT, len(self._sorted) // 8):
            self._merge()

    def _merge(self) -> None:
        if self._recent:
            recent = np.frombuffer(b"".join(self._recent), _TYPE)
            self._recent = set()
            self._sorted = np.union1d(self._sorted, recent)
