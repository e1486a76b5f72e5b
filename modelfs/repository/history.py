"""Which commits of a branch were collected: one small object a branch, ``gc/history/<branch>``.

A collection writes a number down before it deletes the commit, so a number that is absent and not in here is damage.
"""

from __future__ import annotations

from collections.abc import Iterable

from modelfs.errors import CorruptError, NotFoundError
from modelfs.repository import gcformat as gc
from modelfs.repository.gcformat import NOTHING, Collected
from modelfs.store.base import Store


def read_collected(store: Store, branch: str) -> Collected:
    """Numbers of the commits of ``branch`` that were collected. CorruptError."""
    key = gc.history_key(branch)
    try:
        return gc.unpack_collected(store.get(key))
    except NotFoundError:
        return NOTHING
    except ValueError as error:
        raise CorruptError(f"{key} in {store.url} is damaged: {error}", key) from error


def add_collected(store: Store, branch: str, numbers: Iterable[int]) -> None:
    """Write down more of them. Only who owns the collection may."""
    before = read_collected(store, branch)
    after = before.joined(numbers)
    if after != before:
        store.put(gc.history_key(branch), gc.pack(after))
