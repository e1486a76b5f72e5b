"""The file system, without a kernel: what `modelfs.fuse` calls for each request.

Errors of use are OSError with the errno that POSIX gives; errors of the store and of integrity are `ModelfsError`
and leave the errno to the caller. Permission checks are the kernel's (mount option default_permissions).
The promises kept here are written in docs/consistency.md.
"""

from __future__ import annotations

import errno
import logging
import os
import stat as stat_module
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import trio

from modelfs import limits
from modelfs.journal.log import JournalLog
from modelfs.reader.file import FileReader
from modelfs.reader.source import ChunkSource
from modelfs.repository.objects import OWN_NAME, CommitRecord, Kind
from modelfs.store.base import Buffer
from modelfs.vfs.attributes import Attributes
from modelfs.vfs.commits import Committer
from modelfs.vfs.durability import Durability
from modelfs.vfs.files import Files
from modelfs.vfs.handles import FileHandle, HandleTable
from modelfs.vfs.inodes import Inodes, fail
from modelfs.vfs.journaling import Journal
from modelfs.vfs.ledger import NoLedger
from modelfs.vfs.listing import Listing
from modelfs.vfs.namespace import Namespace, check_name
from modelfs.vfs.nodes import DirNode, FileNode, Node, path_at, path_of
from modelfs.vfs.virtual import STATUS_INO, Virtual
from modelfs.writer.uploader import Uploader

log = logging.getLogger(__name__)

