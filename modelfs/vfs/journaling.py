"""Writes the journal of a mount: each change as it happens, and after a commit only what the commit did not carry.

A change is in the log before its request is answered (so it survives the daemon), and on the disk after `sync` (so it
survives the machine). The log is rewritten when a commit has made most of it worthless.

What a close or fsync acknowledged under --write-back stays as it was until it is in the store or replaced by what a
later one acknowledged: its record holds no byte that was not synced, and `preserve` copies it away before the local
file is changed in place.
"""

from __future__ import annotations

import logging
import os
import uuid
from dataclasses import replace
from pathlib import Path

import trio

from modelfs import limits
from modelfs.journal.log import (
    Announce,
    Begin,
    Change,
    Committed,
    Delete,
    JournalLog,
    Link,
    Mark,
    Move,
    Opened,
    Put,
    Staged,
    sync_directory,
)
from modelfs.repository.objects import CommitRecord, Kind
from modelfs.vfs.ledger import Acknowledged
from modelfs.vfs.namespace import Namespace
from modelfs.vfs.nodes import FileNode, Node, path_at, path_of

log = logging.getLogger(__name__)


class Journal:
    """The journal of one writing mount, and the ledger of its local files."""

    def __init__(self, log: JournalLog, stage_dir: Path, names: Namespace, head: CommitRecord) -> None:
        self._log = log
        self._stage_dir = stage_dir
        self._names = names
        self._branch = head.branch
        self._waiting: list[tuple[int, Change]] = []  # (number of the change, its record), not yet in a commit
        self._acknowledged: dict[FileNode, Acknowledged] = {}  # contents that are only here
        self._marks = 0
        self._carried = 0  # number of the newest change that is known to be in the store
        self._files: dict[str, Acknowledged] = {}  # local files that the log on the disk may need, and what of them
        self._io = trio.CapacityLimiter(1)
        log.append(Begin(head.branch, head.number))

    # -- names and attributes -----------------------------------------------------------------------------------

    def put(self, node: Node) -> None:
        """A node that is finished came to be or changed. OSError (ENOSPC): it is not in the log."""
        if node.parent is None:
            return
        if isinstance(node, FileNode) and (content := self.acknowledged(node)) is not None:
            self._say(node, content)  # only its attributes changed
            return
        entry = node.entry()
        if entry is not None:
            self._add(Put(path_of(node), entry, attributes=node.content_change <= self._carried))
            for record in _further_names(node):
                self._add(record)
        if isinstance(node, FileNode):
            self._acknowledged.pop(node, None)

    def link(self, node: Node, new: bytes, group: bytes) -> None:
        """A file will get one more name, before anything else happens. OSError as `delete`."""
        self._add(Link(path_of(node), new, group), ahead=1)

    def delete(self, path: bytes) -> None:
        """A name will be gone, before anything else happens. OSError (ENOSPC): it is not in the log."""
        self._add(Delete(path), ahead=1)

    def move(self, old: bytes, new: bytes, *, exchange: bool) -> None:
        """An entry will be renamed, before anything else happens. OSError as `delete`."""
        self._add(Move(old, new, exchange), ahead=1)

    def _add(self, record: Change, ahead: int = 0) -> None:
        self._log.append(record)
        self._waiting.append((self._names.change + ahead, record))

    # -- local files --------------------------------------------------------------------------------------------

    def opened(self, node: FileNode) -> None:
        """The node has a new local file, or less of its base shows through: so people are told, should it be left over
        by a crash."""
        if (record := self._opened_record(node)) is None:
            return
        try:
            self._log.append(record)
        except OSError as error:
            log.warning("%r: a crash would leave it without its name: %s", path_of(node), error)

    def _opened_record(self, node: FileNode) -> Opened | None:
        if node.state is None or node.parent is None:
            return None
        staged = node.state.staged
        entry = node.entry() or node.entry_with(Kind.INLINE, b"", 0)
        return Opened(path_of(node), entry, staged.path.name, staged.base_limit if staged.base is not None else 0)

    def acknowledge(self, node: FileNode, content: Acknowledged) -> None:
        """A close or fsync is about to acknowledge this content, whose bytes are on the disk; `sync` must follow.

        OSError (ENOSPC, EIO) when the disk does not take the record.
        """
        if node.parent is None or content.covered_by(node):
            return
        self._take(node, content)

    def _take(self, node: FileNode, content: Acknowledged) -> None:
        self._say(node, content)
        self._acknowledged[node] = content
        if content.file:
            self._files[content.file] = content

    def _say(self, node: FileNode, content: Acknowledged) -> None:
        for record in _records(node, content):
            self._log.append(record)

    def acknowledged(self, node: FileNode) -> Acknowledged | None:
        """What was acknowledged of a file and is only on this machine."""
        content = self._acknowledged.get(node)
        return None if content is None or content.covered_by(node) else content

    async def sync_acknowledged(self) -> None:
        """`sync`; then the local files of contents that have successors by now are let go. OSError."""
        unneeded = self._unneeded()
        await self.sync()
        await self._let_go(unneeded)

    def speaks_of(self, path: Path) -> bool:
        """True when a record that counts names this local file."""
        return path.name in self._files

    def guards(self, node: FileNode, start: int, end: int) -> bool:
        """True when changing ``[start, end)`` of the node's local file would damage what was acknowledged."""
        if node.state is None:
            return False
        content = self._files.get(node.state.staged.path.name)
        return content is not None and content.touched_by(start, end)

    async def preserve(self, node: FileNode) -> None:
        """Let the node's local file be changed: what was acknowledged of it is copied to a file of its own, if it has
        no successor. OSError: it stays where it is. The caller lets no write begin meanwhile."""
        assert node.state is not None
        name = node.state.staged.path.name
        content = self._files[name]
        if self._acknowledged.get(node) is content and not content.covered_by(node):
            copy = replace(content, file=uuid.uuid4().hex)
            await trio.to_thread.run_sync(_copy, content, self._stage_dir, copy.file, limiter=self._io)
            if self._acknowledged.get(node) is content and node.parent is not None:
                self._take(node, copy)
            else:  # finished or unlinked meanwhile
                await trio.to_thread.run_sync(_unlink, [self._stage_dir / copy.file], limiter=self._io)
        self.opened(node)  # the local file is one that is being written from now on
        await self.sync()
        if self._files.get(name) is content:
            del self._files[name]

    async def sync(self) -> None:
        """Everything recorded so far is on the disk when this returns."""
        await trio.to_thread.run_sync(self._log.sync, limiter=self._io)

    # -- commits ------------------------------------------------------------------------------------------------

    def snapshot_taken(self) -> None:
        """A commit is being made of all that is finished; what is not finished is said again behind the mark."""
        self._marks += 1
        self._log.append(Mark(self._marks))
        for record in self._again():
            self._log.append(record)

    def _again(self) -> list[Change]:
        """Acknowledged contents that no finished version covers; the others are forgotten."""
        for node, content in list(self._acknowledged.items()):
            if node.parent is None or content.covered_by(node):
                del self._acknowledged[node]
        return [record for node, content in self._acknowledged.items() for record in _records(node, content)]

    def announce(self, record: CommitRecord) -> None:
        """The commit of the last snapshot is about to be written. Called from a worker thread.

        On the disk before the commit is made: a log that lost this and kept what is above it would be replayed on the
        old commit, and undo what came after.
        """
        self._log.append(Announce(self._marks, record.number, record.id))
        self._log.sync()

    async def committed(self, record: CommitRecord, change: int) -> None:
        """Changes up to number ``change`` are in a commit: only what came later stays in the journal."""
        self._carried = max(self._carried, change)
        self._waiting = [(number, kept) for number, kept in self._waiting if number > change]
        keep: list[Change | Opened] = [*(kept for _, kept in self._waiting), *self._again()]
        unneeded = self._unneeded()
        busy = {node.state.staged.path.name: node for node in self._busy() if node.state is not None}
        # The log says of a file that is still being written that it is, behind the commit that settled it.
        restated = busy if self._log.size() > limits.JOURNAL_REWRITE else unneeded & busy.keys()
        keep += [one for name in sorted(restated) if (one := self._opened_record(busy[name])) is not None]
        try:
            if self._log.size() > limits.JOURNAL_REWRITE:
                self._log.restart([Begin(self._branch, record.number), *keep])
            else:
                self._log.append(Committed(record.number, tuple(keep)))
                if keep or unneeded:
                    await self.sync()
        except OSError as error:
            # The commit is there. Until the next one, a crash would make its changes again, with the same result.
            log.error("the journal did not take note of commit %d: %s", record.number, error)
            return
        await self._let_go(unneeded)

    def followed(self, record: CommitRecord) -> None:
        """Changes from here on are made to what this commit of others shows. (Those that wait were made to an older
        one, and keep it.)"""
        if self._waiting or self._acknowledged or self._log.size() > limits.JOURNAL_REWRITE:
            return
        try:
            self._log.append(Committed(record.number, ()))
        except OSError as error:
            log.error("the journal did not take note of commit %d: %s", record.number, error)

    def _busy(self) -> list[FileNode]:
        nodes = self._names.nodes.values()
        return [node for node in nodes if isinstance(node, FileNode) and node.state is not None]

    def _unneeded(self) -> set[str]:
        """Local files that no record needs which is in the log now."""
        return self._files.keys() - {content.file for content in self._acknowledged.values()}

    async def _let_go(self, unneeded: set[str]) -> None:
        """The log on the disk does not need these any more. Those still in use are removed by their users."""
        unneeded &= self._unneeded()  # the same file may have been acknowledged again in the meantime
        for name in unneeded:
            del self._files[name]
        doomed = unneeded - {node.state.staged.path.name for node in self._busy() if node.state is not None}
        if doomed:
            await trio.to_thread.run_sync(_unlink, [self._stage_dir / name for name in doomed], limiter=self._io)

    def close(self) -> None:
        """Close the log file."""
        self._log.close()


def _unlink(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _copy(content: Acknowledged, stage: Path, name: str) -> None:
    """Copy the present ranges to a new synced file; where the file system can, the blocks are shared."""
    target = stage / name
    source_fd = os.open(stage / content.file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for start, end in content.present:
                while start < end:
                    copied = os.copy_file_range(source_fd, target_fd, end - start, start, start)
                    if not copied:
                        raise OSError(f"{content.file} is shorter than what was acknowledged of it")
                    start += copied
            os.fsync(target_fd)
        except OSError:
            target.unlink()
            raise
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)
    sync_directory(stage)


def _records(node: FileNode, content: Acknowledged) -> list[Change]:
    """What says of an acknowledged content under which names, and with which attributes, its file is there now."""
    entry = node.entry_with(content.kind, content.content, content.finished_size)
    staged = Staged(path_of(node), entry, content.file, content.size, content.base_limit, content.present)
    return [staged, *_further_names(node)]


def _further_names(node: Node) -> list[Link]:
    """The names of a linked file but for the first. They are said with each version of it: when it got them, there may
    have been nothing that could have been replayed."""
    first = path_of(node)
    return [Link(first, path_at(parent, name), node.group) for parent, name in node.others]
