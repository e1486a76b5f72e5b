"""Everything a commit reaches is visited once, whatever is shared, and damage is told or passed on."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository_store import DictStore, directory, inline, root

from modelfs.errors import ModelfsError, NotFoundError
from modelfs.formats.layout import Layout, Span
from modelfs.ids import ManifestId, TreeId
from modelfs.repository.idset import IdSet
from modelfs.repository.objects import EMPTY_TREE, Entry, Extent, Kind, Manifest, TreeDelta
from modelfs.repository.reachable import Reachable, Reached, What
from modelfs.repository.repository import Repository

ids = st.binary(min_size=32, max_size=32) | st.sampled_from([bytes(32), b"a" + bytes(31), b"\xff" * 32])


@given(st.lists(ids), st.lists(ids))
def test_an_id_set_is_a_set(added: list[bytes], asked: list[bytes]) -> None:
    made, truth = IdSet(added[: len(added) // 2]), set(added[: len(added) // 2])
    for one in added[len(added) // 2 :]:
        assert made.add(one) is (one not in truth)
        truth.add(one)
    assert all((one in made) is (one in truth) for one in asked + added)
    assert list(made) == sorted(truth)
    assert len(made) == len(truth)
    assert all((one in made) is (one in truth) for one in asked + added)


def test_an_id_set_grows_over_many_merges() -> None:
    added = [os.urandom(32) for _ in range(200_000)]
    made = IdSet()
    for start in range(0, len(added), 1000):
        made.update(added[start : start + 1000])
    assert len(made) == len(set(added))
    assert all(one in made for one in added[::97])
    assert os.urandom(32) not in made


def file(repo: Repository, name: bytes, *chunks: bytes, tensors: bytes = b"") -> Entry:
    extents = tuple(Extent(repo.write_chunk(data)[0], len(data)) for data in chunks)
    size = sum(extent.length for extent in extents)
    content = repo.write_manifest(Manifest(size, extents, tensors))
    return Entry(name, Kind.FILE, 0o644, 0, 0, 0, size, content)


def stored(store: DictStore) -> set[str]:
    return {key for key in store.data if key.startswith(("data/", "meta/"))}


def test_every_object_is_visited_once_over_all_roots() -> None:
    store = DictStore()
    repo = Repository.create(store)
    table = repo.write_layout(Layout("safetensors", (Span(0, 5, "U8", (5,), "t"),), 10))
    a, b = file(repo, b"a", b"chunk", b"other", tensors=table), file(repo, b"b", b"other")
    many = {b"%06d" % i: inline(b"%06d" % i) for i in range(5000)}
    below = repo.apply(EMPTY_TREE, TreeDelta(puts={b"b": b}))
    first = repo.apply(
        EMPTY_TREE,
        TreeDelta(
            puts={b"a": a, b"d": directory(b"d", below)}, subdirs={b"m": (directory(b"m"), TreeDelta(puts=many))}
        ),
    )
    second = repo.apply(first, TreeDelta(puts={b"c": file(repo, b"c", b"third")}))
    fresh = Repository.open(store)
    reach = Reachable(fresh)
    found = list(reach.walk(root(first)))
    again = list(reach.walk(root(second)))
    assert len({(r.what, r.id) for r in found + again}) == len(found + again)
    assert {r.key for r in found + again} == stored(store)
    assert sum(r.what is What.PAGE for r in found) > 5, "a directory of 5,000 entries has several pages"
    assert {(r.what, r.path) for r in again} == {(What.PAGE, b""), (What.MANIFEST, b"c"), (What.CHUNK, b"c")}
    assert {r.path for r in found if r.what is What.CHUNK} <= {b"a", b"d/b"}
    assert not list(reach.walk(root(first)))
    assert not list(reach.walk(root(EMPTY_TREE)))
    assert not list(reach.walk(inline(b"i", b"x"), b"i"))


@pytest.mark.parametrize("what", [What.PAGE, What.MANIFEST])
def test_damage_is_raised_or_told_and_the_rest_is_visited(what: What) -> None:
    store = DictStore()
    repo = Repository.create(store)
    below = repo.apply(EMPTY_TREE, TreeDelta(puts={b"b": file(repo, b"b", b"bbb")}))
    tree = repo.apply(EMPTY_TREE, TreeDelta(puts={b"a": file(repo, b"a", b"aaa"), b"d": directory(b"d", below)}))
    broken = {What.PAGE: below, What.MANIFEST: ManifestId(_entry(repo, below, b"b").content)}[what]
    del store.data[Reached(what, broken, b"").key]
    with pytest.raises(NotFoundError, match=broken.hex()):
        list(Reachable(Repository.open(store)).walk(root(tree)))
    told: list[tuple[Reached, ModelfsError]] = []
    reach = Reachable(Repository.open(store), lambda reached, error: told.append((reached, error)))
    found = list(reach.walk(root(tree)))
    assert [(r.what, r.id) for r, _ in told] == [(what, broken)]
    assert {r.path for r in found if r.what is What.CHUNK} == {b"a"}


def _entry(repo: Repository, tree: TreeId, name: bytes) -> Entry:
    found = repo.lookup(tree, name)
    assert found is not None
    return found


def test_a_page_in_a_wrong_place_and_endless_depth_are_refused() -> None:
    store = DictStore()
    repo = Repository.create(store)
    one = repo.apply(EMPTY_TREE, TreeDelta(puts={b"%06d" % i: inline(b"%06d" % i) for i in range(5000)}))
    page = repo.read_page(one)
    from modelfs.ids import digest
    from modelfs.repository.envelope import wrap
    from modelfs.repository.keys import meta_key
    from modelfs.repository.objects import PageRef
    from modelfs.repository.packing import pack_page

    refs = [item for item in page.items if isinstance(item, PageRef)]
    swapped = pack_page(1, [PageRef(refs[0].name, refs[1].id, refs[0].count, refs[0].weight), *refs[1:]])
    store.put(meta_key(digest(swapped)), wrap(swapped))
    with pytest.raises(ModelfsError, match="not what its index says"):
        list(Reachable(repo).walk(root(TreeId(digest(swapped)))))
    tree = repo.apply(EMPTY_TREE, TreeDelta(puts={b"f": inline(b"f")}))
    for _ in range(300):
        tree = repo.apply(EMPTY_TREE, TreeDelta(puts={b"d": directory(b"d", tree)}))
    with pytest.raises(ModelfsError, match="nested deeper"):
        list(Reachable(repo).walk(root(tree)))
    told: list[Reached] = []
    list(Reachable(repo, lambda reached, error: told.append(reached)).walk(root(tree)))
    assert len(told) == 1
