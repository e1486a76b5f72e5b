"""Files with several names, in one mount: which node a link group is, and where all of its names are.

Whoever sees one name of a linked file must know the others: st_nlink counts them, and a change goes to all of them in
one commit. So with the first linked entry that is met, `load` makes nodes of all linked names of the tree (it reads
only directories that have some below them), and they stay in memory. Changes made here keep that up; a commit of
another mount may bring names in directories that nobody has looked at, so after one they are loaded again when next
they are needed. `Namespace` is the owner and the caller, `Rebase` tells of names that arrived.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import trio

from modelfs import limits
from modelfs.errors import CorruptError, NotFoundError
from modelfs.ids import TreeId, digest
from modelfs.repository.objects import Entry
from modelfs.repository.repository import Repository
from modelfs.vfs.nodes import DirNode, Node

log = logging.getLogger(__name__)


class Links:
    """The link groups of one mount. ``adopt`` is `Namespace.adopt`."""

    def __init__(
        self,
        repo: Repository,
        nodes: dict[int, Node],
        root: DirNode,
        adopt: Callable[[DirNode, Entry], Node],
        threads: trio.CapacityLimiter,
    ) -> None:
        self._repo = repo
        self._nodes = nodes
        self._root = root
        self._adopt = adopt
        self._threads = threads
        self._groups: dict[bytes, Node] = {}
        self._loading = trio.Lock()
        self._arrivals = 0
        self._known = False  # every linked name of the tree has its node

    def ignored(self) -> bool:
        """True when the tree has more linked names than a mount holds: each is then shown as a file of its own."""
        return self._root.linked > limits.LINKED_NAMES_MAX

    def arrived(self) -> None:
        """The tree has a new linked name somewhere, which has no node."""
        self._arrivals += 1
        self._known = False

    def complete(self) -> bool:
        """True when all names of every linked node are known; else `load` is needed."""
        return self._known or not self._root.linked

    def any(self) -> bool:
        """True when some node is linked."""
        return bool(self._groups)

    def node_for(self, entry: Entry) -> Node | None:
        """The node that a committed entry is another name of. It is one when it is equal; one that has changes here
        takes in every name of its group, because they will be committed with all of them."""
        node = self._groups.get(entry.group)
        if node is None or not (is_version(node, entry) or node.busy() or has_changes(node)):
            return None
        return node

    def keep_group(self, entry: Entry) -> bytes:
        """The group of a new node for an entry: none when it cannot be linked with the others (another node has the
        group with another content, which no writer does; or there are too many names)."""
        return b"" if self.ignored() or entry.group in self._groups else entry.group

    def regroup(self, node: Node, group: bytes) -> None:
        """Give a node its group (b"": it has no names any more, or is a file of its own)."""
        if self._groups.get(node.group) is node:
            del self._groups[node.group]
        node.group = group
        if group:
            self._groups[group] = node

    def of_group(self, group: bytes) -> Node | None:
        """The node of a group, if there is one here."""
        return self._groups.get(group)

    async def load(self) -> None:
        """Make nodes of all linked names. StoreError passes through, and the next call goes on. A directory that is
        damaged hides the names in it, and no others."""
        async with self._loading:
            while not self.complete():
                if self.ignored():
                    log.warning(
                        "the tree has %d linked names, a mount holds %d: each is shown as a file of its own",
                        self._root.linked, limits.LINKED_NAMES_MAX,
                    )  # fmt: skip
                    self._known = True
                    return
                arrivals, seen = self._arrivals, set[DirNode]()
                while directories := [d for d in self._linked_directories() if d not in seen]:
                    found = await trio.to_thread.run_sync(
                        self._entries, {d.tree for d in directories}, limiter=self._threads
                    )
                    for directory in directories:
                        if directory.tree in found:
                            seen.add(directory)
                            self._take(directory, found[directory.tree])
                self._known = self._arrivals == arrivals

    def _linked_directories(self) -> Iterable[DirNode]:
        for node in self._nodes.values():
            if isinstance(node, DirNode) and node.linked and (node.parent is not None or node is self._root):
                yield node

    def _entries(self, trees: set[TreeId]) -> dict[TreeId, list[Entry]]:
        return {tree: self._entries_of(tree) for tree in trees}

    def _entries_of(self, tree: TreeId) -> list[Entry]:
        try:
            return list(self._repo.linked_entries(tree))
        except (CorruptError, NotFoundError) as error:
            log.error("linked names in a damaged directory are not seen: %s", error)
            return []

    def _take(self, directory: DirNode, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.name not in directory.dirty and entry.name not in directory.children:
                self._adopt(directory, entry)


def is_version(node: Node, entry: Entry) -> bool:
    """True when a node is the file of an entry, name aside."""
    ours = (node.kind, node.content, node.mode, node.uid, node.gid, node.mtime_ns, node.group)
    theirs = (entry.kind, entry.content, entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.group)
    return ours == theirs and node.xattrs == dict(entry.xattrs)


def has_changes(node: Node) -> bool:
    """True when a name of the node waits for a commit."""
    return any(name in parent.dirty for parent, name in node.places())


def number_of(entry: Entry) -> int:
    """A number for the node of a linked entry: the same whichever of its names is seen first."""
    return int.from_bytes(digest(b"\0linked" + entry.group + bytes([entry.kind]) + entry.content)[:8], "big")