N = TypeVar("N", bound=Node)
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
_SPECIAL = {
    stat_module.S_IFIFO: Kind.FIFO,
    stat_module.S_IFSOCK: Kind.SOCKET,
    stat_module.S_IFCHR: Kind.CHAR,
    stat_module.S_IFBLK: Kind.BLOCK,
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: owner of what is created, and the file mode creation mask."""

    uid: int
    gid: int
    umask: int


@dataclass(frozen=True, slots=True)
class VfsOptions:
    """How one mount behaves."""

    branch: str
    read_only: bool
    refresh: float  # seconds; 0 asks the store at every lookup and open
    write_back: bool  # close and fsync return when the journal is durable
    history: bool  # a fixed commit is mounted: nothing to follow


def _allowed(node: Node, flags: int, caller: Caller) -> bool:
    """True for root, and for an owner who gave himself what the flags of an open ask for."""
    wanted = {os.O_RDONLY: 0o400, os.O_WRONLY: 0o200}.get(flags & os.O_ACCMODE, 0o600)
    if flags & os.O_TRUNC:
        wanted |= 0o200
    return caller.uid == 0 or (caller.uid == node.uid and node.mode & wanted == wanted)


class Vfs:
    """One mounted branch or commit. Use `run` as a nursery task, then call the operations."""

    def __init__(
        self,
        source: ChunkSource,
        uploader: Uploader,
        head: CommitRecord,
        options: VfsOptions,
        stage_dir: Path,
        log_file: JournalLog | None,
        nursery: trio.Nursery,
    ) -> None:
        self.options = options
        self.names = Namespace(source.repo, head.commit.root, self._detached)
        self.inodes = Inodes(self.names, read_only=options.read_only)
        self.committer = Committer(source.repo, options.branch, head, self.names)
        self.journal: Journal | None = None
        if log_file is not None:
            self.journal = Journal(log_file, stage_dir, self.names, head)
            self.committer.observer = self.journal
        self.files = Files(
            source,
            uploader,
            stage_dir,
            nursery,
            self._finished,
            lambda: self.committer.head.commit.root,
            self.journal or NoLedger(),
            write_back=options.write_back,
        )
        self.durability = Durability(
            self.names, self.files, self.committer, self.journal, nursery, write_back=options.write_back
        )
        self.uploader = uploader
        self.source = source
        self.virtual = Virtual(self.names, source, lambda: f"{options.branch}@{self.committer.head.number}")
        self.attributes = Attributes(self.names, self.inodes, self.files, self.virtual, self.committer, self._record)
        self.open_files: HandleTable[FileHandle] = HandleTable()
        self.open_dirs: HandleTable[Listing] = HandleTable()

    async def run(self) -> None:
        """Commit and follow in the background until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.names.expect_lookups)
            if not self.options.read_only:
                nursery.start_soon(self.durability.run)
                nursery.start_soon(self.committer.run_commits)
                nursery.start_soon(self.committer.run_informed)
            if not self.options.history and self.options.refresh > 0:
                interval = self.options.refresh * (1 - limits.KERNEL_CACHE_SHARE)
                nursery.start_soon(self.committer.run_refresh, interval)

    # -- finding ------------------------------------------------------------------------------------------------

    async def lookup(self, parent_ino: int, name: bytes) -> Node | None:
        """The node of a name, or None; with ``refresh`` 0 the store is asked first."""
        parent = self.inodes.dir(parent_ino)
        if len(name) > limits.NAME_MAX:
            fail(errno.ENAMETOOLONG)
        await self._ask_store()
        if name == b".":
            return parent
        if name == b"..":
            return parent.parent or parent
        if name == OWN_NAME and parent is self.names.root:
            return self.virtual.directory
        return await self.names.child(parent, name)

    async def _ask_store(self) -> None:
        if self.options.refresh == 0 and not self.options.history:
            await self.committer.refresh()

    async def find(self, path: bytes) -> Node:
        """The node at a path from the root, symbolic links not followed. For who asks beside the kernel: the node is
        not held."""
        node: Node = self.names.root
        for name in path.split(b"/"):
            if name in (b"", b"."):
                continue
            child = await self.names.child(node, name) if isinstance(node, DirNode) else None
            if child is None:
                fail(errno.ENOENT)
            node = child
        return node

    def forget(self, ino: int, count: int) -> None:
        """The kernel dropped ``count`` references to an inode."""
        node = self.names.nodes.get(ino)
        if node is not None:
            node.lookups -= count
            self.names.forget_if_unused(node)

    # -- directories --------------------------------------------------------------------------------------------

    async def opendir(self, ino: int) -> int:
        node = self.inodes.dir(ino)
        await self._ask_store()
        node.opens += 1
        return self.open_dirs.add(Listing(self.names, node, OWN_NAME))

    async def list_names(self, fh: int, start: int) -> Iterator[bytes]:
        """Names of an open directory from position ``start`` on."""
        return await self.open_dirs[fh].names_from(start)

    async def list_child(self, fh: int, name: bytes) -> Node | None:
        """The node of a listed name, if it is still there."""
        return await self.names.child(self.open_dirs[fh].node, name)

    def releasedir(self, fh: int) -> None:
        node = self.open_dirs.pop(fh).node
        node.opens -= 1
        # Nodes that only the listing made are dropped again.
        for child in [c for c in node.children.values() if c.lookups <= 0 and c.opens == 0]:
            self.names.forget_if_unused(child)
        self.names.forget_if_unused(node)

    async def mkdir(self, parent_ino: int, name: bytes, mode: int, caller: Caller) -> Node:
        return await self._make(parent_ino, name, Kind.DIRECTORY, mode, caller, b"")

    async def rmdir(self, parent_ino: int, name: bytes) -> None:
        self.inodes.changeable(parent_ino, name)
        parent = self.inodes.dir(parent_ino)
        while True:
            node = await self._existing(parent, name)
            if not isinstance(node, DirNode):
                fail(errno.ENOTDIR)
            if not await self.names.empty(node):
                fail(errno.ENOTEMPTY)
            if parent.children.get(name) is node:
                break
        self._unlink(parent, name)

    # -- names --------------------------------------------------------------------------------------------------

    async def symlink(self, parent_ino: int, name: bytes, target: bytes, caller: Caller) -> Node:
        if len(target) > limits.SYMLINK_MAX:
            fail(errno.ENAMETOOLONG)
        return await self._make(parent_ino, name, Kind.SYMLINK, 0o777, Caller(caller.uid, caller.gid, 0), target)

    def readlink(self, ino: int) -> bytes:
        node = self.inodes.node(ino)
        if node.kind is not Kind.SYMLINK:
            fail(errno.EINVAL)
        return node.content

    async def mknod(self, parent_ino: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Node:
        kind = _SPECIAL.get(stat_module.S_IFMT(mode))
        if kind is None:
            node = await self._make(parent_ino, name, Kind.INLINE, mode, caller, b"")
            assert isinstance(node, FileNode)
            node.exists_finished = True
            self._record(node)
            return node
        content = rdev.to_bytes(8, "big") if kind in (Kind.CHAR, Kind.BLOCK) else b""
        return await self._make(parent_ino, name, kind, mode, caller, content)

    async def _make(self, parent_ino: int, name: bytes, kind: Kind, mode: int, caller: Caller, content: bytes) -> Node:
        self.inodes.changeable(parent_ino, name)
        parent = self.inodes.dir(parent_ino)
        if await self.names.child(parent, check_name(name)) is not None:
            fail(errno.EEXIST)
        if not self._linked(parent):
            fail(errno.ENOENT)
        mode = mode & 0o7777 & ~caller.umask
        gid = caller.gid
        if parent.mode & stat_module.S_ISGID:
            gid = parent.gid
            if kind is Kind.DIRECTORY:
                mode |= stat_module.S_ISGID
        if kind is Kind.DIRECTORY:
            self._check_depth(parent)
        node = self.names.create(parent, name, kind, mode, caller.uid, gid, content)
        try:
            self._record(node)
        except OSError:  # the journal's disk is full
            self.names.unlink(parent, name)
            raise
        self.committer.poke()
        return node

    def _finished(self, node: FileNode) -> None:
        """A file has a new finished version: it is in the journal and in the next commit from now on."""
        self.names.changed(node)
        node.content_change = self.names.change
        try:
            self._record(node)
        except OSError as error:
            # It is in the store, and in the next commit; what was acknowledged before is in the journal already.
            log.error("%r: the journal has no room for its new version: %s", path_of(node), error)

    def _record(self, node: Node) -> None:
        if self.journal is not None:
            self.journal.put(node)

    def _check_depth(self, parent: DirNode) -> None:
        depth, at = 1, parent
        while at.parent is not None:
            at, depth = at.parent, depth + 1
        if depth >= limits.TREE_DEPTH_MAX:
            fail(errno.ENAMETOOLONG)

    async def unlink(self, parent_ino: int, name: bytes) -> None:
        self.inodes.changeable(parent_ino, name)
        parent = self.inodes.dir(parent_ino)
        if isinstance(await self._existing(parent, name), DirNode):
            fail(errno.EISDIR)
        self._unlink(parent, name)

    def _unlink(self, parent: DirNode, name: bytes) -> None:
        if self.journal is not None:
            self.journal.delete(path_at(parent, name))
        self.names.unlink(parent, name)
        self.committer.poke()

    async def link(self, ino: int, parent_ino: int, name: bytes) -> Node:
        """link(2): one more name of a file of any kind but a directory."""
        self.inodes.changeable(parent_ino, name)
        self.inodes.writable(ino)
        node, parent = self.inodes.node(ino), self.inodes.dir(parent_ino)
        if node.replaced:
            fail(errno.ESTALE)  # also while it is open: the path is that of another file by now
        if isinstance(node, DirNode):
            fail(errno.EPERM)
        await self.attributes.get(ino)
        if await self.names.child(parent, check_name(name)) is not None:
            fail(errno.EEXIST)
        if node.parent is None or not self._linked(parent):
            fail(errno.ENOENT)
        if node.links >= limits.LINK_MAX or self.names.root.linked >= limits.LINKED_NAMES_MAX:
            fail(errno.EMLINK)
        group = node.group or os.urandom(limits.LINK_GROUP)
        if self.journal is not None:
            self.journal.link(node, path_at(parent, name), group)
        self.names.link(node, parent, name, group)
        self.committer.poke()
        return node

    async def rename(self, parent_ino: int, name: bytes, new_parent_ino: int, new_name: bytes, flags: int) -> None:
        """rename(2) with RENAME_NOREPLACE and RENAME_EXCHANGE."""
        self.inodes.changeable(parent_ino, name)
        self.inodes.changeable(new_parent_ino, new_name)
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE):
            fail(errno.EINVAL)
        parent, new_parent = self.inodes.dir(parent_ino), self.inodes.dir(new_parent_ino)
        check_name(new_name)
        while True:
            node = await self._existing(parent, name)
            target = await self.names.child(new_parent, new_name)
            if flags & RENAME_EXCHANGE:
                if target is None:
                    fail(errno.ENOENT)
                self._no_loop(node, new_parent)
                self._no_loop(target, parent)
            else:
                await self._may_replace(node, target, new_parent, flags)
            if parent.children.get(name) is node and new_parent.children.get(new_name) is target:
                break
        if target is node:
            return
        exchange = bool(flags & RENAME_EXCHANGE)
        if self.journal is not None:
            self.journal.move(path_at(parent, name), path_at(new_parent, new_name), exchange=exchange)
        if exchange:
            self.names.exchange(parent, name, new_parent, new_name)
        else:
            if target is not None:
                self.names.unlink(new_parent, new_name)
            self.names.move(parent, name, new_parent, new_name)
        self.committer.poke()

    async def _may_replace(self, node: Node, target: Node | None, new_parent: DirNode, flags: int) -> None:
        if not self._linked(new_parent):
            fail(errno.ENOENT)
        self._no_loop(node, new_parent)
        if target is None or target is node:
            return
        if flags & RENAME_NOREPLACE:
            fail(errno.EEXIST)
        if isinstance(node, DirNode):
            if not isinstance(target, DirNode):
                fail(errno.ENOTDIR)
            if not await self.names.empty(target):
                fail(errno.ENOTEMPTY)
        elif isinstance(target, DirNode):
            fail(errno.EISDIR)

    def _no_loop(self, node: Node, new_parent: DirNode) -> None:
        if isinstance(node, DirNode):
            if new_parent.is_under(node):
                fail(errno.EINVAL)
            self._check_depth(new_parent)

    def _linked(self, node: DirNode) -> bool:
        return node is self.names.root or node.parent is not None

    async def _existing(self, parent: DirNode, name: bytes) -> Node:
        node = await self.names.child(parent, name)
        if node is None:
            fail(errno.ENOENT)
        return node

    def _detached(self, node: Node) -> None:
        if isinstance(node, FileNode) and node.opens == 0:
            self.files.discard(node)

    # -- files --------------------------------------------------------------------------------------------------

    async def create(self, parent_ino: int, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[FileNode, int]:
        """Create and open a file for reading and writing; without O_EXCL one that appeared meanwhile is opened."""
        try:
            node = await self._make(parent_ino, name, Kind.INLINE, mode, caller, b"")
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            found = await self.names.child(self.inodes.dir(parent_ino), name)
            # The kernel saw nobody's file, and so has not checked what may be done with it: for others than root and
            # the owner it has to look the path up again.
            if not isinstance(found, FileNode) or not _allowed(found, flags, caller):
                fail(errno.ESTALE)
            return found, await self.open(found.ino, flags)
        assert isinstance(node, FileNode)
        node.modified = True
        node.opens += 1
        node.writers += 1
        return node, self.open_files.add(FileHandle(node, writable=True))

    async def open(self, ino: int, flags: int) -> int:
        """Open a file; its bytes are those of this moment until this mount itself changes them."""
        node = self.inodes.node(ino)
        if isinstance(node, DirNode):
            fail(errno.EISDIR)
        if not isinstance(node, FileNode):
            fail(errno.ENXIO)
        writable = (flags & os.O_ACCMODE) != os.O_RDONLY
        if writable or flags & os.O_TRUNC:
            self.inodes.current(node)
            self.inodes.writable(ino)
        elif not node.exists_finished:
            self.inodes.current(node)
        # To be read, a version that was replaced since the kernel looked it up is as good as one opened before that;
        # where files are replaced all the time, the kernel would find each one replaced before it can open it.
        if ino == STATUS_INO:
            return self.open_files.add(FileHandle(await self.virtual.opened(), writable=False))
        node.opens += 1
        node.writers += writable
        try:
            if flags & os.O_TRUNC:
                await self.files.truncate(node, 0)
            elif node.state is None:
                await self.files.reader(node)
        except BaseException:
            node.opens -= 1
            node.writers -= writable
            raise
        return self.open_files.add(FileHandle(node, writable))

    def read_now(self, fh: int, offset: int, length: int) -> memoryview | None:
        """Bytes without waiting, or None; valid until the next call."""
        handle = self.open_files[fh]
        return self.files.read_now(handle.node, handle.readahead, offset, length)

    async def read(self, fh: int, offset: int, length: int) -> Buffer:
        handle = self.open_files[fh]
        return await self.files.read(handle.node, handle.readahead, offset, length)

    def whole(self, fh: int) -> FileReader | None:
        """The reader of an open file whose bytes are those of its finished version, and worth a file of their own.

        None: it was changed, it is short, or it has several names (who changes it would part them from readers that the
        kernel leads to the old inode by another name)."""
        node = self.open_files[fh].node
        if node.state is not None or node.modified or node.group or node.size < limits.PASSTHROUGH_MIN:
            return None
        return node.reader

    def part(self, ino: int) -> None:
        """Give the names of a file to a new inode with the same content, for who wants to change it while the old one
        is read without us. What has no name any more stays as it is."""
        node = self.names.nodes.get(ino)
        if isinstance(node, FileNode) and node.parent is not None and not node.busy():
            self.names.renew(node)
            self.committer.poke()

    async def write(self, fh: int, offset: int, data: Buffer) -> int:
        node = self.open_files[fh].node
        if offset + len(data) > limits.FILE_SIZE_MAX:
            fail(errno.EFBIG)
        return await self.files.write(node, offset, data)

    def write_now(self, fh: int, offset: int, data: Buffer) -> bool:
        """Write without waiting; False: `write` has to be called."""
        if offset + len(data) > limits.FILE_SIZE_MAX:
            return False
        return self.files.write_now(self.open_files[fh].node, offset, data)

    async def flush(self, fh: int) -> None:
        """close() of one descriptor: when it returns, what was written is durable (see `Durability`)."""
        handle = self.open_files[fh]
        if handle.writable and handle.node.written and not handle.published:
            await self.durability.file(handle.node)
            handle.published = True

    async def fsync(self, fh: int) -> None:
        """What was written to the file, and its name, are durable when it returns."""
        handle = self.open_files[fh]
        if handle.node.parent is not None:
            await self.durability.file(handle.node)

    async def fsyncdir(self, fh: int) -> None:
        """Every finished change of the mount is durable when it returns."""
        await self.durability.everything()

    async def release(self, fh: int) -> None:
        """The last descriptor of a handle is gone: what is still dirty is finished in the background."""
        handle = self.open_files.pop(fh)
        node = handle.node
        self.files.complete_if_wanted(node)
        node.opens -= 1
        node.writers -= handle.writable
        if node.parent is None:
            if node.opens == 0:
                self.files.discard(node)
        elif node.modified:
            if node.writers == 0:
                if node.state is not None and node.state.failed is not None:
                    if not await self.durability.give_up(node, node.state.failed):
                        for parent, name in list(node.places()):
                            self._unlink(parent, name)
                else:
                    self.committer.poke()
                    self.durability.later(node)
        elif handle.writable and node.writers == 0:
            await self.names.resume(node)
        if node.opens == 0:
            await self.files.release(node)
            self.names.forget_if_unused(node)
