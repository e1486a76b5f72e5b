"""Moving a mount's view to another tree while files go on changing here."""

from __future__ import annotations

import msgspec
import trio
from repository_store import DictStore, directory, inline

from modelfs.ids import TreeId
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind, TreeDelta
from modelfs.repository.repository import Repository
from modelfs.vfs.namespace import Namespace, Snapshot
from modelfs.vfs.nodes import FileNode
from modelfs.vfs.rebase import Rebase


class View:
    """One mount's view of a store, and what commits of it or of others do to the tree."""

    def __init__(self, *entries: Entry) -> None:
        self.repo = Repository.create(DictStore())
        self.root = self._root(EMPTY_TREE, TreeDelta({entry.name: entry for entry in entries}))
        self.names = Namespace(self.repo, self.root, lambda node: None)

    def _root(self, tree: TreeId, delta: TreeDelta) -> Entry:
        return self.repo.directory(directory(b""), self.repo.apply(tree, delta))

    async def file(self, name: bytes = b"f") -> FileNode:
        node = await self.names.child(self.names.root, name)
        assert isinstance(node, FileNode)
        node.lookups = 1  # the kernel remembers it
        return node

    def finish(self, node: FileNode, content: bytes) -> None:
        """A new finished version, as `Files.finish` leaves it."""
        node.content, node.finished_size, node.exists_finished = content, len(content), True
        node.theirs, node.removed = None, False
        self.names.changed(node)

    def snapshot(self) -> Snapshot:
        snap = self.names.snapshot()
        assert snap is not None
        return snap

    async def carried(self, snap: Snapshot) -> None:
        """A commit of ours is in the store."""
        self.root = self._root(TreeId(self.root.content), snap.delta)
        await Rebase(self.names, self.repo, self.root, snap).run()

    async def others(self, entry: Entry) -> None:
        """Another mount has committed."""
        self.root = self._root(TreeId(self.root.content), TreeDelta({entry.name: entry}))
        await Rebase(self.names, self.repo, self.root).run()


def test_a_file_that_is_again_what_it_was_before_our_commit_stays_ours() -> None:
    view = View(inline(b"f", b""))

    async def work() -> None:
        node = await view.file()
        view.finish(node, b"x")
        snap = view.snapshot()
        view.finish(node, b"")
        await view.carried(snap)
        assert await view.file() is node
        assert (node.content, node.replaced) == (b"", False)
        assert view.snapshot().delta.puts[b"f"].content == b""

    trio.run(work)


def test_a_file_made_anew_with_the_old_content_outlives_the_commit_that_removes_the_old_one() -> None:
    view = View(inline(b"f", b"v"))

    async def work() -> None:
        await view.file()
        view.names.unlink(view.names.root, b"f")
        node = view.names.create(view.names.root, b"f", Kind.INLINE, 0o644, 0, 0, b"")
        assert isinstance(node, FileNode)
        snap = view.snapshot()
        assert snap.delta.deletes == {b"f"}
        view.finish(node, b"v")
        await view.carried(snap)
        assert await view.file() is node
        assert view.snapshot().delta.puts[b"f"].content == b"v"

    trio.run(work)


def test_a_new_mode_here_goes_over_a_new_content_of_others() -> None:
    view = View(inline(b"f", b"old"))

    async def work() -> None:
        node = await view.file()
        node.mode = 0o600
        view.names.changed(node)
        await view.others(inline(b"f", b"new"))
        assert node.replaced
        fresh = await view.file()
        assert (fresh.content, fresh.mode) == (b"new", 0o600)
        snap = view.snapshot()
        await view.carried(snap)
        assert await view.file() is fresh
        assert view.names.snapshot() is None

    trio.run(work)


def test_a_writers_file_that_others_replaced_takes_their_content_into_a_commit_of_its_mode() -> None:
    view = View(inline(b"f", b"old"))

    async def work() -> None:
        node = await view.file()
        node.writers = 1
        await view.others(inline(b"f", b"new"))
        assert node.content == b"old"  # what is open does not change
        node.mode = 0o600
        view.names.changed(node)
        put = view.snapshot().delta.puts[b"f"]
        assert (put.content, put.mode) == (b"new", 0o600)
        view.finish(node, b"mine")
        await view.others(inline(b"f", b"newer"))
        assert not node.replaced

    trio.run(work)


def test_a_file_that_is_still_open_after_its_commit_takes_the_mode_that_others_gave_it() -> None:
    view = View(inline(b"f", b"old"))

    async def work() -> None:
        node = await view.file()
        node.writers = 1
        view.finish(node, b"mine")
        snap = view.snapshot()
        mine = snap.delta.puts[b"f"]
        snap.delta.puts[b"f"] = msgspec.structs.replace(mine, mode=0o600)  # what the merge with a chmod makes of it
        await view.carried(snap)
        assert (node.mode, node.content) == (0o600, b"mine")
        await view.others(msgspec.structs.replace(mine, mode=0o640, content=b"new", size=3, mtime_ns=9))
        assert (node.mode, node.content, node.mtime_ns) == (0o640, b"mine", mine.mtime_ns)

    trio.run(work)
