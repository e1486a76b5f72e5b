"""Linked files in trees: what the format refuses, how many there are below, and how they are merged and copied."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_store import DictStore, directory, inline

from modelfs.errors import UsageError
from modelfs.ids import TreeId
from modelfs.repository.graft import graft
from modelfs.repository.merge import Merge
from modelfs.repository.meta import MetaObjects
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind, PageRef, TreeDelta
from modelfs.repository.packing import pack_page, unpack_page
from modelfs.repository.pages import Paging
from modelfs.repository.repository import Repository
from modelfs.repository.trees import Trees

G1, G2 = b"1" * 16, b"2" * 16


def linked(name: bytes, content: bytes = b"", group: bytes = G1) -> Entry:
    return msgspec.structs.replace(inline(name, content), group=group)


class Side:
    """Trees of small pages in one store."""

    def __init__(self) -> None:
        self.trees = Trees(MetaObjects(DictStore()), Paging(single=3, target=3, maximum=5))
        self.merge = Merge(self.trees)

    def root(self, files: dict[bytes, Entry]) -> Entry:
        """A root with these files by path."""
        deltas = {b"": TreeDelta()}
        for path, entry in sorted(files.items()):
            parts = path.split(b"/")
            for n in range(1, len(parts)):
                here = b"/".join(parts[:n])
                if here not in deltas:
                    deltas[here] = TreeDelta()
                    deltas[b"/".join(parts[: n - 1])].subdirs[parts[n - 1]] = (directory(parts[n - 1]), deltas[here])
            deltas[b"/".join(parts[:-1])].puts[parts[-1]] = msgspec.structs.replace(entry, name=parts[-1])
        return self.trees.directory(directory(b""), self.trees.apply(EMPTY_TREE, deltas[b""]))

    def files(self, root: Entry) -> dict[bytes, tuple[bytes, bytes]]:
        """(group, content) by path; the sums on the way are checked."""
        found = {}
        for path, entry in self.trees.walk(TreeId(root.content)):
            if entry.kind is Kind.DIRECTORY:
                below = [e for _, e in self.trees.walk(TreeId(entry.content)) if e.group]
                assert entry.linked == len(below)
            else:
                found[path] = (entry.group, entry.content)
        assert root.linked == sum(bool(group) for group, _ in found.values())
        return found

    def merged(self, *roots: dict[bytes, Entry]) -> dict[bytes, tuple[bytes, bytes]]:
        """Files of the merge of base, ours and theirs."""
        base, ours, theirs = map(self.root, roots)
        return self.files(self.merge.roots(base, ours, theirs))


# -- the format -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        linked(b"a", group=b"1"),
        linked(b"a", group=b"1" * 15),
        linked(b"a", group=b"1" * 17),
        msgspec.structs.replace(directory(b"d"), group=G1),
        msgspec.structs.replace(inline(b"a"), linked=1),
        msgspec.structs.replace(linked(b"a"), linked=1),
        msgspec.structs.replace(directory(b"d"), linked=-1),
        msgspec.structs.replace(directory(b"d"), linked=2**63),
    ],
    ids=range(8),
)
def test_entries_outside_the_format_are_refused_both_ways(entry: Entry) -> None:
    with pytest.raises(ValueError, match=r"group|linked|Expected|Object"):
        unpack_page(msgspec.msgpack.encode((0, [entry])))
    with pytest.raises(UsageError):
        pack_page(0, [entry])


@pytest.mark.parametrize("kind", [Kind.INLINE, Kind.FIFO, Kind.SOCKET])
def test_every_kind_but_a_directory_may_be_linked(kind: Kind) -> None:
    entry = msgspec.structs.replace(linked(b"a"), kind=kind)
    assert unpack_page(pack_page(0, [entry])) == (0, (entry,))


def test_a_reference_with_more_links_than_the_format_counts_is_refused() -> None:
    with pytest.raises(UsageError):
        pack_page(1, [PageRef(b"a", bytes(32), 1, 1, -1)])


names = st.integers(0, 40).map(lambda n: b"%02d" % n)
paths = st.tuples(st.sampled_from([b"", b"d/", b"d/e/", b"f/"]), names).map(b"".join)


@given(st.dictionaries(paths, st.sampled_from([b"", G1, G2]), max_size=60), st.dictionaries(paths, st.booleans()))
@settings(max_examples=150, deadline=None)
def test_directories_and_pages_count_what_is_linked_below(
    groups: dict[bytes, bytes], changes: dict[bytes, bool]
) -> None:
    side = Side()
    root = side.root({path: linked(b"", group=group) for path, group in groups.items()})
    assert set(side.files(root)) == set(groups)
    found: list[bytes] = []
    work = [(b"", TreeId(root.content))]
    while work:
        prefix, tree = work.pop()
        for entry in side.trees.linked_entries(tree):
            if entry.kind is Kind.DIRECTORY:
                work.append((prefix + entry.name + b"/", TreeId(entry.content)))
            else:
                found.append(prefix + entry.name)
    assert sorted(found) == sorted(path for path, group in groups.items() if group)
    top = {path: on for path, on in changes.items() if b"/" not in path}
    delta = TreeDelta(
        {name: linked(name) for name, on in top.items() if on}, {name for name, on in top.items() if not on}
    )
    side.files(side.trees.directory(root, side.trees.apply(TreeId(root.content), delta)))


# -- merging --------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """Names of numbered files, and their contents: what merging is checked against."""

    names: dict[bytes, int]
    contents: dict[int, bytes]

    def copy(self) -> World:
        return World(dict(self.names), dict(self.contents))

    def do(self, step: tuple[str, bytes, bytes], fresh: int) -> None:
        """link, unlink, move, write or create; what is not possible is passed over."""
        what, a, b = step
        if what == "create":
            self.names[a] = fresh
            self.contents[fresh] = b
        elif a in self.names:
            if what == "write":
                self.contents[self.names[a]] = b
            elif what == "unlink":
                del self.names[a]
            elif what == "link" and b not in self.names:
                self.names[b] = self.names[a]
            elif what == "move":
                self.names[b] = self.names.pop(a)

    def entries(self) -> dict[bytes, Entry]:
        """Every file linked, with its number as its group."""
        return {name: linked(b"", self.contents[number], b"%016d" % number) for name, number in self.names.items()}


few = st.sampled_from([b"a", b"b", b"c", b"d/a", b"d/b", b"e/a"])
text = st.sampled_from([b"", b"x", b"y", b"z"])
steps = st.lists(
    st.tuples(st.sampled_from(["link", "link", "unlink", "move"]), few, few)
    | st.tuples(st.sampled_from(["write", "write", "create"]), few, text),
    max_size=6,
)


def expected(base: World, ours: World, theirs: World) -> dict[bytes, tuple[bytes, bytes]]:
    """Names by path, each file's content by itself; a file that we wrote keeps our names when it would have none."""
    kept = set()
    for number in set(ours.names.values()):
        wrote = number in base.contents and ours.contents[number] != base.contents[number]
        their_names = [n for n, f in theirs.names.items() if f == number]
        new = [n for n, f in ours.names.items() if f == number and base.names.get(n) != number]
        if wrote and not their_names and not new and number in base.names.values():
            kept.add(number)
    out = {}
    for name in base.names.keys() | ours.names.keys() | theirs.names.keys():
        b, o, t = (world.names.get(name) for world in (base, ours, theirs))
        number = o if o != b or o in kept else t
        if number is None:
            continue
        held = [number in world.names.values() for world in (ours, theirs)]
        mine, yours = ours.contents.get(number), theirs.contents.get(number)
        content = mine if held[0] and (not held[1] or mine != base.contents.get(number)) else yours
        assert content is not None
        out[name] = (b"%016d" % number, content)
    return out


