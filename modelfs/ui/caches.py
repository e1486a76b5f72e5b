"""What is in the cache of a store on this machine, as `modelfs cache ls` and `map` see it. Blocking.

A cache is opened for one question and closed again: while a process has one open, no other puts right what an unclean
stop left there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from modelfs import limits
from modelfs.cache.cache import Cache, CachedFile, CacheStatistics
from modelfs.cache.directory import read_store_id
from modelfs.errors import CacheError, ModelfsError
from modelfs.ids import ManifestId
from modelfs.reader.residency import Residency, resident_in
from modelfs.repository.objects import Manifest
from modelfs.repository.repository import Repository
from modelfs.ui.draw import Cell, Segment, segments, strip

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Strip:
    """The picture of one cached file. ``resident``: bytes of it on this machine, in whichever cache file. ``why``: what
    keeps us from knowing which parts these are."""

    file: CachedFile
    resident: int
    cells: tuple[Cell, ...]
    segments: tuple[Segment, ...]
    format: str
    tensors: int
    complete: int
    why: str


_looks: Final = threading.BoundedSemaphore(limits.UI_CACHE_THREADS)


def opened(directory: Path, look: Callable[[Cache], T]) -> T:
    """Look at an existing cache. UsageError when there is none, CacheError. What takes long, such as asking a store, is
    not for ``look``."""
    if not _looks.acquire(timeout=limits.UI_TIMEOUT):
        raise CacheError("the caches do not answer: is their disk busy?")
    try:
        cache = Cache(directory, read_store_id(directory))
        try:
            return look(cache)
        finally:
            cache.close()
    finally:
        _looks.release()


def finish(timeout: float) -> None:
    """Wait until nobody looks at a cache, and let nobody begin: a cache is to be closed and not torn off, or who opens
    it next verifies it."""
    deadline = time.monotonic() + timeout
    for _ in range(limits.UI_CACHE_THREADS):
        _looks.acquire(timeout=max(0.0, deadline - time.monotonic()))


def listed(directory: Path, first: int, count: int = limits.UI_FILES) -> tuple[CacheStatistics, list[CachedFile], int]:
    """Sums, the files from place ``first`` on of those that were used last, and how many there are."""

    def look(cache: Cache) -> tuple[CacheStatistics, list[CachedFile], int]:
        files = cache.list()
        files.reverse()
        return cache.statistics(), files[first : first + count], len(files)

    return opened(directory, look)


def pictures(repo: Repository, directory: Path, files: list[CachedFile]) -> list[Strip]:
    """The pictures of files, whose manifests the store has."""
    manifests: dict[ManifestId, Manifest] = {}
    failed: dict[ManifestId, str] = {}
    for file in files:
        try:
            manifests[file.manifest] = repo.read_manifest(file.manifest)
        except ModelfsError as error:
            failed[file.manifest] = str(error)
    here = opened(directory, lambda cache: {key: cache.ranges(manifest) for key, manifest in manifests.items()})
    found = []
    for file in files:
        try:
            known = resident_in(repo, here[file.manifest], manifests[file.manifest]) if file.manifest in here else None
        except ModelfsError as error:
            known, failed[file.manifest] = None, str(error)
        found.append(unknown(file, failed[file.manifest]) if known is None else _picture(file, known))
    return found


def _picture(file: CachedFile, found: Residency) -> Strip:
    return Strip(
        file,
        found.resident,
        tuple(strip(found.size, found.ranges)),
        tuple(segments(found.size, found.tensors)),
        found.format,
        len(found.tensors),
        sum(tensor.resident == tensor.length for tensor in found.tensors),
        "",
    )


def unknown(file: CachedFile, why: str) -> Strip:
    """A file of which only the cache itself tells."""
    return Strip(file, file.resident, (), (), "", 0, 0, why)
