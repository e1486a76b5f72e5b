"""Changing a directory: the pages that a set of changes touches are rewritten, the others are not even read.

`edit` works level by level from the leaves up. On each level it finds the pages that cover the changed names, cuts
their changed items again, and goes on to the next old page only while the new boundary and the old one differ. What
happened to the pages of one level are the changes of the level above. The result is the same as cutting all entries
anew: the id of a directory depends on its entries, not on its history.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

from modelfs import limits
from modelfs.errors import UsageError
from modelfs.ids import TreeId
from modelfs.repository.objects import EMPTY_TREE, Entry, PageRef
from modelfs.repository.packing import Item, pack_page
from modelfs.repository.pages import Page, Pages, Paging, name_of, page_of, weight_of

Changes = Mapping[bytes, Item | None]  # None: the name goes away


class DirectoryEdit:
    """One change of one directory. ``written`` holds the new pages, children before parents, when `run` is done."""

    def __init__(self, pages: Pages, paging: Paging) -> None:
        self._pages = pages
        self._paging = paging
        self.written: dict[TreeId, tuple[bytes, Page]] = {}

    def run(self, tree: TreeId, changes: Mapping[bytes, Entry | None]) -> TreeId:
        """Id of the directory ``tree`` with the changes made to it."""
        root = self._pages.root(tree)
        if root.level == 0:
            items = _merged(root.items, changes)
            return tree if items == root.items else self._whole(items)
        rising: Changes = changes
        for level in range(root.level):
            rising = self._level(root, level, rising)
            if not rising:
                return tree
        items = _merged(root.items, rising)
        top = page_of(root.level, items)
        if self._paging.fits_one_leaf(top.count, top.weight):
            entries = tuple(self._entries(top))
            self.written.clear()
            return self._whole(entries)
        return self._rise(root.level, items)

    def _whole(self, items: tuple[Item, ...]) -> TreeId:
        """A directory cut anew from all its entries."""
        if not items:
            return EMPTY_TREE
        page = page_of(0, items)
        if self._paging.fits_one_leaf(page.count, page.weight):
            return TreeId(self._write(page).id)
        return self._rise(0, items)

    def _rise(self, level: int, items: Sequence[Item]) -> TreeId:
        """Cut ``items`` into the pages of ``level``, and their references on the next, up to a level of one page."""
        while True:
            pages = self._cut(level, items)
            if len(pages) == 1:
                return self._top(pages[0])
            items = [self._write(page) for page in pages]
            level += 1

    def _top(self, page: Page) -> TreeId:
        """The root: ``page``, unless all it does is refer to a single page, which then is the root."""
        only: PageRef | None = None
        while len(page.items) == 1 and isinstance(page.items[0], PageRef):
            if only is not None:
                self.written.pop(TreeId(only.id), None)
            only = page.items[0]
            page = self._child(only, page.level - 1, None)
        return TreeId(only.id if only else self._write(page).id)

    def _cut(self, level: int, items: Iterable[Item]) -> list[Page]:
        cutter = _Cutter(self._paging, level)
        pages = [page for item in items if (page := cutter.add(item)) is not None]
        last = cutter.finish()
        return pages if last is None else [*pages, last]

    def _level(self, root: Page, level: int, changes: Changes) -> Changes:
        """Make ``changes`` to the pages of ``level`` under the old ``root``: the changes for the level above."""
        names = sorted(changes)
        old: dict[bytes, PageRef] = {}
        new: dict[bytes, PageRef] = {}
        done = 0
        while done < len(names):
            cutter = _Cutter(self._paging, level)
            at: bytes | None = names[done]
            # From a page that begins where an old page begins, to the next new boundary that is an old one.
            while at is not None:
                ref, upper = self._locate(root, level, at)
                page = self._pages.child(ref, level, upper)
                first = done
                while done < len(names) and (upper is None or names[done] < upper):
                    done += 1
                items = _merged(page.items, {name: changes[name] for name in names[first:done]})
                if items == page.items and not cutter.open:
                    break
                old[ref.name] = ref
                for item in items:
                    if (made := cutter.add(item)) is not None:
                        new[made.items[0].name] = self._write(made)
                at = upper if cutter.open else None
            if (made := cutter.finish()) is not None:
                new[made.items[0].name] = self._write(made)
        return {name: new.get(name) for name in old.keys() | new.keys() if old.get(name) != new.get(name)}

    def _locate(self, root: Page, level: int, name: bytes) -> tuple[PageRef, bytes | None]:
        """The old page of ``level`` that covers ``name``, and the first name after that page."""
        page, upper = root, None
        while True:
            i = max(bisect_right(page.items, name, key=name_of) - 1, 0)
            if i + 1 < len(page.items):
                upper = page.items[i + 1].name
            ref = page.items[i]
            assert isinstance(ref, PageRef)
            if page.level == level + 1:
                return ref, upper
            page = self._pages.child(ref, page.level - 1, upper)

    def _write(self, page: Page) -> PageRef:
        if page.level > limits.TREE_INDEX_LEVELS:
            raise UsageError(f"a directory of {page.count} entries does not fit the format")
        plain = pack_page(page.level, page.items)
        tree = TreeId(self._pages.ids.digest(plain))
        self.written[tree] = (plain, page)
        return PageRef(page.items[0].name, tree, page.count, page.weight, page.linked)

    def _child(self, ref: PageRef, level: int, upper: bytes | None) -> Page:
        made = self.written.get(TreeId(ref.id))
        return made[1] if made is not None else self._pages.child(ref, level, upper)

    def _entries(self, page: Page) -> Iterable[Item]:
        for item in page.items:
            if isinstance(item, PageRef):
                yield from self._entries(self._child(item, page.level - 1, None))
            else:
                yield item


class _Cutter:
    """Items in, pages of one level out."""

    def __init__(self, paging: Paging, level: int) -> None:
        self._paging = paging
        self._level = level
        self._weight = 0
        self.open: list[Item] = []

    def add(self, item: Item) -> Page | None:
        """Take one more item; the page, when it ends here."""
        self.open.append(item)
        self._weight += weight_of(item)
        return self.finish() if self._paging.ends(self._level, self.open, self._weight) else None

    def finish(self) -> Page | None:
        """What is left as the last page."""
        if not self.open:
            return None
        page = page_of(self._level, self.open)
        self.open, self._weight = [], 0
        return page


def _merged(items: tuple[Item, ...], changes: Changes) -> tuple[Item, ...]:
    """Sorted items with changes made."""
    by_name = {item.name: item for item in items}
    for name, item in changes.items():
        if item is None:
            by_name.pop(name, None)
        else:
            by_name[name] = item
    return tuple(by_name[name] for name in sorted(by_name))