@given(steps, steps, steps)
@settings(max_examples=600, deadline=None)
def test_a_write_is_to_a_file_and_names_are_merged_by_path(
    first: list[tuple[str, bytes, bytes]], our: list[tuple[str, bytes, bytes]], their: list[tuple[str, bytes, bytes]]
) -> None:
    base = World({}, {})
    for i, step in enumerate([("create", b"a", b"0"), ("create", b"d/a", b"1"), ("link", b"a", b"b"), *first]):
        base.do(step, i)
    ours, theirs = base.copy(), base.copy()
    for i, step in enumerate(our):
        ours.do(step, 100 + i)
    for i, step in enumerate(their):
        theirs.do(step, 200 + i)
    found = Side().merged(base.entries(), ours.entries(), theirs.entries())
    assert found == expected(base, ours, theirs)


modes = st.dictionaries(st.integers(0, 205), st.sampled_from([0o600, 0o640]), max_size=4)


@given(steps, steps, modes, modes)
@settings(max_examples=400, deadline=None)
def test_modes_never_part_the_names_of_a_file(
    our: list[tuple[str, bytes, bytes]],
    their: list[tuple[str, bytes, bytes]],
    our_modes: dict[int, int],
    their_modes: dict[int, int],
) -> None:
    """Whoever changes whatever: names of one file have one mode and content, and only contents bring names back."""
    base = World({}, {})
    for i, step in enumerate([("create", b"a", b"0"), ("link", b"a", b"b"), ("create", b"d/a", b"0")]):
        base.do(step, i)
    ours, theirs = base.copy(), base.copy()
    for i, step in enumerate(our):
        ours.do(step, 100 + i)
    for i, step in enumerate(their):
        theirs.do(step, 200 + i)

    def entries(world: World, found: dict[int, int]) -> dict[bytes, Entry]:
        return {
            name: msgspec.structs.replace(entry, mode=found.get(int(entry.group), entry.mode))
            for name, entry in world.entries().items()
        }

    side = Side()
    roots = [side.root(entries(*each)) for each in ((base, {}), (ours, our_modes), (theirs, their_modes))]
    merged = side.merge.roots(*roots)
    assert side.files(merged) == expected(base, ours, theirs)
    files: dict[bytes, Entry] = {}
    for _, entry in side.trees.walk(TreeId(merged.content)):
        if entry.group:
            bare = msgspec.structs.replace(entry, name=b"")
            assert files.setdefault(entry.group, bare) == bare


