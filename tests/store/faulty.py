"""A store that fails as told, for tests of what stands above it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from modelfs.store.base import Buffer, ObjectInfo, Store, StoreProperties

Fault = Callable[[str, str], None]  # (operation, key): raises to fail before the operation


class FaultyStore:
    """Calls ``before`` ahead of each operation and ``after`` behind it: raising there loses the acknowledgement."""

    def __init__(self, inner: Store, before: Fault | None = None, after: Fault | None = None) -> None:
        self._inner = inner
        self._before = before or (lambda operation, key: None)
        self._after = after or (lambda operation, key: None)

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def properties(self) -> StoreProperties:
        return self._inner.properties

    def get(self, key: str) -> bytes:
        self._before("get", key)
        data = self._inner.get(key)
        self._after("get", key)
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self._before("get_range", key)
        return self._inner.get_range(key, start, length)

    def put(self, key: str, data: Buffer) -> None:
        self._before("put", key)
        self._inner.put(key, data)
        self._after("put", key)

    def put_if_absent(self, key: str, data: Buffer) -> None:
        self._before("put_if_absent", key)
        self._inner.put_if_absent(key, data)
        self._after("put_if_absent", key)

    def size(self, key: str) -> int | None:
        self._before("size", key)
        return self._inner.size(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._before("list", prefix)
        return self._inner.list(prefix)

    def delete(self, key: str) -> None:
        self._before("delete", key)
        self._inner.delete(key)

    def close(self) -> None:
        self._inner.close()
