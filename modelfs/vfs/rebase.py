"""Moving the view to another committed tree: after a commit of ours, or when another mount has committed.

Changes made here stay on top. What the new tree says of other names is taken over: changed files give way to new
inodes, open ones keep theirs until they are closed. First everything is read that the move needs (worker threads,
while the view goes on changing), then the move is made in one piece, between two awaits.

A directory is followed by identity. One that was renamed while the commit was under way is not where the commit
wrote it, so it keeps the tree and the changes that it had, and the next commit writes them at its new path.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import msgspec
import trio

from modelfs.ids import TreeId
from modelfs.repository.filemerge import merge_files
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind
from modelfs.repository.repository import Repository
from modelfs.repository.trees import Difference
from modelfs.vfs.links import has_changes
from modelfs.vfs.namespace import Namespace, Snapshot
from modelfs.vfs.nodes import DirNode, FileNode, Node, Place

Step = tuple[DirNode, TreeId]  # a directory, and the committed tree that it gets


class Rebase:
    """One move of ``names`` to the tree of ``root``; ``snap`` is what the commit carried of ours, if it is ours."""

    def __init__(self, names: Namespace, repo: Repository, root: Entry, snap: Snapshot | None = None) -> None:
        self._names = names
        self._repo = repo
        self._root = root
        self._snap = snap
        self._diffs: dict[tuple[TreeId, TreeId], list[Difference]] = {}
        self._entries: dict[tuple[TreeId, bytes], Entry | None] = {}
        self._linked: dict[TreeId, int] = {EMPTY_TREE: 0}
        self._below: Final[dict[DirNode, list[DirNode]]] = defaultdict(list)
        self._files: Final[dict[DirNode, list[bytes]]] = defaultdict(list)  # names that are carried and no directories
        if snap is not None:
            for directory, (parent, _) in snap.places.items():
                self._below[parent].append(directory)
            for (parent, name), entry in snap.carried.items():
                if entry is None or entry.kind is not Kind.DIRECTORY:
                    self._files[parent].append(name)

    async def run(self) -> None:
        """Make the move; what the kernel has to forget. The caller holds the mount's commit lock."""
        while await self._read_missing():
            pass
        # No await from here on. What was carried stops being a change in the instant in which the tree holds it.
        if self._snap is not None:
            self._names.settle(self._snap)
        if not self._names.dirty():
            self._names.root.take_attributes(self._root)
        work = [self._first()]
        while work:
            node, new = work.pop()
            changes = self._diffs[node.tree, new] if node.tree != new else []
            node.tree, node.linked = new, self._linked[new]
            for name, before, entry in changes:
                work += self._take(node, name, before, entry)
            for tree, name in self._undone(node, new, changes):
                entry = self._entries[tree, name]
                work += self._take(node, name, entry, entry)
            work += self._written(node, new, changes)

    def _first(self) -> Step:
        return self._names.root, self._tree_of(self._root)

    def _tree_of(self, entry: Entry | None) -> TreeId:
        if entry is None or entry.kind is not Kind.DIRECTORY:
            return EMPTY_TREE
        self._linked[TreeId(entry.content)] = entry.linked
        return TreeId(entry.content)

    # -- reading ahead ------------------------------------------------------------------------------------------

    async def _read_missing(self) -> bool:
        """Read what the move would need now and that is not known; False when there is nothing."""
        pairs, lookups = self._missing()
        for old, new in pairs:
            self._diffs[old, new] = await trio.to_thread.run_sync(self._diff, old, new, limiter=self._names.threads)
        for tree, name in lookups:
            self._entries[tree, name] = await trio.to_thread.run_sync(
                self._repo.lookup, tree, name, limiter=self._names.threads
            )
        return bool(pairs or lookups)

    def _diff(self, old: TreeId, new: TreeId) -> list[Difference]:
        return list(self._repo.diff(old, new))

    def _missing(self) -> tuple[set[tuple[TreeId, TreeId]], set[tuple[TreeId, bytes]]]:
        pairs: set[tuple[TreeId, TreeId]] = set()
        lookups: set[tuple[TreeId, bytes]] = set()
        work = [self._first()]
        while work:
            node, new = work.pop()
            if node.tree != new and (node.tree, new) not in self._diffs:
                pairs.add((node.tree, new))
                continue
            changes = self._diffs[node.tree, new] if node.tree != new else []
            for name, _, entry in changes:
                child = node.children.get(name)
                if isinstance(child, DirNode):
                    work.append((child, self._tree_of(entry)))
            unchanged = {*self._unchanged(node, new, changes), *self._undone(node, new, changes)}
            lookups |= {key for key in unchanged if key not in self._entries}
            work += self._written(node, new, changes)
        return pairs, lookups

    # -- the move -----------------------------------------------------------------------------------------------

    def _unchanged(self, node: DirNode, new: TreeId, changes: list[Difference]) -> dict[tuple[TreeId, bytes], DirNode]:
        """Directories in ``node`` that our commit wrote, and found as they were in the commit before."""
        changed = {name for name, _, _ in changes}
        return {
            (new, child.name): child
            for child in self._below.get(node, ())
            if child.name not in changed and node.children.get(child.name) is child
        }

    def _undone(self, node: DirNode, new: TreeId, changes: list[Difference]) -> list[tuple[TreeId, bytes]]:
        """Names of files that our commit carried, and that are as they were before: others have changed them back."""
        changed = {name for name, _, _ in changes}
        return [(new, name) for name in self._files.get(node, ()) if name not in changed]

    def _written(self, node: DirNode, new: TreeId, changes: list[Difference]) -> list[Step]:
        """Steps into `_unchanged` directories: they may differ from what we have, after a commit that found them
        elsewhere and left their changes for this one."""
        steps = []
        for key, child in self._unchanged(node, new, changes).items():
            entry = self._entries.get(key)
            if entry is not None and entry.kind is Kind.DIRECTORY and self._in_place(node, child):
                steps.append((child, self._tree_of(entry)))
        return steps

    def _take(self, node: DirNode, name: bytes, before: Entry | None, entry: Entry | None) -> list[Step]:
        """Take over what the new tree says of one name; the steps into directories that follow from it."""
        child = node.children.get(name)
        steps: list[Step] = []
        if isinstance(child, DirNode):
            if not self._moves_along(node, child, before):
                return []
            steps = self._take_directory(node, child, entry)
        elif child is not None:
            # What our own commit carried is what later changes here are changes to: it is in ``entry`` already.
            ours = self._snap.carried if self._snap is not None else {}
            self._take_file((node, name), child, ours.get((node, name), before), entry)
        now = node.children.get(name)
        if now is None and name not in node.dirty and entry is not None and (entry.group or entry.linked):
            self._names.links.arrived()
        theirs = now is None and name not in node.dirty and entry is not None and entry.kind is Kind.DIRECTORY
        node.note_kind(name, directory=theirs or isinstance(now, DirNode))
        return steps

    def _in_place(self, parent: DirNode, child: DirNode) -> bool:
        return self._snap is not None and self._snap.places.get(child) == (parent, child.name)

    def _moves_along(self, parent: DirNode, child: DirNode, before: Entry | None) -> bool:
        """True when ``child`` is the directory whose committed entry changes from ``before``. It is not when it came
        to stand there meanwhile, by mkdir or rename: then it keeps the tree that it came with."""
        if self._snap is not None and (parent, child.name) in self._snap.carried:
            return self._in_place(parent, child)
        if before is None or before.kind is not Kind.DIRECTORY:
            return child.tree == EMPTY_TREE  # made here and elsewhere: both lie in one directory
        return child.tree == before.content

    def _take_directory(self, parent: DirNode, child: DirNode, entry: Entry | None) -> list[Step]:
        ours = child.name in parent.dirty
        if entry is not None and entry.kind is Kind.DIRECTORY:
            if not ours and child.clean():
                child.take_attributes(entry)
            return [(child, self._tree_of(entry))]
        if ours or not child.clean():
            # Removed elsewhere while we have changes below: they bring the directory back.
            if not ours:
                self._names.mark(parent, child.name)
            return [(child, EMPTY_TREE)]
        self._replace((parent, child.name), child)
        return []

    def _take_file(self, place: Place, child: Node, before: Entry | None, entry: Entry | None) -> None:
        parent, name = place
        if before is not None and entry is not None and self._was_linked(child, before, entry):
            self._names.links.regroup(child, entry.group)
        if not child.group and not (entry is not None and entry.group):
            if isinstance(child, FileNode) and child.busy():
                # `Namespace.resume` looks again when the writer has closed.
                self._note_theirs(child, before, entry)
                return
            if name in parent.dirty:
                self._take_under_attributes(place, child, before, entry)
                return
        if name in parent.dirty:
            return
        if entry is not None and _content(entry) == _content(child) and entry.group == child.group:
            child.take_attributes(entry)
        elif entry is not None and child.group and entry.group == child.group and has_changes(child):
            self._names.mark(parent, name)  # ours is the later version of the file, under all of its names
        elif not child.busy() or (child.others and (entry is None or entry.group != child.group)):
            self._replace(place, child)
        # Else a writer has it open here: `Namespace.resume` looks again when it has closed.

    def _note_theirs(self, child: FileNode, before: Entry | None, entry: Entry | None) -> None:
        ours = child.entry()
        if ours is None:
            if not child.removed:
                return  # nothing of it has been shown to anyone
        else:
            self._merge_attributes(child, before, ours, entry)
            if before is None or _content(ours) != _content(before):
                return  # a version of ours that is not committed yet: it is the later one
        child.removed = entry is None or entry.kind is Kind.DIRECTORY
        child.theirs = None if entry is None or child.removed or _content(entry) == _content(child) else entry

    def _merge_attributes(self, child: FileNode, before: Entry | None, ours: Entry, entry: Entry | None) -> None:
        """What is open keeps its content, and the time of that, and has owner, mode and xattrs of both sides."""
        if before is None or before.kind is Kind.DIRECTORY:
            return
        merged = merge_files(before, ours, entry)
        if merged is not None and merged.kind is not Kind.DIRECTORY:
            same = _content(merged) == _content(ours)
            child.take_attributes(merged if same else msgspec.structs.replace(merged, mtime_ns=child.mtime_ns))

    def _take_under_attributes(self, place: Place, child: Node, before: Entry | None, entry: Entry | None) -> None:
        """A name that is dirty only because its attributes were changed here takes their content."""
        parent, name = place
        ours = child.entry()
        if before is None or before.kind is Kind.DIRECTORY or ours is None:
            return
        merged = merge_files(before, ours, entry)
        if merged is not None and _content(merged) == _content(ours):
            child.take_attributes(merged)
            return
        self._replace(place, child)
        if merged == entry:
            del parent.dirty[name]
        elif merged is not None:
            self._names.adopt(parent, merged)

    def _was_linked(self, child: Node, before: Entry, entry: Entry) -> bool:
        """True when another mount gave the file a second name, and its content is still the same here and there."""
        if before.group or not entry.group or self._names.links.of_group(entry.group) is not None:
            return False
        if not _content(before) == _content(entry) == _content(child):
            return False
        return not child.group or all(name in parent.dirty for parent, name in child.places())

    def _replace(self, place: Place, child: Node) -> None:
        child.replaced = not child.others
        self._names.drop(child, *place)


def _content(what: Entry | Node) -> tuple[Kind, bytes]:
    return what.kind, what.content
