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
from modelfs.journal.log import (
    Announce,
    Committed,
    Delete,
    JournalLog,
    Mark,
    Move,
    Put,
    Record,
    Staged,
    read_log,
    unfinished,
)
from modelfs.journal.session import Session
from modelfs.reader.source import ChunkSource
from modelfs.repository.objects import EMPTY_TREE, CommitRecord, Entry, Kind
from modelfs.repository.repository import Repository
from modelfs.vfs.commits import Committer
from modelfs.vfs.files import Files
from modelfs.vfs.namespace import Namespace
from modelfs.vfs.nodes import DirNode, FileNode, Node
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
        committer = Committer(source.repo, branch, base, names)
        journal = session.log()
        committer.observer = _Replay(journal)
        try:
            for change in changes:
                await _replay(names, files, change, session.stage)
            for node in list(names.unfinished()):
                await files.finish(node)
                await files.release(node)
            await committer.publish()
        finally:
            journal.close()
    return committer.head


class _Replay:
    """Notes in the journal that is replayed how far the replay has come: one that is cut short is not made twice, which
    would lay old versions over what others have written since."""

    def __init__(self, log: JournalLog) -> None:
        self._log = log

    def snapshot_taken(self) -> None:
        """A commit is being made of everything in the journal."""
        self._log.append(Mark(0))

    def announce(self, record: CommitRecord) -> None:
        """It is about to be written. Called from a worker thread."""
        self._log.append(Announce(0, record.number, record.id))

    async def committed(self, record: CommitRecord, change: int) -> None:
        """It is in the store."""
        self._log.append(Committed(record.number))
        await trio.to_thread.run_sync(self._log.sync)


def _landed(repo: Repository, branch: str, announced: Announce) -> bool:
    """True when the announced commit was written, and only its journal did not hear of it."""
    try:
        return repo.read_commit(branch, announced.number).id == announced.commit
    except NotFoundError:
        return False


async def _replay(names: Namespace, files: Files, change: Record, stage: Path) -> None:
    if isinstance(change, Put | Staged):
        place = await _parent(names, change.path)
        if place is None:
            log.warning("%r: its directory is gone, the change is passed over", change.path)
            return
        parent, name = place
        node = await names.child(parent, name)
        if node is not None and (node.kind is Kind.DIRECTORY) != (change.entry.kind is Kind.DIRECTORY):
            names.unlink(node)
            node = None
        if node is None:
            entry = change.entry
            content = EMPTY_TREE if entry.kind is Kind.DIRECTORY else entry.content
            node = names.create(parent, name, entry.kind, entry.mode, entry.uid, entry.gid, content)
        if isinstance(node, FileNode):
            files.discard(node, keep=True)
            await files.release(node)
        _take_entry(node, change.entry)
        if isinstance(change, Staged) and isinstance(node, FileNode):
            await _take_staged(files, node, change, stage)
        names.changed(node)
    elif isinstance(change, Delete):
        node = await _find(names, change.path)
        if node is not None:
            names.unlink(node)
    elif isinstance(change, Move):
        node, place = await _find(names, change.old), await _parent(names, change.new)
        if node is None or place is None:
            return
        parent, name = place
        target = await names.child(parent, name)
        if change.exchange and target is not None:
            names.exchange(node, target)
        else:
            if target is not None:
                names.unlink(target)
            names.move(node, parent, name)


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


async def _find(names: Namespace, path: bytes) -> Node | None:
    node: Node | None = names.root
    for part in path.split(b"/"):
        if not isinstance(node, DirNode):
            return None
        node = await names.child(node, part)
    return node
