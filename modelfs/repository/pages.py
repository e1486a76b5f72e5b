"""Pages of directories: how a sorted list of entries is cut, and how a page is loaded and checked.

    entries   a b c | d e f g | h i        leaf pages (level 0), a page ends after an entry whose name hash says so
    refs      (a) (d) | (h)                index pages (level 1) over the first names of the pages below, cut by the
                                           same rule with another salt; and so on until a level has one page: the root

Where a page ends depends on its own items alone, so the pages of a directory follow from its entries and from nothing
else, and a change moves no boundary beyond the next one that stays. A small directory is one leaf page, not cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from blake3 import blake3

from modelfs import limits
from modelfs.errors import CorruptError
from modelfs.ids import TreeId
from modelfs.repository.keys import meta_key
from modelfs.repository.meta import MetaObjects
from modelfs.repository.objects import EMPTY_TREE, Entry, PageRef
from modelfs.repository.packing import Item, unpack_page

WHAT: Final = "tree page"
name_of: Final = attrgetter("name")


@dataclass(frozen=True, slots=True)
class Paging:
    """The numbers of the page rule. Constants of the format; tests make them small."""

    single: int = limits.TREE_PAGE_SINGLE
    target: int = limits.TREE_PAGE_TARGET
    maximum: int = limits.TREE_PAGE_MAX
    size: int = limits.TREE_PAGE_BYTES

    def fits_one_leaf(self, count: int, weight: int) -> bool:
        """True when a directory is one leaf page that is not cut."""
        return count <= self.single and weight <= self.size

    def ends(self, level: int, items: Sequence[Item], weight: int) -> bool:
        """True when a page with these items ends after the last of them. ``weight``: theirs."""
        if len(items) >= self.maximum or (level == 0 and weight >= self.size):
            return True
        salted = blake3(bytes((level,)) + items[-1].name).digest(length=8)
        return int.from_bytes(salted, "little") % self.target == 0


@dataclass(frozen=True, slots=True)
class Page:
    """A decoded page. ``count`` entries are in or below it, of ``weight`` bytes; ``linked`` of them, or in directories
    below them, have a link group."""

    level: int
    items: tuple[Item, ...]
    count: int
    weight: int
    linked: int


EMPTY_LEAF: Final = Page(0, (), 0, 0, 0)


def page_of(level: int, items: Iterable[Item]) -> Page:
    """A page with its sums."""
    items = tuple(items)
    return Page(level, items, sum(map(count_of, items)), sum(map(weight_of, items)), sum(map(linked_of, items)))


def count_of(item: Item) -> int:
    """Entries that the item stands for."""
    return item.count if isinstance(item, PageRef) else 1


def linked_of(item: Item) -> int:
    """Entries with a link group that the item is or that are below it."""
    return item.linked if isinstance(item, PageRef) or not item.group else 1


def weight_of(item: Item) -> int:
    """An upper bound of the encoded size of the entries that the item stands for, cheap to compute and exact to
    describe: 64 + name + content + group + 16 for each extended attribute with its name and value."""
    if isinstance(item, PageRef):
        return item.weight
    weight = 64 + len(item.name) + len(item.content) + len(item.group)
    for name, value in item.xattrs:
        weight += 16 + len(name) + len(value)
    return weight


class Pages:
    """Loads pages of one store; decoded pages stay in the memory of `MetaObjects`."""

    def __init__(self, meta: MetaObjects) -> None:
        self.ids = meta.ids
        self._meta = meta

    def root(self, tree: TreeId) -> Page:
        """The root page of a directory."""
        return EMPTY_LEAF if tree == EMPTY_TREE else self._load(tree)

    def child(self, ref: PageRef, level: int, upper: bytes | None) -> Page:
        """The page that an index page refers to. ``upper``: the first name after it. Refused when it is not what
        the index says, so a directory read through its index is sorted and unique throughout."""
        page = self._load(TreeId(ref.id))
        if (
            page.level != level
            or (page.count, page.weight, page.linked) != (ref.count, ref.weight, ref.linked)
            or page.items[0].name != ref.name
            or (upper is not None and page.items[-1].name >= upper)
        ):
            raise CorruptError(f"{WHAT} {ref.id.hex()} is not what its index says", meta_key(ref.id))
        return page

    def entries(self, page: Page, upper: bytes | None = None) -> Iterator[Entry]:
        """All entries in and below a page, sorted."""
        for i, item in enumerate(page.items):
            if isinstance(item, PageRef):
                following = page.items[i + 1].name if i + 1 < len(page.items) else upper
                yield from self.entries(self.child(item, page.level - 1, following), following)
            else:
                yield item

    def linked(self, page: Page, upper: bytes | None = None) -> Iterator[Entry]:
        """The entries in and below a page that have a link group, and the directories with such entries below them.
        Pages without any are not read."""
        for i, item in enumerate(page.items):
            if not linked_of(item):
                continue
            if isinstance(item, PageRef):
                following = page.items[i + 1].name if i + 1 < len(page.items) else upper
                yield from self.linked(self.child(item, page.level - 1, following), following)
            else:
                yield item

    def _load(self, tree: TreeId) -> Page:
        return self._meta.load(WHAT, tree, lambda plain: page_of(*unpack_page(plain)))
