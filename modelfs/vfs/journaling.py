"""Writes the journal of a mount: each change as it happens, and after a commit only what the commit did not carry.

A change is in the log before its request is answered (so it survives the daemon), and on the disk after `sync` (so it
survives the machine). The log is rewritten when a commit has made most of it worthless.
"""

from __future__ import annotations

from pathlib import Path

import trio

from modelfs import limits
from modelfs.journal.log import Announce, Begin, Committed, Delete, JournalLog, Mark, Move, Put, Record, Staged
from modelfs.repository.objects import CommitRecord, Kind
from modelfs.vfs.namespace import Namespace
from modelfs.vfs.nodes import FileNode, Node, path_of


class Journal:
    """The journal of one writing mount."""

    def __init__(self, log: JournalLog, stage_dir: Path, names: Namespace, head: CommitRecord) -> None:
        self._log = log
        self._stage_dir = stage_dir
        self._names = names
        self._branch = head.branch
        self._waiting: list[tuple[int, Record]] = []  # (number of the change, its record), not yet in a commit
        self._staged: dict[FileNode, Staged] = {}  # closed files whose bytes are only here
        self._marks = 0
        self._files: set[str] = set()  # files of the staging directory that the log speaks of
        self._io = trio.CapacityLimiter(1)
        log.append(Begin(head.branch, head.number))

    def put(self, node: Node) -> None:
        """A node that is finished came to be or changed."""
        entry = node.entry()
        if entry is not None and node.parent is not None:
            self._add(Put(path_of(node), entry))

    def delete(self, path: bytes) -> None:
        """A name is gone."""
        self._add(Delete(path))

    def move(self, old: bytes, new: bytes, *, exchange: bool) -> None:
        """An entry was renamed."""
        self._add(Move(old, new, exchange))

    def _add(self, record: Record) -> None:
        self._waiting.append((self._names.change, record))
        self._log.append(record)

    async def stage(self, node: FileNode) -> None:
        """Make a closed file durable on this machine: its name and everything before it. Its bytes are already.

        OSError (ENOSPC, EIO) when the disk does not take it.
        """
        record = _staged_record(node)
        if record is not None:
            self._staged[node] = record
            self._files.add(record.file)
            self._log.append(record)
        await self.sync()

    def speaks_of(self, name: str) -> bool:
        """True when a record that counts names this file of the staging directory."""
        return name in self._files

    async def sync(self) -> None:
        """Everything recorded so far is on the disk when this returns."""
        await trio.to_thread.run_sync(self._log.sync, limiter=self._io)

    def staged_files(self) -> int:
        """Closed files that wait for their upload."""
        return len(self._staged)

    def snapshot_taken(self) -> None:
        """A commit is being made of all that is finished; what is not finished is said again behind the mark."""
        self._marks += 1
        self._log.append(Mark(self._marks))
        for node in self._staged:
            if (again := _staged_record(node)) is not None:
                self._log.append(again)

    def announce(self, record: CommitRecord) -> None:
        """The commit of the last snapshot is about to be written. Called from a worker thread."""
        self._log.append(Announce(self._marks, record.number, record.id))

    async def committed(self, record: CommitRecord, change: int) -> None:
        """Changes up to number ``change`` are in a commit: only what came later stays in the journal."""
        self._waiting = [(number, kept) for number, kept in self._waiting if number > change]
        for node in list(self._staged):
            again = _staged_record(node)
            if again is None:
                del self._staged[node]
            else:
                self._staged[node] = again
        keep = [*(kept for _, kept in self._waiting), *self._staged.values()]
        spoken_of, self._files = self._files, {staged.file for staged in self._staged.values()}
        if self._log.size() > limits.JOURNAL_REWRITE:
            self._log.restart([Begin(self._branch, record.number), *keep])
        else:
            for kept in (Committed(record.number), *keep):
                self._log.append(kept)
            if keep or spoken_of:
                await self.sync()
        # Only now does no record that survives a crash need them. Those still in use are removed by their users.
        doomed = [self._stage_dir / name for name in spoken_of - self._files if name and not self._in_use(name)]
        if doomed:
            await trio.to_thread.run_sync(_remove, doomed, limiter=self._io)

    def _in_use(self, name: str) -> bool:
        return any(
            isinstance(node, FileNode) and node.state is not None and node.state.staged.path.name == name
            for node in self._names.nodes.values()
        )

    def close(self) -> None:
        """Close the log file."""
        self._log.close()


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _staged_record(node: FileNode) -> Staged | None:
    """What the journal says of a closed file that is not finished; None when it is finished or unlinked."""
    if node.parent is None or not node.modified:
        return None
    entry = node.entry() or node.entry_with(Kind.INLINE, b"", 0)
    state = node.state
    if state is None:
        return Staged(path_of(node), entry, "", 0, 0, ())
    staged = state.staged
    base_limit = staged.base_limit if staged.base is not None else 0
    return Staged(path_of(node), entry, staged.path.name, staged.size, base_limit, tuple(staged.present))
