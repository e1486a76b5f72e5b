"""Replaying what a dead mount had acknowledged and not brought into the store.

The changes of its journal are made again on top of the commit that they were made on, then committed like any others:
when the branch has moved on, the commit is rebased over what came since. A change that finds nothing to act on (a file
that was never finished and so was never shown to anyone) is passed over; so is a file whose staged bytes are not all
there, which is kept and reported. The next mount of a branch and `modelfs journal retry` are the callers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import trio

from modelfs.concurrency import together
from modelfs.errors import ModelfsError, NotFoundError, StoreError
from modelfs.journal.held import Fate, HeldFile, as_opened, damage
from modelfs.journal.log import (
    Announce,
    Committed,
    Delete,
    JournalLog,
    Link,
    Mark,
    Move,
    Opened,
    Put,
    Record,
    Staged,
    unfinished,
)
from modelfs.journal.session import Session
from modelfs.reader.source import ChunkSource
from modelfs.repository.objects import EMPTY_TREE, CommitRecord, Entry, Kind
from modelfs.repository.repository import Repository
from modelfs.vfs.commits import Committer
from modelfs.vfs.files import Files
from modelfs.vfs.ledger import Acknowledged, KeepAll
from modelfs.vfs.namespace import Namespace
from modelfs.vfs.nodes import DirNode, FileNode, Node, Place
from modelfs.writer.uploader import Uploader

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one dead session. ``changes``: how many were not in the store; ``failure``: why they are not there
    now either ("": they are); ``away``: because the store did not take them; ``torn``: bytes at the end of its log that
    were no records; ``left``: what was kept."""

    session: Session
    record: CommitRecord | None
    changes: int
    failure: str
    away: bool
    torn: int
    left: tuple[HeldFile, ...]


async def replay(sessions: Sequence[Session], source: ChunkSource, uploader: Uploader, branch: str) -> list[Replayed]:
    """Bring what dead sessions had acknowledged into the store, one after another, and close them."""
    return [await _replay_session(session, source, uploader, branch) for session in sessions]


async def _replay_session(session: Session, source: ChunkSource, uploader: Uploader, branch: str) -> Replayed:
    record, changes, failure, away, torn = None, 0, "", False, 0
    left: tuple[HeldFile, ...] = ()
    try:
        torn = await trio.to_thread.run_sync(session.set_torn_aside)
        if torn:
            log.error(
                "the journal %s ended in %d bytes that are no record, as after a power loss: what was not synced "
                "is gone, the bytes are kept aside",
                session.directory,
                torn,
            )
        record, changes = await recover(session, source, uploader, branch)
        left = tuple(await trio.to_thread.run_sync(session.leftovers))
        for one in left:
            log.warning("%s", in_words(one))
    except (ModelfsError, OSError) as error:
        failure, away = str(error), isinstance(error, StoreError)
        log.error("the journal %s could not be replayed and is kept: %s", session.directory, error)
        await trio.to_thread.run_sync(session.note_failure, failure)
    try:
        await trio.to_thread.run_sync(partial(session.close, discard_log=not failure))
    except OSError as error:
        log.error("the journal %s is in the store, and stays until it can be tidied up: %s", session.directory, error)
    return Replayed(session, record, changes, failure, away, torn, left)


def in_words(held: HeldFile) -> str:
    """What a leftover is, for the log of a mount."""
    name = "an unknown path" if held.path is None else repr(held.path)
    if held.why:
        return f"kept and not brought into the store: {name}, {held.size} bytes ({held.why}), at {held.file}"
    return f"a mount died while it wrote {name}: an unfinished file of {held.size} bytes is kept at {held.file}"


