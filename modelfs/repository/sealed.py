"""An encrypted store: a store around a store that seals every object on its way out and opens it on its way in.

Everything above sees plain objects; the store below sees only sealed ones, and format.json, which says how to open
them. A seal fits the one key that it was made for. When an object of a newer epoch arrives, the keys are read again:
somebody has rotated them. Used by `Repository` alone, which hands it to everybody as its ``store``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

from modelfs.crypto.objects import HEAD_LENGTH, OVERHEAD, PEEK_LENGTH, Sealer, epoch_of
from modelfs.errors import CorruptError
from modelfs.repository.keys import FORMAT_KEY
from modelfs.repository.keyslots import Reload, Unlocked
from modelfs.store.base import Buffer, ObjectInfo, Store, StoreProperties


class SealedStore:
    """See the module's text."""

    def __init__(self, inner: Store, store_id: str, keys: Unlocked, reload: Reload) -> None:
        self.inner = inner
        self._store_id = store_id
        self._sealer = Sealer(store_id, keys.keyring)
        self._reload = reload
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def properties(self) -> StoreProperties:
        return self.inner.properties

    def get(self, key: str) -> Buffer:
        """The plain object. CorruptError when its seal does not fit."""
        sealed = self.inner.get(key)
        if key == FORMAT_KEY:
            return sealed
        try:
            return self._sealer_for(sealed).open(key, sealed)
        except CorruptError as error:
            raise CorruptError(f"{key} in {self.url} is damaged or forged: {error}", key) from error

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Plain bytes of a range. The first `HEAD_LENGTH` cost one small read, others the whole object."""
        if start + length > HEAD_LENGTH or key == FORMAT_KEY:
            return bytes(memoryview(self.get(key))[start : start + max(length, 0)])
        sealed = self.inner.get_range(key, 0, PEEK_LENGTH)
        try:
            return self._sealer_for(sealed).open_head(key, sealed)[start : start + max(length, 0)]
        except CorruptError as error:
            raise CorruptError(f"{key} in {self.url} is damaged or forged: {error}", key) from error

    def put(self, key: str, data: Buffer) -> None:
        self.inner.put(key, self._sealed(key, data))

    def put_if_absent(self, key: str, data: Buffer) -> None:
        self.inner.put_if_absent(key, self._sealed(key, data))

    def size(self, key: str) -> int | None:
        """Plain bytes; 0 for what is too short to be sealed."""
        size = self.inner.size(key)
        return None if size is None else _plain_size(key, size)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for found in self.inner.list(prefix):
            yield replace(found, size=_plain_size(found.key, found.size))

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def close(self) -> None:
        self.inner.close()

    def _sealed(self, key: str, data: Buffer) -> Buffer:
        return data if key == FORMAT_KEY else self._sealer.seal(key, data)

    def _sealer_for(self, sealed: Buffer) -> Sealer:
        sealer = self._sealer
        if epoch_of(sealed) <= sealer.epoch:
            return sealer
        with self._lock:
            if epoch_of(sealed) > self._sealer.epoch:
                self._sealer = Sealer(self._store_id, self._reload().keyring)
            return self._sealer


def _plain_size(key: str, size: int) -> int:
    return size if key == FORMAT_KEY else max(0, size - OVERHEAD)
