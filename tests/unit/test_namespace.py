"""Nodes of a mount that come and go with what the kernel remembers."""

from __future__ import annotations

import trio
from repository_store import DictStore, directory, inline

from modelfs.repository.objects import EMPTY_TREE, TreeDelta
from modelfs.repository.repository import Repository
from modelfs.vfs.namespace import Namespace


def test_a_node_dropped_long_ago_does_not_take_its_successor_along() -> None:
    """Someone who still works on a forgotten node lets go of it after the path was looked up again: the new node has
    the same number, and the kernel holds it."""
    repo = Repository.create(DictStore())
    tree = repo.apply(EMPTY_TREE, TreeDelta({b"f": inline(b"f", b"v")}))
    names = Namespace(repo, directory(b"", tree), lambda node: None)

    async def work() -> None:
        old = await names.child(names.root, b"f")
        assert old is not None
        names.forget_if_unused(old)
        assert old.ino not in names.nodes
        new = await names.child(names.root, b"f")
        assert new is not None
        assert new is not old
        assert new.ino == old.ino
        new.lookups = 1
        names.forget_if_unused(old)
        assert names.nodes[new.ino] is new
        assert names.root.children[b"f"] is new

    trio.run(work)
