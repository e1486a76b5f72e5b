"""Directories and files of a commit, page by page. Blocking, and bounded: what stands before the page that is shown is
not read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelfs import limits
from modelfs.errors import CacheError, UnknownRefError, UsageError
from modelfs.ids import ManifestId, TreeId
from modelfs.reader.residency import Residency, inline, resident_in
from modelfs.repository.objects import CommitRecord, Entry, Kind, PageRef
from modelfs.repository.pages import Page
from modelfs.repository.repository import Repository
from modelfs.ui.caches import opened


@dataclass(frozen=True, slots=True)
class Directory:
    """Entries of one page. ``count``: of all; ``following``: the name with which the next page begins."""

    entries: tuple[Entry, ...]
    count: int
    following: bytes | None


@dataclass(frozen=True, slots=True)
class File:
    """A regular file. ``cached``: False when there is no cache that could tell what of it is on this machine."""

    residency: Residency
    cached: bool


def find(repo: Repository, record: CommitRecord, path: bytes) -> Entry:
    """UnknownRefError when there is nothing."""
    entry = repo.find(record.commit.root, path)
    if entry is None:
        raise UnknownRefError(f"{record.branch}@{record.number} has no {path.decode('utf-8', 'backslashreplace')}")
    return entry


def directory(repo: Repository, entry: Entry, start: bytes, count: int = limits.UI_ENTRIES) -> Directory:
    """The entries of a directory from the name ``start`` on."""
    if entry.kind is not Kind.DIRECTORY:
        raise UsageError("not a directory")
    top = repo.read_page(TreeId(entry.content))
    found = list(itertools.islice(_from(repo, top, start, None), count + 1))
    return Directory(tuple(found[:count]), top.count, found[count].name if len(found) > count else None)


def _from(repo: Repository, page: Page, start: bytes, upper: bytes | None) -> Iterator[Entry]:
    """Entries in and below a page whose names are not below ``start``."""
    for i, item in enumerate(page.items):
        if isinstance(item, PageRef):
            following = page.items[i + 1].name if i + 1 < len(page.items) else upper
            if following is None or following > start:
                yield from _from(repo, repo.page_below(item, page.level - 1, following), start, following)
        elif item.name >= start:
            yield item


def file(repo: Repository, entry: Entry, cache: Path) -> File:
    """What is known of a regular file, and what of it is in a cache."""
    if entry.kind is Kind.INLINE:
        return File(inline(entry.size), True)
    if entry.kind is not Kind.FILE:
        raise UsageError("not a regular file")
    return content(repo, ManifestId(entry.content), cache)


def content(repo: Repository, manifest_id: ManifestId, cache: Path) -> File:
    """The same of one version of a file."""
    manifest = repo.read_manifest(manifest_id)

    try:
        found = opened(cache, lambda held: held.ranges(manifest))
    except (CacheError, UsageError):  # there is none, or it is no cache
        return File(resident_in(repo, [], manifest), False)
    return File(resident_in(repo, found, manifest), True)
