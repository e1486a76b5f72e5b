"""Replaying what a dead mount had acknowledged and not brought into the store.

The changes of its journal are made again on top of the commit that they were made on, then committed like any others:
when the branch has moved on, the commit is rebased over what came since. A change that finds nothing to act on (a file
that was never finished and so was never shown to anyone) is passed over.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import trio

from modelfs.concurrency import together
from modelfs.errors import ModelfsError, NotFoundError
from modelfs.journal.log import Begin, Delete, Link, Move, Put, Record, Staged, read_log, unfinished
from modelfs.journal.session import Session
from modelfs.reader.source import ChunkSource
from modelfs.repository.objects import EMPTY_TREE, CommitRecord, Entry, Kind
from modelfs.repository.repository import Repository
from modelfs.vfs.commits import Committer
from modelfs.vfs.files import Files
from modelfs.vfs.namespace import Namespace
from modelfs.vfs.nodes import DirNode, FileNode, Node, Place
from modelfs.writer.uploader import Uploader

log = logging.getLogger(__name__)


async def recover(session: Session, source: ChunkSource, uploader: Uploader, branch: str) -> CommitRecord | None:
    """Bring the acknowledged changes of a dead session into the store; the commit that holds them, or None.

    ModelfsError when the store does not take them: the session stays as it is and the next mount tries again.
    """
    path = session.directory / "log"
    if not path.exists():
        return None
    begin, changes = await trio.to_thread.run_sync(lambda: unfinished(read_log(path), partial(_landed, source.repo)))
    if begin is None or not changes:
        return None
    base = await trio.to_thread.run_sync(source.repo.read_commit, branch, begin.number)
    log.warning("a mount died with %d changes that are not in the store: replaying them", len(changes))
    async with together() as nursery:
        names = Namespace(source.repo, base.commit.root, lambda node: None)
        # What the journal speaks of stays until its session is closed, so a replay that fails can be tried again.
        files = Files(
            source, uploader, session.stage, nursery, names.changed, lambda: base.commit.root, lambda path: True
        )
        committer = Committer(source.repo, branch, base, names, lambda found: None)
        for change in changes:
            await _replay(names, files, change, session.stage)
        for node in list(names.unfinished()):
            await files.finish(node)
            await files.release(node)
        await committer.publish()
    return committer.head


def _landed(repo: Repository, begin: Begin, tree: bytes) -> int | None:
    """Number of the commit after ``begin`` whose root tree is ``tree``: it was written, its journal did not hear."""
    number = begin.number + 1
    while True:
        try:
            record = repo.read_commit(begin.branch, number)
        except NotFoundError:
            return None
        if record.commit.root.content == tree:
            return number
        number += 1


async def _replay(names: Namespace, files: Files, change: Record, stage: Path) -> None:
    if isinstance(change, Put | Staged):
        place = await _parent(names, change.path)
        if place is None:
            log.warning("%r: its directory is gone, the change is passed over", change.path)
            return
        parent, name = place
        node = await names.child(parent, name)
        if node is not None and not _can_be(node, change.entry):
            names.unlink(parent, name)
            node = None
        linked = names.links.of_group(change.entry.group) if change.entry.group else None
        if node is None and linked is not None:
            names.link(linked, parent, name)
            node = linked
        if node is None:
            entry = change.entry
            content = EMPTY_TREE if entry.kind is Kind.DIRECTORY else entry.content
            node = names.create(parent, name, entry.kind, entry.mode, entry.uid, entry.gid, content)
        if isinstance(node, FileNode):
            files.discard(node, keep=True)
            await files.release(node)
        _take_entry(node, change.entry)
        if change.entry.group and not node.group:
            names.links.regroup(node, change.entry.group)
        if isinstance(change, Staged) and isinstance(node, FileNode):
            await _take_staged(files, node, change, stage)
        names.changed(node)
    elif isinstance(change, Delete):
        place = await _existing(names, change.path)
        if place is not None:
            names.unlink(*place)
    elif isinstance(change, Move):
        old, place = await _existing(names, change.old), await _parent(names, change.new)
        if old is None or place is None:
            return
        target = await names.child(*place)
        if change.exchange and target is not None:
            names.exchange(*old, *place)
        else:
            if target is not None:
                names.unlink(*place)
            names.move(*old, *place)
    elif isinstance(change, Link):
        node, place = await _find(names, change.old), await _parent(names, change.new)
        if node is None or isinstance(node, DirNode) or place is None:
            return
        target = await names.child(*place)
        if target is node:
            return
        if target is not None:
            names.unlink(*place)
        names.link(node, *place, change.group)


def _can_be(node: Node, entry: Entry) -> bool:
    """True when the node at a path can become the file or directory of an entry: it is linked with no others."""
    if (node.kind is Kind.DIRECTORY) != (entry.kind is Kind.DIRECTORY):
        return False
    return node.group == entry.group or not node.group


def _take_entry(node: Node, entry: Entry) -> None:
    node.take_attributes(entry)
    if isinstance(node, FileNode):
        node.kind, node.content, node.finished_size = entry.kind, entry.content, entry.size
        node.exists_finished, node.modified = True, False
    elif not isinstance(node, DirNode):
        node.kind, node.content = entry.kind, entry.content


async def _take_staged(files: Files, node: FileNode, change: Staged, stage: Path) -> None:
    if not change.file:
        node.kind, node.content, node.finished_size = Kind.INLINE, b"", 0
        return
    path = stage / change.file
    if not path.exists():
        raise ModelfsError(f"{path} is missing: the journal speaks of it for {change.path!r}")
    await files.take_staged(node, path, change.size, change.base_limit, change.present)


async def _parent(names: Namespace, path: bytes) -> tuple[DirNode, bytes] | None:
    head, _, name = path.rpartition(b"/")
    node = await _find(names, head) if head else names.root
    return (node, name) if isinstance(node, DirNode) and name else None


async def _existing(names: Namespace, path: bytes) -> Place | None:
    """The place of a path at which something stands."""
    place = await _parent(names, path)
    return place if place is not None and await names.child(*place) is not None else None


async def _find(names: Namespace, path: bytes) -> Node | None:
    node: Node | None = names.root
    for part in path.split(b"/"):
        if not isinstance(node, DirNode):
            return None
        node = await names.child(node, part)
    return node
