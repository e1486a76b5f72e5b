"""The attributes of inodes as one mount shows them, whichever way the kernel is spoken to."""

from __future__ import annotations

from dataclasses import dataclass

from modelfs.repository.objects import Kind
from modelfs.vfs.nodes import Node
from modelfs.vfs.virtual import is_virtual

ROOT_INO = 1


@dataclass(slots=True)
class Shown:
    """Attributes of an inode. Times in nanoseconds; ``timeout``: seconds for which the kernel may keep them and the
    name; ``mode`` with the type bits; ``rdev`` as the kernel gave it when the node was made."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    mtime_ns: int
    atime_ns: int
    ctime_ns: int
    timeout: float


@dataclass(frozen=True, slots=True)
class Presentation:
    """What the mount shows instead of the stored owner and mode, and for how long the kernel may keep it.

    The kernel is never told to forget a name. That takes the lock of the directory, which whoever waits there for our
    answer holds: a daemon that is killed at that moment can neither answer nor die, and hangs everybody for good.
    """

    uid: int | None
    gid: int | None
    umask: int | None
    timeout: float  # seconds for names and attributes

    def show(self, node: Node) -> Shown:
        """The attributes of a node at this moment."""
        mode = node.mode if self.umask is None or node.kind is Kind.SYMLINK else node.mode & ~self.umask
        linked = node.parent is not None or node.ino == ROOT_INO
        return Shown(
            node.ino,
            node.type_bits | mode,
            node.links if linked else 0,
            node.uid if self.uid is None else self.uid,
            node.gid if self.gid is None else self.gid,
            int.from_bytes(node.content, "big") if node.kind in (Kind.CHAR, Kind.BLOCK) else 0,
            node.size,
            node.mtime_ns,
            node.mtime_ns if node.atime_ns is None else node.atime_ns,
            node.ctime_ns,
            0 if is_virtual(node.ino) else self.timeout,
        )