@pytest.mark.parametrize("theirs", [{b"a": linked(b"", b"new", G2), b"b": linked(b"", b"new", G2)}, {}])
def test_a_mode_set_here_brings_back_no_file_whose_names_they_took(theirs: dict[bytes, Entry]) -> None:
    base = {b"a": linked(b"", b"old"), b"b": linked(b"", b"old")}
    ours = {name: msgspec.structs.replace(entry, mode=0o600) for name, entry in base.items()}
    assert Side().merged(base, ours, theirs) == dict.fromkeys(theirs, (G2, b"new"))


def test_the_same_file_linked_by_both_sides_is_one_file() -> None:
    found = Side().merged(
        {b"a": inline(b"", b"v")},
        {b"a": linked(b"", b"v", G1), b"d/b": linked(b"", b"v", G1)},
        {b"a": linked(b"", b"v", G2), b"c": linked(b"", b"v", G2)},
    )
    assert found == dict.fromkeys([b"a", b"d/b", b"c"], (G1, b"v"))


@pytest.mark.parametrize("swap", [False, True])
def test_a_file_linked_here_and_written_there_loses_nothing(swap: bool) -> None:
    base = {b"a": inline(b"", b"old")}
    link = {b"a": linked(b"", b"old"), b"b": linked(b"", b"old")}
    write = {b"a": inline(b"", b"new")}
    found = Side().merged(base, *((write, link) if swap else (link, write)))
    assert found == {b"a": (b"", b"new"), b"b": (G1, b"old")}


@pytest.mark.parametrize("swap", [False, True])
def test_attributes_set_on_one_side_hold_for_the_link_of_the_other(swap: bool) -> None:
    side = Side()
    base = {b"a": inline(b"", b"v")}
    link = {b"a": linked(b"", b"v"), b"b": linked(b"", b"v")}
    mode = {b"a": msgspec.structs.replace(inline(b"", b"v"), mode=0o600)}
    roots = [side.root(files) for files in (base, *((mode, link) if swap else (link, mode)))]
    root = side.merge.roots(*roots)
    for name in (b"a", b"b"):
        found = side.trees.find(root, name)
        assert found is not None
        assert (found.mode, found.group) == (0o600, G1)


def test_removing_a_name_and_linking_it_go_together() -> None:
    base = {b"a": inline(b"", b"v")}
    link = {b"a": linked(b"", b"v"), b"b": linked(b"", b"v")}
    assert Side().merged(base, link, {}) == {b"b": (G1, b"v")}


def test_a_directory_that_they_removed_does_not_come_back_for_a_name_in_it() -> None:
    base = {b"a": linked(b"", b"v"), b"d/b": linked(b"", b"v")}
    ours = {b"a": linked(b"", b"w"), b"d/b": linked(b"", b"w")}
    side = Side()
    merged = side.merge.roots(side.root(base), side.root(ours), side.root({b"a": base[b"a"]}))
    assert [path for path, _ in side.trees.walk(TreeId(merged.content))] == [b"a"]
    assert side.files(merged) == {b"a": (G1, b"w")}


# -- copies ---------------------------------------------------------------------------------------------------------


def test_a_copy_is_linked_with_itself_only() -> None:
    repo = Repository.create(DictStore())
    top = repo.resolve(None).commit.root
    delta = TreeDelta({b"x": linked(b"x", b"v"), b"y": linked(b"y", b"v")})
    top = repo.directory(top, repo.apply(EMPTY_TREE, TreeDelta(subdirs={b"d": (directory(b"d"), delta)})))
    assert top.linked == 2
    source = repo.find(top, b"d")
    assert source is not None
    copied = graft(repo, top, {b"e": source, b"single": linked(b"", b"v"), b"d": source})
    groups = {path: entry.group for path, entry in repo.walk(TreeId(copied.content)) if entry.kind is Kind.INLINE}
    assert groups[b"d/x"] == groups[b"d/y"] == G1
    assert groups[b"e/x"] == groups[b"e/y"] != G1
    assert groups[b"single"] == b""
    assert copied.linked == 4


def test_the_end_of_a_branch_has_no_links() -> None:
    repo = Repository.create(DictStore())
    base = repo.resolve(None)
    tree = repo.apply(EMPTY_TREE, TreeDelta({b"a": linked(b"a"), b"b": linked(b"b")}))
    made = repo.commit("main", base, repo.directory(base.commit.root, tree), "")
    assert made.commit.root.linked == 2
    assert repo.end_branch("main").commit.root.linked == 0
