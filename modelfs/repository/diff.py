"""Comparing two directories page by page.

Two cursors walk the directories in order. A cursor stands on an entry or on a page that it has not opened; when both
stand on the same page it is skipped whole, unread. So the cost follows what differs, not the size of the directory.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelfs.repository.objects import Entry, PageRef
from modelfs.repository.packing import Item
from modelfs.repository.pages import Page, Pages


class _Cursor:
    """Stands on the next item of a directory; ``item`` is None at the end."""

    def __init__(self, pages: Pages, root: Page) -> None:
        self._pages = pages
        self._stack: list[tuple[Page, int, bytes | None]] = [(root, 0, None)]
        self.item: Item | None = None
        self._settle()

    @property
    def level(self) -> int:
        """Level of the unopened page that the cursor stands on."""
        return self._stack[-1][0].level - 1

    def skip(self) -> None:
        """Go past the item."""
        page, at, upper = self._stack[-1]
        self._stack[-1] = (page, at + 1, upper)
        self._settle()

    def open(self) -> None:
        """Replace the page that the cursor stands on by its items."""
        page, at, upper = self._stack[-1]
        ref = page.items[at]
        assert isinstance(ref, PageRef)
        following = page.items[at + 1].name if at + 1 < len(page.items) else upper
        self._stack[-1] = (page, at + 1, upper)
        self._stack.append((self._pages.child(ref, page.level - 1, following), 0, following))
        self._settle()

    def _settle(self) -> None:
        while self._stack and self._stack[-1][1] >= len(self._stack[-1][0].items):
            self._stack.pop()
        self.item = self._stack[-1][0].items[self._stack[-1][1]] if self._stack else None


def diff_pages(pages: Pages, before: Page, after: Page) -> Iterator[tuple[bytes, Entry | None, Entry | None]]:
    """(name, entry before, entry after) for every name whose entries differ, sorted."""
    a, b = _Cursor(pages, before), _Cursor(pages, after)
    while a.item is not None or b.item is not None:
        x, y = a.item, b.item
        if isinstance(x, PageRef) and isinstance(y, PageRef):
            if x.id == y.id:
                a.skip()
                b.skip()
            elif a.level != b.level:
                (a if a.level > b.level else b).open()
            else:
                if x.name <= y.name:
                    a.open()
                if y.name <= x.name:
                    b.open()
        elif isinstance(x, PageRef) and (y is None or y.name >= x.name):
            a.open()
        elif isinstance(y, PageRef) and (x is None or x.name >= y.name):
            b.open()
        elif isinstance(x, Entry) and (y is None or x.name < y.name):
            yield x.name, x, None
            a.skip()
        elif isinstance(y, Entry) and (x is None or y.name < x.name):
            yield y.name, None, y
            b.skip()
        else:
            assert isinstance(x, Entry)
            assert isinstance(y, Entry)
            if x != y:
                yield x.name, x, y
            a.skip()
            b.skip()
