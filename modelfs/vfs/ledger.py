"""What `Files` asks the journal about the local files of staged changes.

`modelfs.vfs.journaling.Journal` is the ledger of a writing mount; a replay keeps everything, and a read-only mount has
nothing to note.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modelfs.repository.objects import Kind
from modelfs.vfs.nodes import FileNode
from modelfs.writer.staging import StagedFile


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Content of a file that a close or fsync has acknowledged, and that is only on this machine.

    ``file`` is its local file ("" for an empty one); what is not ``present`` there shows the version (kind, content,
    finished_size) through, below ``base_limit``. ``staged`` and ``generation`` say which finish covers it.
    """

    file: str
    size: int
    base_limit: int
    present: tuple[tuple[int, int], ...]
    kind: Kind
    content: bytes
    finished_size: int
    staged: StagedFile | None
    generation: int

    def covered_by(self, node: FileNode) -> bool:
        """True when the node's finished version is this one or a later one."""
        if not node.modified:
            return True
        state = node.state
        if state is None:
            return False
        return state.finished >= (self.generation if state.staged is self.staged else 0)

    def touched_by(self, start: int, end: int) -> bool:
        """True when a change of ``[start, end)`` in the same local file would damage it."""
        return any(a < end and start < b for a, b in self.present)


def acknowledge(node: FileNode) -> Acknowledged:
    """The node's content at this moment, which no write may be changing."""
    finished = (node.kind, node.content, node.finished_size) if node.exists_finished else (Kind.INLINE, b"", 0)
    state = node.state
    if state is None:
        return Acknowledged("", 0, 0, (), *finished, None, 0)
    staged = state.staged
    base_limit = staged.base_limit if staged.base is not None else 0
    return Acknowledged(
        staged.path.name, staged.size, base_limit, tuple(staged.present), *finished, staged, staged.generation
    )


class Ledger(Protocol):
    """Who keeps account of local files."""

    def opened(self, node: FileNode) -> None:
        """The node has a new local file, or less of its base shows through. OSError when the disk is full."""

    def speaks_of(self, path: Path) -> bool:
        """True when a record that counts names this local file: it must stay as it is."""

    def guards(self, node: FileNode, start: int, end: int) -> bool:
        """True when changing ``[start, end)`` of the node's local file would damage what was acknowledged."""

    async def preserve(self, node: FileNode) -> None:
        """Put what was acknowledged elsewhere, so that the local file may be changed. OSError."""

    async def sync(self) -> None:
        """Everything recorded so far is on the disk when this returns."""


class NoLedger:
    """Nothing is noted and nothing is kept."""

    def opened(self, node: FileNode) -> None:
        """Nobody asks."""

    def speaks_of(self, path: Path) -> bool:
        return False

    def guards(self, node: FileNode, start: int, end: int) -> bool:
        return False

    async def preserve(self, node: FileNode) -> None:
        """Nothing to preserve."""

    async def sync(self) -> None:
        """Nothing to sync."""


class KeepAll(NoLedger):
    """During a replay: every local file stays until its session is closed, so that a replay can be tried again."""

    def speaks_of(self, path: Path) -> bool:
        return True
