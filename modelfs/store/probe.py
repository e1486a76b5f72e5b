"""Does exclusive creation hold? Asked of a store before anything is written to it.

Some servers accept two creations of one object and keep the last; history would be lost there without a word. So
several threads create one probe object at once, a few times over: exactly one may win each time, and what is there
afterwards must be the winner's.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

from modelfs import limits
from modelfs.errors import AlreadyExistsError, StoreError, UnsafeStoreError
from modelfs.store.base import Store

_SIZE = 1024  # about that of a commit


def probe_exclusive_put(store: Store) -> None:
    """Return when exclusive creation holds. UnsafeStoreError says what went wrong; StoreError: it cannot be known."""
    if not store.properties.exclusive_put:
        raise UnsafeStoreError(_line(store, "its backend has no way to create an object exclusively"))
    for _ in range(limits.PROBE_ROUNDS):
        _one_round(store)


def _one_round(store: Store) -> None:
    key = f"probe/{secrets.token_hex(16)}"
    offers = [secrets.token_bytes(_SIZE) for _ in range(limits.PROBE_WRITERS)]
    start = threading.Barrier(len(offers))

    def create(offer: bytes) -> bool:
        start.wait(limits.STORE_REQUEST_TIMEOUT)
        try:
            store.put_if_absent(key, offer)
        except AlreadyExistsError:
            return False
        return True

    try:
        with ThreadPoolExecutor(len(offers), "probe") as pool:
            won = [offer for offer, first in zip(offers, pool.map(create, offers), strict=True) if first]
        if len(won) != 1:
            raise UnsafeStoreError(_line(store, f"{len(won)} of {len(offers)} writers each created the same object"))
        if store.get(key) != won[0]:
            raise UnsafeStoreError(_line(store, "an object was overwritten by a creation that the store refused"))
        with contextlib.suppress(AlreadyExistsError):
            store.put_if_absent(key, offers[0])
            raise UnsafeStoreError(_line(store, "it creates an object that is there already"))
    finally:
        with contextlib.suppress(StoreError):
            store.delete(key)


def _line(store: Store, why: str) -> str:
    return (
        f"{store.url} is not safe to write to: {why} (mount it with --read-only, or --single-writer if you are alone)"
    )
