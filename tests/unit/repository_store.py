"""A store in a dict that counts what is asked of it, and short ways to make objects, for the repository's tests."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

from modelfs import limits
from modelfs.config import Secret
from modelfs.crypto.kdf import Cost
from modelfs.errors import AlreadyExistsError, NotFoundError
from modelfs.ids import TreeId
from modelfs.repository.access import Access
from modelfs.repository.format import Format
from modelfs.repository.keyslots import encrypted
from modelfs.repository.meta import MetaObjects
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind, TreeDelta
from modelfs.repository.repository import Repository
from modelfs.repository.trees import Trees
from modelfs.store.base import Buffer, ObjectInfo, StoreProperties, check_key


class DictStore:
    """Objects in ``data``; ``calls`` counts operations by name; ``log`` has (operation, key) in order."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.calls: Counter[str] = Counter()
        self.log: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    url = "dict://test"
    properties = StoreProperties("dict", writable=True, exclusive_put=True, local=True)

    def _count(self, operation: str, key: str) -> None:
        self.calls[operation] += 1
        self.log.append((operation, key))

    def reset(self) -> None:
        """Begin to count anew."""
        self.calls.clear()
        self.log.clear()

    def get(self, key: str) -> bytes:
        with self._lock:
            self._count("get", check_key(key))
            if key not in self.data:
                raise NotFoundError(f"no object {key}", key)
            return self.data[key]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.get(key)[start : start + length]

    def put(self, key: str, data: Buffer) -> None:
        with self._lock:
            self._count("put", check_key(key))
            self.data[key] = bytes(data)

    def put_if_absent(self, key: str, data: Buffer) -> None:
        with self._lock:
            self._count("put_if_absent", check_key(key))
            if key in self.data:
                raise AlreadyExistsError(f"{key} exists", key)
            self.data[key] = bytes(data)

    def size(self, key: str) -> int | None:
        with self._lock:
            self._count("size", check_key(key))
            return len(self.data[key]) if key in self.data else None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._lock:
            self._count("list", prefix)
            found = [ObjectInfo(key, len(data), 0.0) for key, data in self.data.items() if key.startswith(prefix)]
        return iter(found[::-1])

    def delete(self, key: str) -> None:
        with self._lock:
            self.data.pop(key, None)

    def close(self) -> None:
        pass


def inline(name: bytes, content: bytes = b"") -> Entry:
    """A small file."""
    return Entry(name, Kind.INLINE, 0o644, 1000, 1000, 0, len(content), content)


def directory(name: bytes, tree: TreeId = EMPTY_TREE, mode: int = 0o755) -> Entry:
    """A directory."""
    return Entry(name, Kind.DIRECTORY, mode, 1000, 1000, 0, 0, tree)


def root(tree: TreeId = EMPTY_TREE) -> Entry:
    """The root of a commit."""
    return directory(b"", tree)


def trees_of(store: DictStore) -> Trees:
    """Directories of a store, with nothing remembered."""
    return Trees(MetaObjects(store))


def puts(*entries: Entry) -> TreeDelta:
    """A change that adds or replaces entries of one directory."""
    return TreeDelta(puts={entry.name: entry for entry in entries})


CHEAP = Cost(limits.ARGON2_MEMORY_MIN, 1, 1)
PASSPHRASE = Secret("passphrase", b"canary passphrase")
KEY_FILE = Secret("key-file", bytes(range(32)))


def create_encrypted(store: DictStore, secret: Secret = KEY_FILE) -> Repository:
    """A new encrypted store with one key slot, "first"."""
    made, keys = encrypted(Format(), secret, "first", CHEAP)
    return Repository.create(store, made, keys)


def open_with(store: DictStore, secret: Secret = KEY_FILE) -> Repository:
    """An encrypted store, opened."""
    return Repository.open(store, Access(secret=secret))
