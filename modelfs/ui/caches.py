"""What is in the cache of a store on this machine, as `modelfs cache ls` and `map` see it. Blocking.

A cache is opened for one question and closed again: while a process has one open, no other puts right what an unclean
stop left there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from modelfs import limits
from modelfs.cache.cache import Cache, CachedFile, CacheStatistics
from modelfs.cache.directory import read_store_id
from modelfs.errors import ModelfsError
from modelfs.ids import PLAIN, Ids
from modelfs.reader.residency import residency
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


@dataclass(frozen=True, slots=True)
class CachePage:
    """Files that were used last. ``count``: of all files."""

    held: CacheStatistics
    strips: tuple[Strip, ...]
    count: int


def opened(directory: Path, ids: Ids, look: Callable[[Cache], T]) -> T:
    """Look at an existing cache. UsageError when there is none, CacheError."""
    cache = Cache(directory, read_store_id(directory), ids=ids)
    try:
        return look(cache)
    finally:
        cache.close()


def listed(directory: Path, first: int, count: int = limits.UI_FILES) -> tuple[CacheStatistics, list[CachedFile], int]:
    """Sums, the files from place ``first`` on of those that were used last, and how many there are."""

    def look(cache: Cache) -> tuple[CacheStatistics, list[CachedFile], int]:
        files = cache.list()
        files.reverse()
        return cache.statistics(), files[first : first + count], len(files)

    return opened(directory, PLAIN, look)


def pictures(repo: Repository, directory: Path, files: list[CachedFile]) -> list[Strip]:
    """The pictures of files, whose manifests the store has."""
    return opened(directory, repo.ids, lambda cache: [_picture(repo, cache, file) for file in files])


def _picture(repo: Repository, cache: Cache, file: CachedFile) -> Strip:
    try:
        found = residency(repo, cache, repo.read_manifest(file.manifest))
    except ModelfsError as error:
        return unknown(file, str(error))
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
