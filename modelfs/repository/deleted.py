"""What was in a branch once and is not any more: found by comparing each commit with the one before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from modelfs.ids import TreeId
from modelfs.repository.objects import CommitRecord, Entry, Kind
from modelfs.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class Deleted:
    """A path that is gone, as it last was. ``record``: the newest commit that has it."""

    path: bytes
    entry: Entry
    record: CommitRecord


def deleted(repo: Repository, head: CommitRecord, top: bytes = b"") -> Iterator[Deleted]:
    """Deleted paths at, below or around ``top``, the latest deletions first; a deleted directory is one of them, what
    was in it is not. A path that is there again is none."""
    seen: set[bytes] = set()
    for newer, older in pairwise(repo.log(head)):
        old, new = TreeId(older.commit.root.content), TreeId(newer.commit.root.content)
        for path, entry in _removed(repo, old, new, b""):
            related = not top or path == top or path.startswith(top + b"/") or top.startswith(path + b"/")
            if related and path not in seen and repo.find(head.commit.root, path) is None:
                yield Deleted(path, entry, older)
            seen.add(path)


def newest_with(repo: Repository, head: CommitRecord, path: bytes) -> tuple[CommitRecord, Entry] | None:
    """The newest commit that has a path, and what is there."""
    for record in repo.log(head):
        entry = repo.find(record.commit.root, path)
        if entry is not None:
            return record, entry
    return None


def _removed(repo: Repository, old: TreeId, new: TreeId, prefix: bytes) -> Iterator[tuple[bytes, Entry]]:
    for name, before, after in repo.diff(old, new):
        if before is None:
            continue
        if after is None:
            yield prefix + name, before
        elif before.kind is after.kind is Kind.DIRECTORY:
            yield from _removed(repo, TreeId(before.content), TreeId(after.content), prefix + name + b"/")
