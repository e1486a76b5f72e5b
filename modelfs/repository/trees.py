"""Directories: looking up, listing, comparing and changing them, one level or a whole tree of changes at a time.

A lookup loads the root page and, in a large directory, the pages on the way to one leaf. `apply` works bottom-up,
writes every new page before it returns, and returns the same id when nothing changed. The vfs, `merge`, fsck and the
command line are the callers, through `Repository`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping

import msgspec

from modelfs import limits
from modelfs.errors import CorruptError, UsageError
from modelfs.ids import TreeId
from modelfs.repository.diff import diff_pages
from modelfs.repository.edit import DirectoryEdit
from modelfs.repository.meta import MetaObjects
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind, PageRef, TreeDelta
from modelfs.repository.pages import WHAT, Page, Pages, Paging, name_of

Difference = tuple[bytes, Entry | None, Entry | None]  # name, before, after


class Trees:
    """Reads and writes directories of one store."""

    def __init__(self, meta: MetaObjects, paging: Paging | None = None) -> None:
        self._meta = meta
        self._pages = Pages(meta)
        self._paging = paging or Paging()

    def lookup(self, tree: TreeId, name: bytes) -> Entry | None:
        """The entry of that name in one directory."""
        page, upper = self._pages.root(tree), None
        while page.level:
            i = max(bisect_right(page.items, name, key=name_of) - 1, 0)
            if i + 1 < len(page.items):
                upper = page.items[i + 1].name
            ref = page.items[i]
            assert isinstance(ref, PageRef)
            page = self._pages.child(ref, page.level - 1, upper)
        i = bisect_left(page.items, name, key=name_of)
        if i < len(page.items) and page.items[i].name == name:
            entry = page.items[i]
            assert isinstance(entry, Entry)
            return entry
        return None

    def recall(self, tree: TreeId) -> bool:
        """True when the root page of a directory is in memory; of most directories that is all."""
        return tree == EMPTY_TREE or self._meta.recall(WHAT, tree) is not None

    def entries(self, tree: TreeId) -> Iterator[Entry]:
        """All entries of one directory, sorted by name."""
        return self._pages.entries(self._pages.root(tree))

    def page(self, tree: TreeId) -> Page:
        """One page, whatever its level."""
        return self._pages.root(tree)

    def page_below(self, ref: PageRef, level: int, upper: bytes | None) -> Page:
        """The page of ``level`` that an index page refers to; ``upper``: the first name behind it."""
        return self._pages.child(ref, level, upper)

    def linked(self, tree: TreeId) -> int:
        """How many entries in the directory and below it have a link group."""
        return self._pages.root(tree).linked

    def linked_entries(self, tree: TreeId) -> Iterator[Entry]:
        """The entries of one directory that have a link group, and its subdirectories with such entries below them."""
        return self._pages.linked(self._pages.root(tree))

    def directory(self, entry: Entry, tree: TreeId) -> Entry:
        """The directory ``entry`` with another content."""
        return (
            entry if entry.content == tree else msgspec.structs.replace(entry, content=tree, linked=self.linked(tree))
        )

    def diff(self, before: TreeId, after: TreeId) -> Iterator[Difference]:
        """What differs between two directories (not below), sorted by name. Pages that both have are not read."""
        if before == after:
            return iter(())
        return diff_pages(self._pages, self._pages.root(before), self._pages.root(after))

    def apply(self, tree: TreeId, delta: TreeDelta) -> TreeId:
        """Id of ``tree`` with the changes made to it and below it. All its pages are in the store on return."""
        fresh = _Fresh(self._meta)
        result, _ = self._apply(tree, delta, fresh, 0, 0)
        fresh.flush()
        return result

    def _apply(self, tree: TreeId, delta: TreeDelta, fresh: _Fresh, linked: int, depth: int) -> tuple[TreeId, int]:
        """The changed directory and its number of linked names, which is ``linked`` when nothing changes."""
        if depth > limits.TREE_DEPTH_MAX:
            raise UsageError(f"directories nested deeper than {limits.TREE_DEPTH_MAX}")
        changes: dict[bytes, Entry | None] = dict.fromkeys(delta.deletes)
        changes.update(delta.puts)
        for name, (entry, below) in delta.subdirs.items():
            content, names = self._apply(TreeId(entry.content), below, fresh, entry.linked, depth + 1)
            changes[name] = msgspec.structs.replace(entry, content=content, linked=names)
        for name, change in changes.items():
            if change is not None and change.name != name:
                raise UsageError(f"the entry {change.name!r} under the name {name!r}")
        if not changes:
            return tree, linked
        edit = DirectoryEdit(self._pages, self._paging)
        result = edit.run(tree, changes)
        fresh.add(edit.written)
        made = edit.written.get(result)
        return result, made[1].linked if made is not None else self.linked(result)

    def walk(self, tree: TreeId, path: bytes = b"", *, linked: bool = False) -> Iterator[tuple[bytes, Entry]]:
        """Every path below a directory with its entry, a directory before what is in it, each level sorted.
        ``linked``: only entries with a link group, and the directories on the way to them."""
        entries_of = self.linked_entries if linked else self.entries
        prefix = path + b"/" if path else b""
        levels = [(prefix, entries_of(tree))]
        while levels:
            prefix, entries = levels[-1]
            entry = next(entries, None)
            if entry is None:
                levels.pop()
                continue
            yield prefix + entry.name, entry
            if entry.kind is Kind.DIRECTORY:
                if len(levels) > limits.TREE_DEPTH_MAX:
                    raise CorruptError(f"directories nested deeper than {limits.TREE_DEPTH_MAX} in the store")
                levels.append((prefix + entry.name + b"/", entries_of(TreeId(entry.content))))

    def find(self, root: Entry, path: bytes) -> Entry | None:
        """The entry at a path below ``root``; empty parts of the path are passed over. Symlinks are not followed."""
        found: Entry | None = root
        for name in path.split(b"/"):
            if not name:
                continue
            if found is None or found.kind is not Kind.DIRECTORY:
                return None
            found = self.lookup(TreeId(found.content), name)
        return found


class _Fresh:
    """New pages on their way to the store: written several at once, each directory after those below it."""

    def __init__(self, meta: MetaObjects) -> None:
        self._meta = meta
        self._pages: dict[bytes, tuple[bytes, Page]] = {}
        self._size = 0

    def add(self, written: Mapping[TreeId, tuple[bytes, Page]]) -> None:
        for tree, (plain, page) in written.items():
            self._pages[tree] = (plain, page)
            self._size += len(plain)
        if self._size >= limits.META_FLUSH:
            self.flush()

    def flush(self) -> None:
        self._meta.save_all({tree: plain for tree, (plain, _) in self._pages.items()})
        for tree, (plain, page) in self._pages.items():
            self._meta.remember(WHAT, tree, page, len(plain))
        self._pages, self._size = {}, 0
