"""How many linked names lie below each directory, as its entry says and as its entries are.

A mount finds the other names of a linked file by these sums (docs/store-format.md, "Hard links"), so a wrong one hides
names, each of which is then shown as a file of its own. The ids of pages cannot show that: whoever wrote the number
hashed it. fsck looks here when its walk has met two numbers that differ, and `Repair` writes right ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from modelfs import limits
from modelfs.errors import CorruptError, NotFoundError
from modelfs.ids import TreeId
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind, TreeDelta
from modelfs.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class WrongSum:
    """The entry of the directory ``path`` says ``said``, and what is in there says ``found``. ``holder``: the directory
    that has the entry, b"" when it is the root of a commit."""

    path: bytes
    holder: bytes
    said: int
    found: int


class LinkSums:
    """The sums of one repository's directories; what was counted once is remembered by tree."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._counts: dict[bytes, int | None] = {}

    def count(self, tree: bytes, depth: int = 0) -> int | None:
        """Entries with a group in a directory and in all below it; None when not all of them can be read."""
        if tree == EMPTY_TREE:
            return 0
        if tree not in self._counts:
            self._counts[tree] = self._counted(TreeId(tree), depth)
        return self._counts[tree]

    def _counted(self, tree: TreeId, depth: int) -> int | None:
        if depth > limits.TREE_DEPTH_MAX:
            return None
        found = 0
        try:
            for entry in self._repo.list(tree):
                below = self.count(entry.content, depth + 1) if entry.kind is Kind.DIRECTORY else int(bool(entry.group))
                if below is None:
                    return None
                found += below
        except (NotFoundError, CorruptError):  # fsck reports it by itself
            return None
        return found

    def wrong(self, root: Entry) -> Iterator[WrongSum]:
        """Every directory in and below a commit's root whose entry says another number than what is in it does. One
        that was summed up from a wrong entry below it is right in that."""
        seen: set[tuple[bytes, int]] = set()
        levels = [(b"", root, b"")]
        while levels:
            path, entry, holder = levels.pop()
            tree = TreeId(entry.content)
            if (tree, entry.linked) in seen:
                continue
            seen.add((tree, entry.linked))
            prefix = path + b"/" if path else b""
            with contextlib.suppress(NotFoundError, CorruptError):  # fsck reports it by itself
                found = self._repo.read_page(tree).linked
                if found != entry.linked:
                    yield WrongSum(path, holder, entry.linked, found)
                below = (child for child in self._repo.list(tree) if child.kind is Kind.DIRECTORY)
                levels += [(prefix + child.name, child, tree) for child in below]

    def corrected(self, entry: Entry) -> Entry:
        """A directory with the right number on it and everywhere below it; the pages of that are in the store."""
        found = self.count(entry.content)
        if found is None:
            return entry
        changes = {
            below.name: right
            for below in self._repo.list(TreeId(entry.content))
            if below.kind is Kind.DIRECTORY and (right := self.corrected(below)) != below
        }
        tree = self._repo.apply(TreeId(entry.content), TreeDelta(puts=changes)) if changes else entry.content
        return msgspec.structs.replace(entry, content=tree, linked=found)
