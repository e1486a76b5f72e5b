"""One fetch of a chunk on this machine: processes that share a cache wait for each other instead of fetching twice.

Who fetches a chunk holds an open-file-description lock (fcntl(2)) on one byte of the file ``fetching``, at an offset
taken from the chunk's id; locks end with their process. Who finds it held waits, a bounded time, and looks into the
cache again. It is a courtesy: without it, chunks are fetched twice and nothing else happens. Within one process
`reader.source` does the same without the disk. Blocking; used by `reader.source` and `reader.warm`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from modelfs import limits
from modelfs.cache.index import Index
from modelfs.errors import CacheError
from modelfs.ids import ChunkId

log = logging.getLogger(__name__)

_NAME: Final = "fetching"
_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock on 64-bit Linux: type, whence, start, length, pid (0)


class Fetching:
    """The fetches of one cache directory. Safe to use from many threads."""

    def __init__(self, directory: Path, index: Index) -> None:
        """Raises OSError."""
        self._fd = os.open(directory / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._index = index
        self._ended = threading.Event()

    @contextlib.contextmanager
    def turn(self, chunk: ChunkId) -> Iterator[None]:
        """Around another look into the cache, a fetch and the filling of the cache: when it begins, no other process is
        at it any more, and one of them may have brought the chunk."""
        at = int.from_bytes(chunk[:8], "big") >> 2
        deadline = time.monotonic() + limits.CACHE_FETCH_WAIT
        while not (ours := self._lock(fcntl.F_WRLCK, at)) and time.monotonic() < deadline:
            if self._ended.wait(limits.CACHE_FETCH_POLL):
                break
        try:
            yield
        finally:
            if ours:
                self._tell()
                self._lock(fcntl.F_UNLCK, at)

    def _lock(self, kind: int, at: int) -> bool:
        """False when another process holds it."""
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, at, 1, 0))
        except OSError as error:
            return error.errno not in (errno.EAGAIN, errno.EACCES)  # a disk without such locks: everybody fetches
        return True

    def _tell(self) -> None:
        """Commit the rows that wait, if there is anybody who might look for them."""
        try:
            if self._index.sessions() > 1:  # takes 20 us, a fetch at least a hundred times that
                self._index.flush()
        except CacheError as error:
            log.debug("others cannot see yet what was fetched: %s", error)

    def close(self) -> None:
        """Let go of everything."""
        self._ended.set()
        os.close(self._fd)
