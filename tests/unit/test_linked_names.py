"""The view of linked files without a kernel: trees that no writer makes, and more links than a mount holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import pytest
import trio
from repository_store import DictStore, directory, inline
from spoiling import spoilt

from modelfs import limits
from modelfs.errors import TransientError
from modelfs.repository.keys import meta_key
from modelfs.repository.objects import EMPTY_TREE, Entry, TreeDelta
from modelfs.repository.repository import Repository
from modelfs.vfs.namespace import Namespace
from modelfs.vfs.nodes import Node

T = TypeVar("T")
GROUP = b"g" * 16


def linked(name: bytes, content: bytes = b"v") -> Entry:
    return msgspec.structs.replace(inline(name, content), group=GROUP)


def view(*entries: Entry, below: tuple[Entry, ...] = ()) -> Namespace:
    """A tree of these files, and some in a directory "d"."""
    repo = Repository.create(DictStore())
    delta = TreeDelta({e.name: e for e in entries})
    if below:
        delta.subdirs[b"d"] = (directory(b"d"), TreeDelta({e.name: e for e in below}))
    root = repo.directory(directory(b""), repo.apply(EMPTY_TREE, delta))
    return Namespace(repo, root, lambda node: None)


def run(work: Callable[[], Awaitable[T]]) -> T:
    return trio.run(work)


async def child(names: Namespace, name: bytes) -> Node:
    node = await names.child(names.root, name)
    assert node is not None
    return node


def test_all_names_are_known_with_the_first_one() -> None:
    names = view(linked(b"a"), inline(b"other"), below=(linked(b"x"), linked(b"y"), inline(b"z")))

    async def work() -> None:
        assert not names.links.complete()
        node = await child(names, b"other")
        assert not names.links.complete()  # who meets no link pays for none
        node = await child(names, b"a")
        assert node.links == 3
        assert sorted(name for _, name in node.places()) == [b"a", b"x", b"y"]

    run(work)


def test_a_change_marks_every_name_and_an_entry_has_the_name_it_stands_under() -> None:
    names = view(linked(b"a"), below=(linked(b"x"),))

    async def work() -> None:
        node = await child(names, b"a")
        node.mode = 0o600
        names.changed(node)
        snap = names.snapshot()
        assert snap is not None
        below = snap.delta.subdirs[b"d"][1].puts
        assert {e.name: (e.mode, e.group) for e in (*snap.delta.puts.values(), *below.values())} == {
            b"a": (0o600, GROUP),
            b"x": (0o600, GROUP),
        }

    run(work)


def test_entries_of_one_group_that_differ_are_files_of_their_own() -> None:
    names = view(linked(b"a", b"1"), linked(b"b", b"2"), linked(b"c", b"2"))

    async def work() -> None:
        nodes = [await child(names, name) for name in (b"a", b"b", b"c")]
        assert [node.content for node in nodes] == [b"1", b"2", b"2"]
        assert [node.links for node in nodes] == [1, 1, 1]
        assert [node.group for node in nodes] == [GROUP, b"", b""]  # what is written next is no longer of that group

    run(work)


def test_more_names_than_a_mount_holds_are_files_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINKED_NAMES_MAX", 2)
    names = view(linked(b"a"), linked(b"b"), below=(linked(b"x"),))

    async def work() -> None:
        nodes = [await child(names, name) for name in (b"a", b"b")]
        assert nodes[0] is not nodes[1]
        assert [(node.links, node.group) for node in nodes] == [(1, b""), (1, b"")]
        assert names.links.complete()

    run(work)


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_damaged_directory_hides_its_own_names_only(damage: str) -> None:
    store = DictStore()
    repo = Repository.create(store)
    subdirs = {name: (directory(name), TreeDelta({b"x": linked(b"x")})) for name in (b"d", b"e")}
    subdirs[b"e"][1].puts[b"y"] = inline(b"y")
    top = repo.directory(directory(b""), repo.apply(EMPTY_TREE, TreeDelta({b"a": linked(b"a")}, subdirs=subdirs)))
    hurt = repo.find(top, b"d")
    assert hurt is not None
    key = meta_key(hurt.content)
    if damage == "gone":
        del store.data[key]
    else:
        store.data[key] = spoilt(store.data[key])
    names = Namespace(Repository.open(store), top, lambda node: None)

    async def work() -> None:
        node = await child(names, b"a")
        assert [name for _, name in node.places()] == [b"a", b"x"]

    run(work)


def test_a_store_that_is_away_is_an_error_and_asked_again() -> None:
    store = DictStore()
    repo = Repository.create(store)
    delta = TreeDelta({b"a": linked(b"a")}, subdirs={b"d": (directory(b"d"), TreeDelta({b"x": linked(b"x")}))})
    top = repo.directory(directory(b""), repo.apply(EMPTY_TREE, delta))
    away = [True]

    class Flaky(DictStore):
        def get(self, key: str) -> bytes:
            below = repo.find(top, b"d")
            if away[0] and below is not None and key == meta_key(below.content):
                raise TransientError("away", key)
            return super().get(key)

    flaky = Flaky()
    flaky.data = store.data
    names = Namespace(Repository.open(flaky), top, lambda node: None)

    async def work() -> None:
        with pytest.raises(TransientError):
            await child(names, b"a")
        away[0] = False
        assert (await child(names, b"a")).links == 2

    run(work)


def test_a_count_that_lies_hides_names_and_harms_nothing() -> None:
    repo = Repository.create(DictStore())
    below = repo.apply(EMPTY_TREE, TreeDelta({b"x": linked(b"x")}))
    lying = msgspec.structs.replace(directory(b"d", below), linked=0)
    endless = msgspec.structs.replace(directory(b"e"), linked=2**40)
    root = repo.directory(
        directory(b""), repo.apply(EMPTY_TREE, TreeDelta({e.name: e for e in (linked(b"a"), lying, endless)}))
    )
    names = Namespace(repo, msgspec.structs.replace(root, linked=2), lambda node: None)

    async def work() -> None:
        assert (await child(names, b"a")).links == 1
        inside = await child(names, b"d")
        found = await names.child(inside, b"x")  # type: ignore[arg-type]
        assert found is await child(names, b"a")

    run(work)
