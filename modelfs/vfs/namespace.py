"""The tree of one mount: a committed tree, seen lazily, under the changes made here.

`Namespace` finds nodes, links and unlinks them, remembers which names changed, takes a snapshot of all finished
changes as one `TreeDelta` for a commit, and forgets what a commit carried. (`rebase` moves it to another tree.)

All bookkeeping is synchronous on the event loop, so it is atomic between two awaits; only tree pages are read in
worker threads.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec
import trio

from modelfs import limits
from modelfs.errors import ModelfsError
from modelfs.ids import TreeId, digest
from modelfs.repository.objects import EMPTY_TREE, OWN_NAME, Entry, Kind, TreeDelta
from modelfs.repository.repository import Repository
from modelfs.vfs.links import Links, has_changes, number_of
from modelfs.vfs.nodes import DirNode, FileNode, Node, Place

ROOT_INO = 1
_CREATED_FROM = 2**62  # numbers of nodes created here; below are hashes of nodes found in a tree


@dataclass(slots=True)
class Snapshot:
    """All finished changes at one moment. ``marks`` says which change of which name the delta covers, ``places``
    where each directory in the delta stood, ``carried`` what the delta puts under which names (None: clears it)."""

    delta: TreeDelta
    change: int  # number of the newest change when it was taken
    marks: list[tuple[DirNode, bytes, int]] = field(default_factory=list)
    places: dict[DirNode, tuple[DirNode, bytes]] = field(default_factory=dict)
    carried: dict[tuple[DirNode, bytes], Entry | None] = field(default_factory=dict)
    uncovered: list[FileNode] = field(default_factory=list)  # unfinished files under which the delta clears the place
    files: int = 0
    bytes: int = 0
    root: Entry | None = None


class Namespace:
    """Nodes and names of one mount."""

    def __init__(self, repo: Repository, root: Entry, on_detach: Callable[[Node], None]) -> None:
        self._repo = repo
        self._on_detach = on_detach
        self._numbers = itertools.count(_CREATED_FROM)
        self._kept_numbers: dict[tuple[int, bytes, bytes], int] = {}
        self._change = 0
        self._root_change = 0
        self._root_comes: trio.Event | None = None
        self._root_committed = 0
        self.threads = trio.CapacityLimiter(limits.META_THREADS)
        self._recalled = trio.CapacityLimiter(limits.META_THREADS)  # for what needs no store, while others wait for it
        self.root = DirNode(
            ROOT_INO, Kind.DIRECTORY, root.mode, root.uid, root.gid, root.mtime_ns, root.mtime_ns,
            dict(root.xattrs), None, b"", tree=TreeId(root.content), linked=root.linked,
        )  # fmt: skip
        self.nodes: dict[int, Node] = {ROOT_INO: self.root}
        self.links = Links(repo, self.nodes, self.root, self.adopt, self.threads)

    @property
    def change(self) -> int:
        """Number of the newest change."""
        return self._change

    def _limiter(self, tree: TreeId) -> trio.CapacityLimiter:
        return self._recalled if self._repo.recalls(tree) else self.threads

    # -- finding ------------------------------------------------------------------------------------------------

    async def child(self, parent: DirNode, name: bytes) -> Node | None:
        """The node of ``name`` in ``parent``, or None."""
        await self._come(parent)
        while True:
            if (node := parent.children.get(name)) is not None:
                if not node.group or self.links.complete():
                    return node
                await self.links.load()
                continue
            if name in parent.dirty or parent.tree == EMPTY_TREE:
                return None
            tree = parent.tree
            entry = await trio.to_thread.run_sync(self._repo.lookup, tree, name, limiter=self._limiter(tree))
            if entry is not None and entry.group and not self.links.complete():
                await self.links.load()
            elif parent.tree == tree and name not in parent.children and name not in parent.dirty:
                return self.adopt(parent, entry) if entry is not None else None

    def adopt(self, parent: DirNode, entry: Entry) -> Node:
        """The node of a committed entry of ``parent``. (Who sees a linked one looks at ``links`` first.)"""
        known = parent.children.get(entry.name)
        if known is not None:
            return known
        if entry.group:
            return self._adopt_linked(parent, entry)
        about = entry.content if entry.kind is not Kind.DIRECTORY else b""
        key = (parent.ino, entry.name, bytes([entry.kind]) + about)
        ino = self._kept_numbers.pop(key, 0)
        if not ino:
            name = parent.ino.to_bytes(8, "big") + bytes([entry.kind]) + entry.name + b"\0" + about
            ino = int.from_bytes(digest(name)[:8], "big") & (_CREATED_FROM - 1)
        while ino in self.nodes or ino <= ROOT_INO:
            ino = next(self._numbers)
        node = self._make(ino, parent, entry)
        parent.children[entry.name] = node
        return node

    def _adopt_linked(self, parent: DirNode, entry: Entry) -> Node:
        node = self.links.node_for(entry)
        if node is not None:
            pending = has_changes(node)
            self._add_place(node, parent, entry.name)
            if pending:
                self.mark(parent, entry.name)
            return node
        ino = number_of(entry) & (_CREATED_FROM - 1)
        while ino in self.nodes or ino <= ROOT_INO:
            ino = next(self._numbers)
        node = self._make(ino, parent, entry)
        self.links.regroup(node, self.links.keep_group(entry))
        parent.children[entry.name] = node
        return node

    def _add_place(self, node: Node, parent: DirNode, name: bytes) -> None:
        node.others = (*node.others, (parent, name))
        parent.children[name] = node

    def _make(self, ino: int, parent: DirNode | None, entry: Entry) -> Node:
        common = (
            ino, entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.mtime_ns,
            dict(entry.xattrs), parent, entry.name,
        )  # fmt: skip
        node: Node
        if entry.kind is Kind.DIRECTORY:
            node = DirNode(*common, tree=TreeId(entry.content), linked=entry.linked)
            if node.tree == EMPTY_TREE:
                node.subdirs = set()
        elif entry.kind in (Kind.FILE, Kind.INLINE):
            node = FileNode(*common, content=entry.content, finished_size=entry.size)
        else:
            node = Node(*common, content=entry.content)
        self.nodes[ino] = node
        return node

    async def expect_lookups(self) -> None:
        """Have the root directory at hand: whoever mounts looks something up next, and is spared a round trip."""
        tree = self.root.tree
        if tree != EMPTY_TREE:
            self._root_comes = come = trio.Event()
            try:
                with contextlib.suppress(ModelfsError):  # who looks something up is told
                    await trio.to_thread.run_sync(self._repo.lookup, tree, OWN_NAME, limiter=self._limiter(tree))
            finally:
                self._root_comes = None
                come.set()

    async def _come(self, directory: DirNode) -> None:
        """Let the first reading of the root end before another begins."""
        if directory is self.root and self._root_comes is not None:
            await self._root_comes.wait()

    async def committed_entries(self, parent: DirNode) -> tuple[TreeId, list[Entry]]:
        """The directory's committed tree and its entries, in order."""
        await self._come(parent)
        tree = parent.tree
        if tree == EMPTY_TREE:
            return tree, []
        entries = await trio.to_thread.run_sync(lambda: list(self._repo.list(tree)), limiter=self._limiter(tree))
        return tree, entries

    async def listing(self, parent: DirNode) -> tuple[list[bytes], TreeId, list[Entry]]:
        """All names of a directory, sorted, and the tree with its entries that they were taken from."""
        while True:
            tree, entries = await self.committed_entries(parent)
            if parent.tree == tree:
                break
        names = {e.name for e in entries if e.name not in parent.dirty}
        names.update(name for name in parent.dirty if name in parent.children)
        return sorted(names), tree, entries

    async def empty(self, parent: DirNode) -> bool:
        """True when the directory has no entries."""
        if any(name in parent.children for name in parent.dirty):
            return False
        while True:
            tree = parent.tree
            if tree == EMPTY_TREE:
                return True
            dirty = set(parent.dirty)
            found = await trio.to_thread.run_sync(self._any_but, tree, dirty, limiter=self._limiter(tree))
            if parent.tree == tree and dirty == set(parent.dirty):
                return not found

    def _any_but(self, tree: TreeId, names: set[bytes]) -> bool:
        return any(entry.name not in names for entry in self._repo.list(tree))

    # -- changing -----------------------------------------------------------------------------------------------

    def create(self, parent: DirNode, name: bytes, kind: Kind, mode: int, uid: int, gid: int, content: bytes) -> Node:
        """A new node under ``parent``; the caller has checked that the name is free."""
        now = time.time_ns()
        if kind is Kind.DIRECTORY:
            content = EMPTY_TREE
        node = self._make(next(self._numbers), parent, Entry(name, kind, mode, uid, gid, now, 0, content, ()))
        if isinstance(node, FileNode):
            node.exists_finished = False
            node.covers = name in parent.dirty
        parent.children[name] = node
        parent.note_kind(name, directory=kind is Kind.DIRECTORY)
        self.touch(parent)
        self.mark(parent, name)
        node.content_change = self._change
        return node

    def link(self, node: Node, parent: DirNode, name: bytes, group: bytes) -> None:
        """Give a node one more name; the caller has checked that it is free and that the node has one. ``group``: the
        one that the file gets if it has none."""
        if not node.group:
            self.links.regroup(node, group)
            self.changed(node)
        self._add_place(node, parent, name)
        node.ctime_ns = time.time_ns()
        self.touch(parent)
        self.mark(parent, name)

    def unlink(self, parent: DirNode, name: bytes) -> None:
        """Take a name away; its node lives on while it has others, or is open or looked up."""
        node = parent.children[name]
        parent.note_kind(name, directory=False)
        self.touch(parent)
        self.mark(parent, name)
        self.drop(node, parent, name)

    def drop(self, node: Node, parent: DirNode, name: bytes) -> None:
        """A node is not at a place any more; with the last one it is detached."""
        del parent.children[name]
        if node.others:
            places = [place for place in node.places() if place != (parent, name)]
            (node.parent, node.name), node.others = places[0], tuple(places[1:])
            node.ctime_ns = time.time_ns()
        else:
            self._detach(node)

    def _detach(self, node: Node) -> None:
        """A node has lost its last name: so has everything below it."""
        if isinstance(node, DirNode):
            for name, child in list(node.children.items()):
                child.replaced = node.replaced
                self.drop(child, node, name)
            node.dirty.clear()
            node.dirty_below.clear()
        self.links.regroup(node, b"")
        node.parent = None
        node.ctime_ns = time.time_ns()
        self._on_detach(node)
        self.forget_if_unused(node)

    def move(self, old_parent: DirNode, old_name: bytes, parent: DirNode, name: bytes) -> None:
        """Give what stands at a place another name; what stands there now has been unlinked by the caller."""
        node = old_parent.children.pop(old_name)
        old_parent.dirty_below.discard(old_name)
        _replace_place(node, (old_parent, old_name), (parent, name))
        parent.children[name] = node
        if isinstance(node, FileNode):
            node.covers = False  # what stood here is shown until this is finished
        old_parent.note_kind(old_name, directory=False)
        parent.note_kind(name, directory=isinstance(node, DirNode))
        node.ctime_ns = time.time_ns()
        self.touch(old_parent)
        self.touch(parent)
        self.mark(old_parent, old_name)
        self.mark(parent, name)
        self._note_above(node)

    def exchange(self, pa: DirNode, na: bytes, pb: DirNode, nb: bytes) -> None:
        """Swap what stands at two places (RENAME_EXCHANGE)."""
        a, b = pa.children[na], pb.children[nb]
        pa.dirty_below.discard(na)
        pb.dirty_below.discard(nb)
        _replace_place(a, (pa, na), (pb, nb))
        _replace_place(b, (pb, nb), (pa, na))
        pb.children[nb], pa.children[na] = a, b
        pb.note_kind(nb, directory=isinstance(a, DirNode))
        pa.note_kind(na, directory=isinstance(b, DirNode))
        a.ctime_ns = b.ctime_ns = time.time_ns()
        for parent, name in ((pa, na), (pb, nb)):
            self.touch(parent)
            self.mark(parent, name)
        self._note_above(a)
        self._note_above(b)

    def touch(self, parent: DirNode) -> None:
        """A directory changed: its times move on."""
        parent.mtime_ns = parent.ctime_ns = time.time_ns()

    def mark(self, parent: DirNode, name: bytes) -> None:
        """The entry ``name`` of ``parent`` differs from the committed tree."""
        self._change += 1
        parent.dirty[name] = self._change
        self._note_above(parent)

    def _note_above(self, directory: Node | None) -> None:
        """Tell the directories above that something is dirty in this one, if something is."""
        node = directory
        if isinstance(node, DirNode) and node.clean():
            return
        while isinstance(node, DirNode) and node.parent is not None and node.name not in node.parent.dirty_below:
            node.parent.dirty_below.add(node.name)
            node = node.parent

    def changed(self, node: Node) -> None:
        """A node's attributes or finished content changed, under every name that it has."""
        for parent, name in node.places():
            self.mark(parent, name)
        if node is self.root:
            self._change += 1
            self._root_change = self._change

    # -- commits ------------------------------------------------------------------------------------------------

    def dirty(self) -> bool:
        """True when something waits for a commit (finished or not)."""
        return not self.root.clean() or self._root_change > self._root_committed

    def snapshot(self) -> Snapshot | None:
        """Everything finished that is not committed yet, or None when there is nothing."""
        snap = Snapshot(TreeDelta({}, set(), {}), self._change)
        self._collect(self.root, snap.delta, snap)
        if not snap.marks and not snap.uncovered and self._root_change <= self._root_committed:
            return None
        snap.root = self.root.entry()
        return snap

    def _collect(self, parent: DirNode, delta: TreeDelta, snap: Snapshot) -> None:
        # Depth is bounded by the kernel's PATH_MAX: 2,048 levels of one letter need no more than Python's stack
        # when each level is one frame, which `limits.TREE_DEPTH_MAX` (checked in mkdir and rename) keeps far away.
        for name, change in parent.dirty.items():
            node = parent.children.get(name)
            entry: Entry | None = None
            if node is None:
                delta.deletes.add(name)
            elif isinstance(node, DirNode):
                sub = TreeDelta({}, set(), {})
                self._collect(node, sub, snap)
                entry = node.entry()
                assert entry is not None
                delta.subdirs[name] = (entry, sub)
                snap.places[node] = (parent, name)
            else:
                entry = node.entry()
                if entry is None:  # created and still being written: nothing of it is shown to others yet
                    if isinstance(node, FileNode) and node.covers:
                        delta.deletes.add(name)
                        snap.uncovered.append(node)
                        snap.carried[parent, name] = None
                    continue
                delta.puts[name] = entry if entry.name == name else msgspec.structs.replace(entry, name=name)
                snap.files += 1
                snap.bytes += entry.size
            snap.marks.append((parent, name, change))
            snap.carried[parent, name] = entry
        for name in parent.dirty_below:
            node = parent.children.get(name)
            if name in parent.dirty or not isinstance(node, DirNode):
                continue
            sub = TreeDelta({}, set(), {})
            before = len(snap.marks) + len(snap.uncovered)
            snap.places[node] = (parent, name)
            self._collect(node, sub, snap)
            if len(snap.marks) + len(snap.uncovered) > before:
                entry = node.entry()
                assert entry is not None
                delta.subdirs[name] = (entry, sub)
                snap.carried[parent, name] = entry

    def settle(self, snap: Snapshot) -> None:
        """A commit carried the snapshot: its names are clean, unless they changed again or their directory stands
        elsewhere by now (then they are not in the tree under that path, and go into the next commit)."""
        for parent, name, change in snap.marks:
            if parent.dirty.get(name) == change and self._stayed(parent, snap):
                del parent.dirty[name]
        for node in snap.uncovered:
            if node.parent is not None and self._stayed(node.parent, snap):
                node.covers = False
        self._root_committed = max(self._root_committed, min(self._root_change, snap.change))
        self._prune(self.root)

    def _stayed(self, directory: DirNode, snap: Snapshot) -> bool:
        """True when the directory has the path that it had in the snapshot."""
        node = directory
        while node is not self.root:
            parent = node.parent
            if parent is None or snap.places.get(node) != (parent, node.name):
                return False
            node = parent
        return True

    def _prune(self, parent: DirNode) -> bool:
        for name in list(parent.dirty_below):
            node = parent.children.get(name)
            if not isinstance(node, DirNode) or self._prune(node):
                parent.dirty_below.discard(name)
        return parent.clean()

    async def resume(self, node: FileNode) -> None:
        """A writer closed without a change: take the names from it that were replaced elsewhere meanwhile."""

        def at_rest(parent: DirNode, name: bytes) -> bool:
            return parent.children.get(name) is node and not node.busy() and name not in parent.dirty

        for parent, name in list(node.places()):
            while at_rest(parent, name):
                tree = parent.tree
                entry = await trio.to_thread.run_sync(self._repo.lookup, tree, name, limiter=self.threads)
                if parent.tree != tree:
                    continue
                if at_rest(parent, name) and (
                    entry is None or (entry.kind, entry.content) != (node.kind, node.content)
                ):
                    node.replaced = not node.others
                    self.drop(node, parent, name)
                break

    def renew(self, node: FileNode) -> FileNode:
        """Give the names of a file to a new inode that has only its finished version; the old one lives on while it is
        open. (The kernel may hold pages and a size of the old one.)"""
        places, group = list(node.places()), node.group
        entry = node.entry()
        fresh = self._make(next(self._numbers), node.parent, entry or node.entry_with(Kind.INLINE, b"", 0))
        assert isinstance(fresh, FileNode)
        fresh.exists_finished = entry is not None
        fresh.content_change = node.content_change
        node.others = ()
        node.replaced = True
        self._detach(node)
        self.links.regroup(fresh, group)
        fresh.others = tuple(places[1:])
        for parent, name in places:
            parent.children[name] = fresh
            self.mark(parent, name)
        return fresh

    # -- forgetting ---------------------------------------------------------------------------------------------

    def forget_if_unused(self, node: Node) -> None:
        """Drop a node that nothing refers to any more (its number comes back if the same version is looked up)."""
        # A node that was dropped may be asked about again: its number can be another node's by then.
        while node.lookups <= 0 and node.opens == 0 and node is not self.root and self.nodes.get(node.ino) is node:
            if isinstance(node, FileNode) and (node.modified or node.state is not None or node.finishing):
                return
            if isinstance(node, DirNode) and (node.children or not node.clean()):
                return
            parent = node.parent
            if parent is not None:
                if node.group or node.name in parent.dirty:  # linked ones stay (see `links`)
                    return
                about = node.content if node.kind is not Kind.DIRECTORY else b""
                while len(self._kept_numbers) >= limits.KEPT_INODE_NUMBERS:
                    self._kept_numbers.pop(next(iter(self._kept_numbers)))
                if node.ino >= _CREATED_FROM:
                    self._kept_numbers[(parent.ino, node.name, bytes([node.kind]) + about)] = node.ino
                parent.children.pop(node.name, None)
            del self.nodes[node.ino]
            if parent is None:
                return
            node = parent

    def unfinished(self) -> Iterator[FileNode]:
        """Files with changes that no finish has covered yet."""
        for node in self.nodes.values():
            if isinstance(node, FileNode) and node.modified and node.parent is not None:
                yield node


def _replace_place(node: Node, old: Place, new: Place) -> None:
    places = [new if place == old else place for place in node.places()]
    (node.parent, node.name), node.others = places[0], tuple(places[1:])


def check_name(name: bytes) -> bytes:
    """Return ``name`` if a tree may hold it, else raise OSError(ENAMETOOLONG or EINVAL)."""
    if len(name) > limits.NAME_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return name
