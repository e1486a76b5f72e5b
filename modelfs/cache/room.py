"""Keeping the cache within its bounds: the limit in bytes, and a share of the disk that stays free for others.

Least recently used files go first; files that somebody reads (LOCK_SH) and pinned ones stay, and so does what a
pinned file borrows. A file that is needed only in part loses its end, so what is kept serves the next sequential
read from its beginning.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from modelfs import limits
from modelfs.cache import sparse
from modelfs.cache.directory import FILES
from modelfs.cache.index import FileRow, Index
from modelfs.errors import CacheError
from modelfs.ids import ManifestId

log = logging.getLogger(__name__)


class Room:
    """Makes room in one cache directory."""

    def __init__(self, directory: Path, index: Index) -> None:
        self.evicted_bytes = 0
        self._directory = directory
        self._index = index
        self._lock = threading.Lock()
        self._hopeless_until = 0.0

    @property
    def limit(self) -> int:
        """In bytes; `Index.set_limit` moves it, in whichever process. Raises CacheError."""
        return self._index.limit()

    def reserve(self, length: int, *, there: int = 0) -> bool:
        """True when ``length`` more bytes fit, after evicting if need be; ``there`` of them are on the disk already.
        Raises CacheError."""
        if self._fits(length, there):
            return True
        with self._lock:
            if self._fits(length, there):
                return True
            if time.monotonic() < self._hopeless_until:
                return False
            allowed = self._allowed(there)
            target = max(0, min(allowed - length, int(allowed * limits.CACHE_LOW_WATER)))
            self._evict(self._index.bytes() - target, even_pinned=False)
            if self._fits(length, there):
                return True
            self._hopeless_until = time.monotonic() + limits.CACHE_EVICT_RETRY
            return False

    def spare(self) -> int:
        """Bytes that fit with nothing evicted. Raises CacheError."""
        return self._allowed(0) - self._index.bytes()

    def evict(self, wanted: int, *, even_pinned: bool = False) -> int:
        """Free ``wanted`` bytes, or as many as nobody uses; the number freed. Raises CacheError."""
        with self._lock:
            return self._evict(wanted, even_pinned=even_pinned)

    def evict_files(self, manifests: Iterable[ManifestId]) -> int:
        """Free what these files hold by themselves, unless they are pinned or in use; the bytes freed. CacheError."""
        with self._lock:
            self._index.flush()
            freed = sum(self._evict_file(row, row.resident, even_pinned=False) for row in self._index.rows(manifests))
            self.evicted_bytes += freed
            return freed

    def _fits(self, length: int, there: int) -> bool:
        return self._index.bytes() + length <= self._allowed(there)

    def _allowed(self, there: int) -> int:
        """The limit, or less when the disk fills: bytes held now, plus what is free beyond the others' share."""
        disk = os.statvfs(self._directory)
        spare = disk.f_bavail * disk.f_frsize - int(disk.f_blocks * disk.f_frsize * limits.CACHE_DISK_FREE_SHARE)
        return min(self.limit, max(0, self._index.bytes() + spare + there))

    def _evict(self, wanted: int, *, even_pinned: bool) -> int:
        freed, after = 0, -1
        self._index.flush()
        while freed < wanted:
            rows = self._index.evictable(after, even_pinned)
            if not rows:
                break
            for row in rows:
                after = row.used
                if freed >= wanted:
                    break
                freed += self._evict_file(row, wanted - freed, even_pinned=even_pinned)
        self.evicted_bytes += freed
        if freed:
            log.info("evicted %d bytes from the cache %s", freed, self._directory)
        return freed

    def _evict_file(self, row: FileRow, wanted: int, *, even_pinned: bool) -> int:
        path = sparse.path_of(self._directory / FILES, row.manifest)
        try:
            fd = sparse.open_exclusive(path)
            if fd is None:
                return 0
            try:
                if not sparse.unused(fd):
                    return 0
                if row.resident <= wanted:
                    if not self._index.drop(row, even_pinned):
                        return 0
                    path.unlink()
                    return row.resident
                sealed = os.fstat(fd).st_ctime_ns == row.sealed
                ranges = self._index.cut(row, wanted, even_pinned)
                for offset, length in sparse.merged(ranges or []):
                    sparse.punch(fd, offset, length)
                if sealed:  # what is left of it has not changed
                    self._index.seal(row.manifest, os.fstat(fd).st_ctime_ns)
                return sum(length for _, length in ranges or [])
            finally:
                os.close(fd)
        except OSError as error:
            raise CacheError(f"cannot evict from the cache: {path}: {error.strerror}") from error
