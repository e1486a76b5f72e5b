"""What changed between two directories and below them, path by path."""

from __future__ import annotations

from collections.abc import Iterator

from modelfs.ids import TreeId
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind
from modelfs.repository.repository import Repository

Change = tuple[bytes, Entry | None, Entry | None]  # path, entry before, entry after


def changes_below(repo: Repository, above: bytes, old: Entry | None, new: Entry | None) -> Iterator[Change]:
    """Of two directories (None: an empty one) at the path ``above``, what differs below them."""
    before = TreeId(old.content) if old is not None else EMPTY_TREE
    after = TreeId(new.content) if new is not None else EMPTY_TREE
    for name, a, b in repo.diff(before, after):
        yield from changes(repo, above + b"/" + name if above else name, a, b)


def changes(repo: Repository, path: bytes, old: Entry | None, new: Entry | None) -> Iterator[Change]:
    """Of two entries at a path that are not equal, what differs: they themselves and what is below them. A directory
    is among it when it is new, gone, or has other attributes."""
    a = old if old is not None and old.kind is Kind.DIRECTORY else None
    b = new if new is not None and new.kind is Kind.DIRECTORY else None
    if a is None or b is None or a.mode != b.mode or (a.uid, a.gid, a.xattrs) != (b.uid, b.gid, b.xattrs):
        yield path, old, new
    if a is not None or b is not None:
        yield from changes_below(repo, path, a, b)
