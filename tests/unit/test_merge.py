"""Three-way merge against a model: a tree is a dict of paths, and every path has its own winner."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from repository_store import DictStore, directory, inline

from modelfs.ids import TreeId
from modelfs.repository.merge import Merge
from modelfs.repository.meta import MetaObjects
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind, TreeDelta
from modelfs.repository.pages import Paging
from modelfs.repository.trees import Trees

Paths = dict[bytes, bytes]  # path -> content of a file; directories are implied


def directories_of(paths: Paths) -> frozenset[bytes]:
    """The directories that files imply."""
    return frozenset(
        b"/".join(parts[:n]) for path in paths for parts in [path.split(b"/")] for n in range(1, len(parts))
    )


class Side:
    """Trees and merges in one store."""

    def __init__(self) -> None:
        self.store = DictStore()
        self.trees = Trees(MetaObjects(self.store), Paging(single=3, target=3, maximum=5))
        self.merge = Merge(self.trees)

    def build(
        self, paths: Paths, modes: dict[bytes, int] | None = None, directories: frozenset[bytes] = frozenset()
    ) -> TreeId:
        """A tree of these files; ``modes`` of directories by path; ``directories`` are there even if they are empty."""
        root = TreeDelta()
        deltas = {b"": root}
        for here in sorted(directories_of(paths) | directories):
            above, _, name = here.rpartition(b"/")
            deltas[here] = TreeDelta()
            deltas[above].subdirs[name] = (directory(name, mode=(modes or {}).get(here, 0o755)), deltas[here])
        for path, content in paths.items():
            above, _, name = path.rpartition(b"/")
            deltas[above].puts[name] = inline(name, content)
        return self.trees.apply(EMPTY_TREE, root)

    def paths(self, tree: TreeId) -> Paths:
        """Files of a tree by path."""
        return {path: e.content for path, e in self.trees.walk(tree) if e.kind is not Kind.DIRECTORY}


directory_names = st.sampled_from([b"d", b"e", b"f"])
file_names = st.sampled_from([b"1", b"2", b"3", b"4"])
file_paths = st.tuples(st.lists(directory_names, max_size=2), file_names).map(lambda t: b"/".join([*t[0], t[1]]))
any_paths = st.lists(directory_names, min_size=1, max_size=3).map(b"/".join)
content = st.sampled_from([b"a", b"b", b"c"])
changes = st.dictionaries(file_paths, st.none() | content, max_size=6)


def changed(base: Paths, change: dict[bytes, bytes | None]) -> Paths:
    return {path: value for path, value in (base | change).items() if value is not None}


@given(st.dictionaries(file_paths, content, max_size=14), changes, changes)
@example({b"d/1": b"a", b"d/d/1": b"a"}, {b"d/1": None}, {b"d/d/1": None})
@settings(max_examples=400, deadline=None)
def test_every_path_is_ours_where_we_changed_it_else_theirs(
    base: Paths, our: dict[bytes, bytes | None], their: dict[bytes, bytes | None]
) -> None:
    side = Side()
    ours, theirs = changed(base, our), changed(base, their)
    merged = side.merge.trees(side.build(base), side.build(ours), side.build(theirs))
    expected = {
        path: value
        for path in base.keys() | ours.keys() | theirs.keys()
        if (value := (ours if ours.get(path) != base.get(path) else theirs).get(path)) is not None
    }
    assert side.paths(merged) == expected
    # a directory that both sides have stays, even when each took something else out of it
    kept = directories_of(ours) & directories_of(theirs)
    assert merged == side.build(expected, directories=kept)


def without_clashes(paths: Paths) -> Paths:
    """Paths that can exist together: none runs through another."""
    kept: Paths = {}
    for path in sorted(paths):
        if not any(path.startswith(other + b"/") for other in kept):
            kept[path] = paths[path]
    return kept


def related(path: bytes, other: bytes) -> bool:
    """True when one path is the other or runs through it."""
    return path == other or path.startswith(other + b"/") or other.startswith(path + b"/")


@given(*[st.dictionaries(any_paths, content, max_size=8).map(without_clashes)] * 3)
@settings(max_examples=400, deadline=None)
def test_files_and_directories_may_take_each_others_place(base: Paths, ours: Paths, theirs: Paths) -> None:
    side = Side()
    merged = side.paths(side.merge.trees(side.build(base), side.build(ours), side.build(theirs)))
    our_changes = {path for path in base.keys() | ours.keys() if base.get(path) != ours.get(path)}
    for path in our_changes:
        if path in ours:
            assert merged[path] == ours[path]
    for path in base.keys() | theirs.keys():
        if not any(related(path, other) for other in our_changes):
            assert merged.get(path) == theirs.get(path)
    assert merged.keys() <= ours.keys() | theirs.keys()


def entries(*items: Entry) -> TreeDelta:
    return TreeDelta({e.name: e for e in items})


def names(side: Side, tree: TreeId) -> list[bytes]:
    return [path for path, _ in side.trees.walk(tree)]


def test_what_they_added_keeps_a_directory_that_we_removed() -> None:
    side = Side()
    base = side.build({b"d/old": b"1", b"x": b"1"})
    theirs = side.build({b"d/old": b"2", b"d/new": b"1", b"x": b"1"})
    merged = side.merge.trees(base, side.build({b"x": b"1"}), theirs)
    assert names(side, merged) == [b"d", b"d/new", b"x"]
    assert names(side, side.merge.trees(base, side.build({b"x": b"1"}), side.build({b"d/old": b"2"}))) == []


def test_what_we_changed_keeps_a_directory_that_they_removed() -> None:
    side = Side()
    base = side.build({b"d/old": b"1", b"d/other": b"1", b"x": b"1"})
    ours = side.build({b"d/old": b"2", b"d/other": b"1", b"x": b"1"})
    merged = side.merge.trees(base, ours, side.build({b"x": b"1"}))
    assert names(side, merged) == [b"d", b"d/old", b"x"]


def test_an_empty_directory_that_we_made_is_kept() -> None:
    side = Side()
    base = side.build({b"x": b"1", b"y": b"1"})
    ours = side.trees.apply(base, entries(directory(b"new"), directory(b"x")))
    theirs = side.trees.apply(base, TreeDelta({b"z": inline(b"z")}, {b"x"}))
    assert names(side, side.merge.trees(base, ours, theirs)) == [b"new", b"x", b"y", b"z"]


def test_attributes_of_a_directory_are_merged_one_by_one() -> None:
    side = Side()
    files = {b"d/f": b"1"}
    base = side.build(files)
    before = side.trees.lookup(base, b"d")
    assert before is not None
    ours = side.trees.apply(base, entries(msgspec.structs.replace(before, mode=0o700, mtime_ns=5)))
    theirs = side.trees.apply(base, entries(msgspec.structs.replace(before, uid=7, mtime_ns=9)))
    found = side.trees.lookup(side.merge.trees(base, ours, theirs), b"d")
    assert found == msgspec.structs.replace(before, mode=0o700, uid=7, mtime_ns=5)


def test_a_file_of_ours_replaces_a_directory_of_theirs() -> None:
    side = Side()
    base = side.build({b"d/f": b"1"})
    ours = side.build({b"d": b"file"})
    assert side.paths(side.merge.trees(base, ours, side.build({b"d/f": b"1", b"d/g": b"1"}))) == {b"d": b"file"}


@pytest.mark.parametrize("depth", [0, 40])
def test_only_what_both_changed_is_read(depth: int) -> None:
    side = Side()
    above = b"p/" * depth
    far = {b"far/%02d/%02d" % (i, k): b"" for i in range(20) for k in range(20)}
    base = far | {above + b"ours": b"1", above + b"theirs": b"1"}
    ids = (
        side.build(base),
        side.build(base | {above + b"ours": b"2"}),
        side.build(base | {above + b"theirs": b"2"}),
    )
    side.store.reset()
    fresh = Merge(Trees(MetaObjects(side.store), Paging(single=3, target=3, maximum=5)))
    merged = fresh.trees(*ids)
    assert side.store.calls["get"] <= 9 * (depth + 1)
    assert merged == side.build(base | {above + b"ours": b"2", above + b"theirs": b"2"})
