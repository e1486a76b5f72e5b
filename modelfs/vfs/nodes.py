"""The inodes of one mount: what is known of each path that the kernel or a change holds on to.

A `Node` belongs to the tree through ``parent`` and ``name`` (both empty once it is unlinked), a linked file through
``others`` as well; everything that is dirty belongs to the node, never to a path. Plain data with small invariants;
`namespace` moves it about.
"""

from __future__ import annotations

import stat as stat_module
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import trio

from modelfs.ids import TreeId
from modelfs.reader.file import FileReader
from modelfs.repository.objects import Entry, Kind
from modelfs.writer.uploader import UploadState

_TYPE_BITS = {
    Kind.FILE: stat_module.S_IFREG,
    Kind.INLINE: stat_module.S_IFREG,
    Kind.DIRECTORY: stat_module.S_IFDIR,
    Kind.SYMLINK: stat_module.S_IFLNK,
    Kind.FIFO: stat_module.S_IFIFO,
    Kind.SOCKET: stat_module.S_IFSOCK,
    Kind.CHAR: stat_module.S_IFCHR,
    Kind.BLOCK: stat_module.S_IFBLK,
}


@dataclass(eq=False, slots=True)
class Node:
    """One inode. Times are nanoseconds since the epoch; ``mode`` holds permission bits only."""

    ino: int
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    xattrs: dict[bytes, bytes]
    parent: DirNode | None
    name: bytes
    content: bytes = b""  # as in Entry, for the kinds that carry something
    content_change: int = 0  # number of the change that gave it its content here; 0: it came with the tree
    lookups: int = 0  # references that the kernel holds
    opens: int = 0
    replaced: bool = False  # another mount has put something else at its path
    group: bytes = b""  # as in Entry
    others: tuple[Place, ...] = ()  # further names of a linked file
    atime_ns: int | None = None  # set by utimens and kept while mounted; None: as mtime. Reads do not move it.

    @property
    def type_bits(self) -> int:
        """S_IF* of the node."""
        return _TYPE_BITS[self.kind]

    @property
    def size(self) -> int:
        """st_size in bytes."""
        return len(self.content) if self.kind is Kind.SYMLINK else 0

    @property
    def links(self) -> int:
        """st_nlink while the node has a name."""
        return 1 + len(self.others)

    def places(self) -> Iterator[Place]:
        """The directories and names that the node has: none for the root, and none once it is unlinked."""
        if self.parent is not None:
            yield self.parent, self.name
            yield from self.others

    def entry(self) -> Entry | None:
        """The tree entry that a commit made now would carry; None while there is no finished content. It has the
        node's first name."""
        return self.entry_with(self.kind, self.content, self.size)

    def entry_with(self, kind: Kind, content: bytes, size: int) -> Entry:
        """A tree entry of this node's first name and attributes with the given content."""
        xattrs = tuple(sorted(self.xattrs.items()))
        attributes = (self.mode, self.uid, self.gid, self.mtime_ns)
        return Entry(self.name, kind, *attributes, size, content, xattrs, self.group)

    def take_attributes(self, entry: Entry) -> None:
        """Take over owner, mode, mtime and xattrs from a tree entry."""
        new = (entry.mode, entry.uid, entry.gid, entry.mtime_ns, dict(entry.xattrs))
        if new == (self.mode, self.uid, self.gid, self.mtime_ns, self.xattrs):
            return
        self.mode, self.uid, self.gid, self.mtime_ns, self.xattrs = new
        self.ctime_ns = time.time_ns()

    def busy(self) -> bool:
        """True when this mount has changes to its content, or a handle that may yet change it."""
        return False


