"""One open of a directory: its names as they were then, and nodes for them as they are asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from operator import attrgetter

from modelfs import limits
from modelfs.repository.objects import EMPTY_TREE, Entry
from modelfs.vfs.namespace import Namespace
from modelfs.vfs.nodes import DirNode


class Listing:
    """The names are those of the moment it was opened, or rewound. ``hidden``: a name that is shown in no root."""

    def __init__(self, names: Namespace, node: DirNode, hidden: bytes) -> None:
        self.node = node
        self._namespace = names
        self._hidden = hidden
        self._names: list[bytes] | None = None
        self._tree = EMPTY_TREE
        self._entries: list[Entry] = []  # of ``_tree``: what was committed of them
        self._loaded = 0  # up to this position they were made nodes

    async def names_from(self, start: int) -> Iterator[bytes]:
        """Names from position ``start`` on, sorted; from 0 on they are read anew."""
        if self._names is None or start == 0:
            await self._read()
        assert self._names is not None
        names = self._names
        self._make_nodes(names, start)
        return (names[i] for i in range(start, len(names)))

    async def _read(self) -> None:
        if self.node is not self._namespace.root and self.node.parent is None:  # removed
            self._names, self._tree, self._entries = [], EMPTY_TREE, []
            return
        names, self._tree, self._entries = await self._namespace.listing(self.node)
        if self.node is self._namespace.root and self._hidden in names:  # a store that another program wrote
            names.remove(self._hidden)
        self._names, self._loaded = names, 0
        links = self._namespace.links
        if any(entry.group for entry in self._entries) and not links.complete():
            await links.load()

    def _make_nodes(self, names: list[bytes], start: int) -> None:
        """Make nodes of the committed entries from position ``start`` on, many in one go: a lookup for each would cost
        a thread hop for each."""
        parent, entries = self.node, self._entries
        if not names or start + limits.LISTING_REPLY <= self._loaded or parent.tree != self._tree:
            return
        start = min(max(start, self._loaded), len(names) - 1)
        self._loaded = start + limits.LISTING_NODES
        first = bisect_left(entries, names[start], key=attrgetter("name"))
        for entry in entries[first : first + limits.LISTING_NODES]:
            if entry.name not in parent.dirty and entry.name not in parent.children:
                self._namespace.adopt(parent, entry)
        if len(entries) <= limits.LISTING_NODES:
            parent.subdirs = {name for name, node in parent.children.items() if isinstance(node, DirNode)}
