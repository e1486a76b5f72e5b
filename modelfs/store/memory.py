"""A store in this process's memory, for tests and experiments: ``memory://NAME``, one per name, gone at exit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from modelfs.errors import AlreadyExistsError, NotFoundError
from modelfs.store.base import Buffer, ObjectInfo, StoreProperties


@dataclass(slots=True)
class _Space:
    """All objects of one name."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    objects: dict[str, tuple[bytes, float]] = field(default_factory=dict)


_spaces: Final[dict[str, _Space]] = {}
_spaces_lock: Final = threading.Lock()


class MemoryStore:
    """The objects of ``memory://NAME``, shared by all stores of that name in this process."""

    properties = StoreProperties("memory", writable=True, exclusive_put=True, local=True)

    def __init__(self, name: str) -> None:
        self.url = f"memory://{name}"
        with _spaces_lock:
            self._space = _spaces.setdefault(name, _Space())

    def get(self, key: str) -> bytes:
        try:
            return self._space.objects[key][0]
        except KeyError as error:
            raise NotFoundError(f"{self.url} has no object {key}", key) from error

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.get(key)[start : start + length]

    def put(self, key: str, data: Buffer) -> None:
        with self._space.lock:
            self._space.objects[key] = (bytes(data), time.time())

    def put_if_absent(self, key: str, data: Buffer) -> None:
        with self._space.lock:
            if key in self._space.objects:
                raise AlreadyExistsError(f"{key} exists in {self.url}", key)
            self._space.objects[key] = (bytes(data), time.time())

    def size(self, key: str) -> int | None:
        found = self._space.objects.get(key)
        return len(found[0]) if found else None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._space.lock:
            found = [(key, *value) for key, value in self._space.objects.items() if key.startswith(prefix)]
        return (ObjectInfo(key, len(data), mtime) for key, data, mtime in found)

    def delete(self, key: str) -> None:
        with self._space.lock:
            self._space.objects.pop(key, None)

    def close(self) -> None:
        """The objects stay for the next store of that name."""
