"""Files of this machine as objects that are not ours: read, never written.

A key leads to a regular file below the root and nowhere else: the file is opened without effect first (`O_PATH`), and
read only when it is a regular one and the kernel says that it lies below the root, whatever symbolic links are on the
way. `repository.originals` reads linked chunks through this.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Never

from modelfs.errors import NotFoundError, PermissionDeniedError, ReadOnlyError
from modelfs.store.base import Buffer, ObjectInfo, StoreProperties
from modelfs.store.local import translate


class ForeignFiles:
    """The files below ``root``, which is absolute. Nothing is asked of it before the first object is."""

    properties = StoreProperties("file", writable=False, exclusive_put=False, local=True)

    def __init__(self, root: Path) -> None:
        self.url = str(root)
        self._root = root

    def get(self, key: str) -> bytes:
        with self._opened(key) as fd:
            return self._read(key, fd, 0, os.fstat(fd).st_size)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        with self._opened(key) as fd:
            return self._read(key, fd, start, length)

    def size(self, key: str) -> int | None:
        found = self.info(key)
        return None if found is None else found.size

    def info(self, key: str) -> ObjectInfo | None:
        """Size and modification time of a file, None when it does not exist."""
        try:
            with self._opened(key, os.O_PATH) as fd:
                facts = os.fstat(fd)
        except NotFoundError:
            return None
        return ObjectInfo(key, facts.st_size, facts.st_mtime)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._refuse(prefix)

    def put(self, key: str, data: Buffer) -> None:
        self._refuse(key)

    def put_if_absent(self, key: str, data: Buffer) -> None:
        self._refuse(key)

    def delete(self, key: str) -> None:
        self._refuse(key)

    def close(self) -> None:
        """Nothing is held."""

    def _refuse(self, key: str) -> Never:
        raise ReadOnlyError(f"{self.url} is only read, one file at a time", key)

    @contextmanager
    def _opened(self, key: str, flags: int = os.O_RDONLY) -> Iterator[int]:
        try:
            root = os.fsencode(self._root.resolve(strict=True))
            found = os.open(self._root / key, os.O_PATH | os.O_CLOEXEC)
            try:
                self._check(key, root, found)
                if flags == os.O_PATH:
                    yield found
                    return
                fd = os.open(f"/proc/self/fd/{found}", flags | os.O_CLOEXEC)
                try:
                    yield fd
                finally:
                    os.close(fd)
            finally:
                os.close(found)
        except OSError as error:
            translate(error, self.url, key)

    def _check(self, key: str, root: bytes, fd: int) -> None:
        place = os.fsencode(Path(f"/proc/self/fd/{fd}").readlink())
        if root != b"/" and not place.startswith(root + b"/"):
            raise PermissionDeniedError(f"{self.url}: {key} lies outside of it", key)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise PermissionDeniedError(f"{self.url}: {key} is no file", key)

    def _read(self, key: str, fd: int, start: int, length: int) -> bytes:
        try:
            return os.pread(fd, length, start)
        except OSError as error:
            translate(error, self.url, key)