@dataclass(eq=False, slots=True)
class Changes(UploadState):
    """Staged changes of a file, the version under them, and how many tasks work on them at this moment."""

    base: FileReader | None = None
    users: int = 0
    retired: bool = False  # no node's any more: gone with the last user
    keep: bool = False  # the local file stays when they go
    writing: int = 0  # writes on their way to the local file
    quiet: trio.Event = field(default_factory=trio.Event)  # set whenever a write has come to its end
    sealed: trio.Event | None = None  # set when the local file may be written again; until then no writes begin
    finished: int = -1  # generation of the newest finished version
    named: bool = False  # its name in the staging directory is on the disk
    failed: OSError | None = None  # a write went wrong: what is here is no content that anybody wanted


@dataclass(eq=False, slots=True)
class FileNode(Node):
    """A regular file: a finished content, and perhaps staged changes over it."""

    finished_size: int = 0
    exists_finished: bool = True  # False: created here and no version of it is finished yet
    state: Changes | None = None
    modified: bool = False  # changed since the last finish (also: created and never finished)
    written: bool = False  # some handle wrote or truncated since the last finish
    writers: int = 0  # handles open for writing
    reader: FileReader | None = None
    finishing: int = 0
    # What another mount has put at the path, or that it removed it, while a writer here keeps our version open: a
    # commit that is only about attributes must not bring ours back.
    theirs: Entry | None = None
    removed: bool = False
    covers: bool = False  # made where something was renamed or unlinked that the committed tree still has

    @property
    def size(self) -> int:
        return self.state.staged.size if self.state is not None else self.finished_size

    def entry(self) -> Entry | None:
        if not self.exists_finished or self.removed:
            return None
        if self.theirs is not None:
            theirs = self.entry_with(self.theirs.kind, self.theirs.content, self.theirs.size)
            return msgspec.structs.replace(theirs, mtime_ns=self.theirs.mtime_ns)
        return self.entry_with(self.kind, self.content, self.finished_size)

    def busy(self) -> bool:
        return self.modified or self.writers > 0 or self.state is not None


@dataclass(eq=False, slots=True)
class DirNode(Node):
    """A directory: a committed tree, the children looked at or changed here, and which names changed."""

    tree: TreeId = field(default=TreeId(b""))
    linked: int = 0  # as in Entry, of ``tree``
    children: dict[bytes, Node] = field(default_factory=dict)
    dirty: dict[bytes, int] = field(default_factory=dict)  # name -> number of the change
    dirty_below: set[bytes] = field(default_factory=set)  # child directories with something dirty in them
    subdirs: set[bytes] | None = None  # names of the directories in it; None until somebody has listed it

    def entry(self) -> Entry | None:
        return msgspec.structs.replace(self.entry_with(Kind.DIRECTORY, self.tree, 0), linked=self.linked)

    def note_kind(self, name: bytes, *, directory: bool) -> None:
        """``name`` is a directory now, or is not."""
        if self.subdirs is not None:
            (self.subdirs.add if directory else self.subdirs.discard)(name)

    @property
    def links(self) -> int:
        """st_nlink: 2 and one for each subdirectory; 1, which tells programs nothing, while that is not known."""
        return 1 if self.subdirs is None else 2 + len(self.subdirs)

    def clean(self) -> bool:
        """True when nothing in or below this directory waits for a commit."""
        return not self.dirty and not self.dirty_below

    def is_under(self, ancestor: DirNode) -> bool:
        """True when ``ancestor`` is this directory or above it."""
        node: DirNode | None = self
        while node is not None:
            if node is ancestor:
                return True
            node = node.parent
        return False


Place = tuple[DirNode, bytes]  # a directory and a name in it


def path_at(parent: DirNode, name: bytes) -> bytes:
    """The path of a name from the root."""
    above = path_of(parent)
    return above + b"/" + name if above else name


def path_of(node: Node) -> bytes:
    """The node's path from the root, the first of a linked file (b"" for the root, its last name when unlinked)."""
    parts: list[bytes] = []
    at: Node | None = node
    while at is not None and at.name:
        parts.append(at.name)
        at = at.parent
    return b"/".join(reversed(parts))