async def recover(
    session: Session, source: ChunkSource, uploader: Uploader, branch: str
) -> tuple[CommitRecord | None, int]:
    """Bring the acknowledged changes of a dead session into the store; the commit that holds them, if one was needed,
    and how many they were.

    ModelfsError when the store does not take them, OSError when this disk does not: the session stays as it is and the
    next mount tries again.
    """
    records = await trio.to_thread.run_sync(session.records)
    begin, changes = await trio.to_thread.run_sync(partial(unfinished, records, partial(_landed, source.repo)))
    if begin is None or not changes:
        return None, 0
    base = await trio.to_thread.run_sync(_base, source.repo, branch, begin.number)
    log.warning("a mount died with %d changes that are not in the store: replaying them", len(changes))
    for one in await trio.to_thread.run_sync(session.held):
        if one.fate is Fate.PENDING and one.why:
            log.warning("%r: %s, and are not kept", one.path, one.why)
    journal = session.log()
    try:
        async with together() as nursery:
            names = Namespace(source.repo, base.commit.root, lambda node: None)
            # What the journal speaks of stays until its session is closed, so a replay that fails can be tried again.
            files = Files(source, uploader, session.stage, nursery, names.changed, lambda: base.commit.root, KeepAll())
            committer = Committer(source.repo, branch, base, names)
            kept = {id(change) for change in changes}
            committer.observer = _Note(
                journal, [begin, *(one for one in records if isinstance(one, Opened) or id(one) in kept)]
            )
            for change in changes:
                if not isinstance(change, Staged) or not damage(change, session.stage):
                    await _replay(names, files, change)
            for node in list(names.unfinished()):
                await files.finish(node)
                await files.release(node)
            await committer.publish()
        damaged = [one for one in session.held() if one.fate is Fate.DAMAGED]
        # Written here and not by the committer, because changes that cancel each other out make no commit.
        for record in (Committed(committer.head.number), *(as_opened(one) for one in damaged)):
            if record is not None:
                journal.append(record)
        await trio.to_thread.run_sync(journal.sync)
    finally:
        journal.close()
    return committer.head, len(changes)


class _Note:
    """Tells the dead session's log of the commit that holds its changes, so that a replay that is cut short is not
    made twice."""

    def __init__(self, journal: JournalLog, records: list[Record]) -> None:
        self._journal = journal
        self._records = records

    def snapshot_taken(self) -> None:
        # The dead mount's own marks and announcements have been judged: only ours count from here on.
        self._journal.restart([*self._records, Mark(1)])

    def announce(self, record: CommitRecord) -> None:
        """Called from a worker thread."""
        self._journal.append(Announce(1, record.number, record.id))
        self._journal.sync()

    async def committed(self, record: CommitRecord, change: int) -> None:
        """`recover` says so in the end."""

    def followed(self, record: CommitRecord) -> None:
        """A replay follows nobody."""


def _base(repo: Repository, branch: str, number: int) -> CommitRecord:
    """The commit that a dead mount stood on. When the retention has dropped it since, the newest one stands in: the
    changes are laid over that by their paths."""
    try:
        return repo.read_commit(branch, number)
    except NotFoundError:
        head = repo.head(branch)
        if head is None or number not in repo.collected(branch):
            raise
        log.warning("commit %s@%d was collected: the changes made on it are laid over the newest one", branch, number)
        return head


def _landed(repo: Repository, branch: str, announced: Announce) -> bool:
    """True when the announced commit was written, and only its journal did not hear of it. CollectedError when nobody
    can tell any more: then the session is kept for a person to look at."""
    return repo.made(branch, announced.number, announced.commit) is True


async def _replay(names: Namespace, files: Files, change: Record) -> None:
    if isinstance(change, Put | Staged):
        place = await _parent(names, change.path)
        if place is None:
            log.warning("%r: its directory is gone, the change is passed over", change.path)
            return
        parent, name = place
        node = await names.child(parent, name)
        if isinstance(change, Put) and change.attributes:
            if node is not None and _can_be(node, change.entry):
                node.take_attributes(change.entry)
                names.changed(node)
            return
        if node is not None and not _can_be(node, change.entry):
            names.unlink(parent, name)
            node = None
        linked = names.links.of_group(change.entry.group) if change.entry.group else None
        if node is None and linked is not None:
            names.link(linked, parent, name, linked.group)
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
            await _take_staged(files, node, change)
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
        if target is not None and target is await names.child(*old):
            return
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


async def _take_staged(files: Files, node: FileNode, change: Staged) -> None:
    if not change.file:
        node.kind, node.content, node.finished_size = Kind.INLINE, b"", 0
        return
    entry = change.entry
    await files.take_back(
        node,
        Acknowledged(
            change.file, change.size, change.base_limit, change.present,
            entry.kind, entry.content, entry.size, None, 0,
        ),
    )  # fmt: skip


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
