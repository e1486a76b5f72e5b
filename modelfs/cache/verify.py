"""Hashing again what a cache holds, while mounts use it.

Each chunk is read under the shared lock of its file, as a reader reads it. One whose hash is wrong is forgotten, so it
is fetched again when it is wanted next; a reader that has the file open, and verified the chunk before it went bad,
keeps trusting it until the file is closed. Called by `modelfs cache verify`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from modelfs.cache import sparse
from modelfs.cache.cache import Cache
from modelfs.cache.files import read_exactly
from modelfs.cache.index import FileRow, Place
from modelfs.ids import ChunkId

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verified:
    """What was read, and what of it was wrong and is forgotten. Sizes in bytes."""

    chunks: int
    bytes: int
    damaged_chunks: int
    damaged_bytes: int


def verify(cache: Cache, advance: Callable[[int], None] = lambda count: None) -> Verified:
    """Check every chunk that the index knows; ``advance`` hears of bytes. CacheError."""
    cache.index.flush()
    chunks = total = damaged = damaged_bytes = 0
    for row in cache.index.files():
        for length, good in _file(cache, row):
            chunks, total = chunks + 1, total + length
            if not good:
                damaged, damaged_bytes = damaged + 1, damaged_bytes + length
            advance(length)
    return Verified(chunks, total, damaged, damaged_bytes)


def _file(cache: Cache, row: FileRow) -> Iterator[tuple[int, bool]]:
    """(length, whether it is what it should be) of every chunk in one file."""
    fd = sparse.open_shared(sparse.path_of(cache.files, row.manifest), create=False)
    if fd is None:
        return  # evicted since
    try:
        for chunk, place in cache.index.places(row.id, row.manifest):  # as they are now that the lock is held
            good = _good(cache, fd, chunk, place)
            if not good:
                cache.index.forget(place)
                cache.index.seal(row.manifest, 0)  # the file is not what it was when it was sealed
            yield place.length, good
    finally:
        os.close(fd)


def _good(cache: Cache, fd: int, chunk: ChunkId, place: Place) -> bool:
    try:
        with cache.verifying:
            return cache.ids.digest(read_exactly(fd, place.offset, place.length)) == chunk
    except OSError as error:
        log.warning("the cache file of %s cannot be read: %s", place.manifest.hex(), error.strerror)
        return False
