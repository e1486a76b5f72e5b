"""What a commit brought to its store: the bytes that its files have, those that were new, and what these take there.

New is a chunk that is in no file of the commit before. A commit before with very many files is looked at only in part:
the same paths, and the newest others; then what was saved is at least what is said here. Everything about a commit is
found out once: it does not change.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

from modelfs import limits
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.repository.changes import Change, changes_below
from modelfs.repository.objects import CommitRecord, Entry, Kind
from modelfs.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class Savings:
    """Sizes in bytes. ``paths``: that changed; ``logical``: of the files that are new or have other contents; ``new``:
    of what was not there before; ``stored``: what that takes in the store. ``exact``: False when not everything was
    looked at, and ``new`` and ``stored`` may be less."""

    paths: int
    logical: int
    new: int
    stored: int
    exact: bool

    @property
    def saved(self) -> float | None:
        """The share of the logical bytes that did not have to be stored; None when there were none."""
        return max(0.0, 1 - self.stored / self.logical) if self.logical else None


@dataclass(frozen=True, slots=True)
class Draft:
    """All but what new chunks take in the store. ``inline``: bytes of small files, which lie in the directories."""

    paths: int
    logical: int
    inline: int
    chunks: dict[ChunkId, int]
    exact: bool


def changed_paths(repo: Repository, before: CommitRecord | None, record: CommitRecord) -> tuple[list[Change], bool]:
    """What a commit changed, at most `limits.UI_CHANGES`, and whether that is all. Blocking."""
    found = changes_below(repo, b"", before.commit.root if before is not None else None, record.commit.root)
    changed = list(itertools.islice(found, limits.UI_CHANGES + 1))
    return changed[: limits.UI_CHANGES], len(changed) <= limits.UI_CHANGES


def draft(repo: Repository, before: CommitRecord | None, record: CommitRecord) -> Draft:
    """Blocking. NotFoundError, CorruptError."""
    changed, exact = changed_paths(repo, before, record)
    fresh = [
        new
        for _, old, new in changed
        if new is not None and new.kind in (Kind.FILE, Kind.INLINE) and (old is None or old.content != new.content)
    ]
    chunks: dict[ChunkId, int] = {}
    for manifest in dict.fromkeys(entry.content for entry in fresh if entry.kind is Kind.FILE):
        if len(chunks) > limits.UI_CHUNKS:
            exact = False
            break
        found = repo.read_manifest(ManifestId(manifest)).chunks
        chunks.update((ChunkId(extent.id), extent.length) for extent in found if extent.id)
    if chunks and before is not None:
        old = [entry for _, entry, _ in changed if entry is not None and entry.kind is Kind.FILE]
        known, all_seen = _compared(repo, before.commit.root, old)
        exact = exact and all_seen
        for manifest in known:
            for extent in repo.read_manifest(ManifestId(manifest)).chunks:
                chunks.pop(ChunkId(extent.id), None)
    inline = sum(entry.size for entry in fresh if entry.kind is Kind.INLINE)
    return Draft(len(changed), sum(entry.size for entry in fresh), inline, chunks, exact)


def _compared(repo: Repository, root: Entry, first: list[Entry]) -> tuple[list[bytes], bool]:
    """Manifests of the commit before: those of ``first`` and of the newest files, and whether these are all."""
    walked = repo.walk(TreeId(root.content))
    entries = list(itertools.islice(walked, limits.UI_COMPARED_ENTRIES + 1))
    files = {entry.content: entry for _, entry in entries if entry.kind is Kind.FILE}
    newest = heapq.nlargest(limits.UI_COMPARED, files.values(), key=lambda entry: entry.mtime_ns)
    exact = len(entries) <= limits.UI_COMPARED_ENTRIES and len(newest) == len(files)
    return list(dict.fromkeys(entry.content for entry in [*first, *newest])), exact
