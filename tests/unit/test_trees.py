"""Directories follow from their entries and from nothing else, and a change costs what it touches."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from repository_store import DictStore, directory, inline, puts, trees_of

from modelfs import limits
from modelfs.errors import CorruptError, UsageError
from modelfs.ids import TreeId
from modelfs.repository.meta import MetaObjects
from modelfs.repository.objects import EMPTY_TREE, Entry, PageRef, TreeDelta
from modelfs.repository.pages import Page, Pages, Paging
from modelfs.repository.trees import Trees

SMALL: Final = Paging(single=4, target=3, maximum=6, size=600)

letters = st.text("abcdefghij", min_size=1, max_size=3).map(str.encode)
contents = st.sampled_from([b"", b"1", b"22", b"x" * 200])
directories = st.dictionaries(letters, contents, max_size=80)


def small() -> tuple[DictStore, Trees]:
    store = DictStore()
    return store, Trees(MetaObjects(store), SMALL)


def built(trees: Trees, model: dict[bytes, bytes]) -> TreeId:
    return trees.apply(EMPTY_TREE, puts(*(inline(n, c) for n, c in model.items())))


def as_model(trees: Trees, tree: TreeId) -> dict[bytes, bytes]:
    return {e.name: e.content for e in trees.entries(tree)}


def pages_below(store: DictStore, tree: TreeId) -> list[Page]:
    pages = Pages(MetaObjects(store))
    found, work = [], [(pages.root(tree), None)]
    while work:
        page, _ = work.pop()
        found.append(page)
        refs = [item for item in page.items if isinstance(item, PageRef)]
        work.extend((pages.child(ref, page.level - 1, None), None) for ref in refs)
    return found


@given(directories, st.lists(st.dictionaries(letters, st.none() | contents, max_size=12), max_size=6))
@settings(max_examples=300, deadline=None)
def test_the_id_depends_on_the_entries_and_not_on_their_history(
    model: dict[bytes, bytes], edits: list[dict[bytes, bytes | None]]
) -> None:
    store, trees = small()
    tree = built(trees, model)
    for edit in edits:
        model = {n: c for n, c in (model | edit).items() if c is not None}
        changed = [inline(n, c) for n, c in edit.items() if c is not None]
        tree = trees.apply(tree, TreeDelta({e.name: e for e in changed}, {n for n, c in edit.items() if c is None}))
        _, fresh = small()
        assert tree == built(fresh, model)
        assert as_model(Trees(MetaObjects(store), SMALL), tree) == model
    assert [e.name for e in trees.entries(tree)] == sorted(model)


@given(directories, directories)
@settings(max_examples=200, deadline=None)
def test_diff_is_the_difference(before: dict[bytes, bytes], after: dict[bytes, bytes]) -> None:
    _, trees = small()
    found = list(trees.diff(built(trees, before), built(trees, after)))
    names = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
    assert [(n, b and b.content, a and a.content) for n, b, a in found] == [
        (n, before.get(n), after.get(n)) for n in names
    ]


@given(directories, letters)
@settings(deadline=None)
def test_lookup_finds_what_is_there_and_nothing_else(model: dict[bytes, bytes], name: bytes) -> None:
    _, trees = small()
    tree = built(trees, model)
    for n in {*model, name}:
        found = trees.lookup(tree, n)
        assert (found.content if found else None) == model.get(n)


@given(directories)
@example({b"%03d" % i: b"x" * 200 for i in range(60)})
@settings(deadline=None)
def test_pages_obey_the_rule(model: dict[bytes, bytes]) -> None:
    store, trees = small()
    tree = built(trees, model)
    pages = pages_below(store, tree) if model else []
    for page in pages:
        assert len(page.items) <= SMALL.maximum
        for i in range(1, len(page.items)):
            weight = sum(64 + len(e.name) + len(e.content) for e in page.items[:i] if isinstance(e, Entry))
            whole = SMALL.fits_one_leaf(page.count, page.weight) and len(pages) == 1
            assert whole or not SMALL.ends(page.level, page.items[:i], weight)
    assert sum(page.count for page in pages if page.level == 0) == len(model)


def test_the_empty_directory_is_neither_stored_nor_read() -> None:
    store, trees = small()
    assert list(trees.entries(EMPTY_TREE)) == []
    assert trees.lookup(EMPTY_TREE, b"a") is None
    tree = built(trees, {b"a": b"1"})
    assert trees.apply(tree, TreeDelta(deletes={b"a"})) == EMPTY_TREE
    assert trees.apply(EMPTY_TREE, TreeDelta(deletes={b"a"})) == EMPTY_TREE
    assert store.calls["get"] == 0
    assert store.calls["put"] == 1


def test_a_change_that_changes_nothing_writes_nothing() -> None:
    store, trees = small()
    model = {b"%03d" % i: b"" for i in range(50)}
    tree = built(trees, model)
    store.reset()
    same = TreeDelta({b"007": inline(b"007")}, {b"absent", b"zzz", b""}, {})
    assert trees.apply(tree, same) == tree
    assert trees.apply(tree, TreeDelta()) == tree
    assert store.calls["put"] == 0


@pytest.fixture(scope="module")
def large() -> tuple[DictStore, TreeId]:
    store = DictStore()
    entries = (inline(b"step-%06d.pt" % i, b"") for i in range(100_000))
    return store, trees_of(store).apply(EMPTY_TREE, puts(*entries))


def test_one_change_among_100_000_costs_one_page_and_the_index(large: tuple[DictStore, TreeId]) -> None:
    store, tree = large
    level, refs = index_of(store, tree)
    assert level == 1
    assert 50 < len(refs) < 200
    store.reset()
    trees = trees_of(store)
    changed = trees.apply(tree, puts(inline(b"step-054321.pt", b"new")))
    assert changed != tree
    assert (store.calls["get"], store.calls["put"]) == (2, 2)
    assert len({r.id for r in refs} & {r.id for r in index_of(store, changed)[1]}) == len(refs) - 1
    store.reset()
    assert trees_of(store).apply(changed, puts(inline(b"step-054321.pt", b""))) == tree


def test_a_lookup_among_100_000_loads_the_index_and_one_page(large: tuple[DictStore, TreeId]) -> None:
    store, tree = large
    store.reset()
    trees = trees_of(store)
    assert trees.lookup(tree, b"step-099999.pt") == inline(b"step-099999.pt")
    assert trees.lookup(tree, b"step-099999.pu") is None
    assert store.calls["get"] == 2


def test_a_diff_among_100_000_loads_what_differs(large: tuple[DictStore, TreeId]) -> None:
    store, tree = large
    trees = trees_of(store)
    edit = puts(inline(b"step-000001.pt", b"new"), inline(b"zzz"))
    edit.deletes.add(b"step-050000.pt")
    changed = trees.apply(tree, edit)
    store.reset()
    found = [name for name, _, _ in trees_of(store).diff(tree, changed)]
    assert found == [b"step-000001.pt", b"step-050000.pt", b"zzz"]
    assert store.calls["get"] <= 8


def test_a_large_directory_that_shrinks_becomes_one_page_again(large: tuple[DictStore, TreeId]) -> None:
    store, tree = large
    keep = {b"step-%06d.pt" % i for i in range(0, 100_000, 50)}
    trees = trees_of(store)
    small_again = trees.apply(tree, TreeDelta(deletes={e.name for e in trees.entries(tree)} - keep))
    assert len(keep) == limits.TREE_PAGE_SINGLE
    assert index_of(store, small_again)[0] == 0
    assert small_again == trees.apply(EMPTY_TREE, puts(*(inline(n) for n in keep)))
    one_more = trees.apply(small_again, puts(inline(b"a")))
    assert one_more == trees.apply(EMPTY_TREE, puts(*(inline(n) for n in {*keep, b"a"})))


def test_heavy_entries_make_small_pages() -> None:
    store = DictStore()
    trees = trees_of(store)
    xattrs = ((b"user.big", b"x" * 60_000),)
    heavy = [msgspec.structs.replace(inline(b"%04d" % i), xattrs=xattrs) for i in range(200)]
    tree = trees.apply(EMPTY_TREE, puts(*heavy))
    assert list(trees_of(store).entries(tree)) == heavy
    assert all(page.weight <= limits.TREE_PAGE_BYTES + 100_000 for page in pages_below(store, tree) if page.level == 0)


def index_of(store: DictStore, tree: TreeId) -> tuple[int, tuple[PageRef, ...]]:
    page = Pages(MetaObjects(store)).root(tree)
    return page.level, tuple(item for item in page.items if isinstance(item, PageRef))


def test_subdirectories_are_changed_bottom_up() -> None:
    store = DictStore()
    trees = trees_of(store)
    inner = TreeDelta(subdirs={b"c": (directory(b"c", mode=0o700), puts(inline(b"f", b"1")))})
    delta = TreeDelta(subdirs={b"a": (directory(b"a"), inner)}, puts={b"x": inline(b"x")})
    tree = trees.apply(EMPTY_TREE, delta)
    assert [path for path, _ in trees.walk(tree)] == [b"a", b"a/c", b"a/c/f", b"x"]
    assert next(path for path, _ in trees.walk(tree, b"top")) == b"top/a"
    found = trees.find(directory(b"", tree), b"/a//c/f")
    assert found is not None
    assert found.content == b"1"
    c = trees.find(directory(b"", tree), b"a/c")
    assert c is not None
    assert c.mode == 0o700
    assert trees.find(directory(b"", tree), b"x/f") is None
    assert trees.find(directory(b"", tree), b"") == directory(b"", tree)

    a = trees.lookup(tree, b"a")
    assert a is not None
    emptied = TreeDelta(subdirs={b"c": (c, TreeDelta(deletes={b"f"}))})
    tree = trees.apply(tree, TreeDelta(subdirs={b"a": (a, emptied)}))
    assert [path for path, _ in trees.walk(tree)] == [b"a", b"a/c", b"x"]


def test_pages_are_in_the_store_before_what_refers_to_them() -> None:
    store = DictStore()
    trees = Trees(MetaObjects(store), SMALL)
    inner = puts(*(inline(b"%02d" % i) for i in range(60)))
    tree = trees.apply(EMPTY_TREE, TreeDelta(subdirs={b"d": (directory(b"d"), inner)}))
    fresh = Trees(MetaObjects(store), SMALL)
    assert len(list(fresh.walk(tree))) == 61


def test_an_entry_under_another_name_is_refused() -> None:
    _, trees = small()
    with pytest.raises(UsageError, match="under the name"):
        trees.apply(EMPTY_TREE, TreeDelta({b"a": inline(b"b")}))
    with pytest.raises(UsageError, match="no room"):
        trees.apply(EMPTY_TREE, TreeDelta({b"..": inline(b"..")}))


def test_depth_is_bounded_in_both_directions() -> None:
    _, trees = small()
    tree = EMPTY_TREE
    for _ in range(limits.TREE_DEPTH_MAX + 1):
        tree = trees.apply(EMPTY_TREE, puts(directory(b"d", tree)))
    with pytest.raises(CorruptError, match="nested deeper"):
        list(trees.walk(tree))
    delta = TreeDelta(puts={b"f": inline(b"f")})
    for _ in range(limits.TREE_DEPTH_MAX + 1):
        delta = TreeDelta(subdirs={b"d": (directory(b"d"), delta)})
    with pytest.raises(UsageError, match="nested deeper"):
        trees.apply(EMPTY_TREE, delta)


def test_the_memory_of_decoded_pages_is_bounded() -> None:
    store = DictStore()
    meta = MetaObjects(store, memory=20_000)
    trees = Trees(meta, SMALL)
    tree = trees.apply(EMPTY_TREE, puts(*(inline(b"%04d" % i) for i in range(2000))))
    assert len(list(trees.entries(tree))) == 2000
    assert 0 < meta.statistics().memory <= 20_000
