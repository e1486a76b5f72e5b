"""Hard links in a three-way merge: a write is to a file, not to its names.

A merge goes by path, and a file with several names has several paths. So before it, `align` gives every changed file
of that kind the content and attributes that it will have, in all three trees: what then still differs between two of
them is which names a file has, and that is merged by path like anything else. The rules that follow from it:

- content and each attribute: ours where we changed it, else theirs, and the same for all names that are left;
- a name that one side added or removed is added or removed; when they removed every name of a file to which we wrote,
  ours stay;
- the same file linked by both sides is one file, with the names of both;
- a path where one side replaced the content while the other gave the file a second name: the path has the new
  content, the second name the old one.

Only linked names that changed are read. `merge` is the caller.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from modelfs import limits
from modelfs.errors import CorruptError
from modelfs.ids import TreeId
from modelfs.repository.filemerge import merge_files
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind, TreeDelta
from modelfs.repository.trees import Trees

_SIDES = (0, 1, 2)
_BASE, _OURS, _THEIRS = _SIDES
_Change = tuple[bytes, Entry | None, Entry | None]  # path, before, after
_Triple = tuple[Entry | None, Entry | None, Entry | None]  # base, ours, theirs; None: no file there


@dataclass(slots=True)
class _Group:
    """One file: its value on each side, and the entries that are it by side and path."""

    values: list[Entry | None] = field(default_factory=lambda: [None, None, None])
    members: tuple[dict[bytes, Entry], ...] = field(default_factory=lambda: ({}, {}, {}))

    def add(self, side: int, path: bytes, entry: Entry) -> None:
        self.members[side][path] = entry
        if self.values[side] is None:  # the others of this side are equal
            self.values[side] = msgspec.structs.replace(entry, name=b"", group=b"")

    def merged(self) -> Entry | None:
        base, ours, theirs = self.values
        if ours is None or theirs is None:
            return ours or theirs
        return merge_files(base, ours, theirs) if base is not None else ours

    def lost(self) -> bool:
        """True when we wrote to it and no name would be left, because they removed them all. (Who only changed a mode
        does not bring it back.)"""
        base, ours, _ = self.members
        before, now = self.values[_BASE], self.values[_OURS]
        wrote = now is not None and not _went_on(before, now)
        return wrote and not self.members[_THEIRS] and ours.keys() <= base.keys()


def align(trees: Trees, base: Entry, ours: Entry, theirs: Entry) -> tuple[Entry, Entry, Entry]:
    """The three roots with every changed linked file brought into line; new pages are in the store on return."""
    roots = (base, ours, theirs)
    if not ours.linked and not theirs.linked:
        return roots
    triples = {path: (b, o, _file(trees, theirs, path)) for path, b, o in _changed(trees, base, ours)}
    for path, b, t in _changed(trees, base, theirs):
        if path not in triples:
            triples[path] = (b, _file(trees, ours, path), t)
    puts: tuple[dict[bytes, Entry], ...] = ({}, {}, {})
    for group, file in _groups(triples).items():
        value = file.merged()
        for side in _SIDES:
            if value is None or (side == _BASE and file.lost()):
                continue
            for path, entry in file.members[side].items():
                puts[side][path] = msgspec.structs.replace(value, name=entry.name, group=group)
    aligned = [_with_files(trees, root, changes) for root, changes in zip(roots, puts, strict=True)]
    return aligned[_BASE], aligned[_OURS], aligned[_THEIRS]


def _groups(triples: Mapping[bytes, _Triple]) -> dict[bytes, _Group]:
    same: dict[bytes, bytes] = {}  # a group that they made -> the one that we made of the same file
    for b, o, t in triples.values():
        if b is None or o is None or t is None or b.group or not (o.group and t.group):
            continue
        if _went_on(b, o) and _went_on(b, t):
            same.setdefault(t.group, o.group)
    found: dict[bytes, _Group] = defaultdict(_Group)
    for path, triple in triples.items():
        b, o, t = triple
        joined = b""
        if b is not None and not b.group:
            joined = next((e.group for e in (o, t) if e is not None and e.group and _went_on(b, e)), b"")
        for side, entry in zip(_SIDES, triple, strict=True):
            if entry is None:
                continue
            group = entry.group or (joined if _went_on(b, entry) else b"")
            if group:
                found[same.get(group, group)].add(side, path, entry)
    return found


def _went_on(before: Entry | None, after: Entry | None) -> bool:
    """True when the path still has the file it had, as far as its content tells."""
    return before is not None and after is not None and (before.kind, before.content) == (after.kind, after.content)


def _changed(trees: Trees, before: Entry, after: Entry) -> Iterator[_Change]:
    """(path, before, after) wherever two trees differ in a file that is linked in one of them."""
    levels = [(b"", trees.diff(TreeId(before.content), TreeId(after.content)))]
    while levels:
        prefix, differences = levels[-1]
        found = next(differences, None)
        if found is None:
            levels.pop()
            continue
        name, old, new = found
        dirs = [_directory(entry) for entry in (old, new)]
        if any(entry is not None and entry.linked for entry in dirs):
            if len(levels) > limits.TREE_DEPTH_MAX:
                raise CorruptError(f"directories nested deeper than {limits.TREE_DEPTH_MAX} in the store")
            below = [TreeId(entry.content) if entry is not None else EMPTY_TREE for entry in dirs]
            levels.append((prefix + name + b"/", trees.diff(below[0], below[1])))
        files = [entry if _directory(entry) is None else None for entry in (old, new)]
        if any(entry is not None and entry.group for entry in files):
            yield prefix + name, files[0], files[1]


def _directory(entry: Entry | None) -> Entry | None:
    return entry if entry is not None and entry.kind is Kind.DIRECTORY else None


def _file(trees: Trees, root: Entry, path: bytes) -> Entry | None:
    entry = trees.find(root, path)
    return entry if _directory(entry) is None else None


def _with_files(trees: Trees, root: Entry, puts: Mapping[bytes, Entry]) -> Entry:
    """``root`` with files put at paths whose directories are there."""
    deltas: dict[bytes, TreeDelta] = {b"": TreeDelta()}

    def delta_of(path: bytes) -> TreeDelta:
        if path not in deltas:
            above, _, name = path.rpartition(b"/")
            entry = trees.find(root, path)
            assert entry is not None
            deltas[path] = TreeDelta()
            delta_of(above).subdirs[name] = (entry, deltas[path])
        return deltas[path]

    for path, entry in puts.items():
        delta_of(path.rpartition(b"/")[0]).puts[entry.name] = entry
    return trees.directory(root, trees.apply(TreeId(root.content), deltas[b""])) if puts else root
