"""Attributes of files and directories, extended ones included."""

from __future__ import annotations

import errno
import stat as stat_module
import time
from collections.abc import Callable

from modelfs import limits
from modelfs.repository.objects import Kind
from modelfs.vfs.commits import Committer
from modelfs.vfs.files import Files
from modelfs.vfs.inodes import Inodes, fail
from modelfs.vfs.namespace import Namespace
from modelfs.vfs.nodes import DirNode, FileNode, Node
from modelfs.vfs.virtual import Virtual, settable


class Attributes:
    """Reads and changes them; ``record`` tells the journal. Each method raises OSError."""

    def __init__(
        self,
        names: Namespace,
        inodes: Inodes,
        files: Files,
        virtual: Virtual,
        committer: Committer,
        record: Callable[[Node], None],
    ) -> None:
        self._names = names
        self._inodes = inodes
        self._files = files
        self._virtual = virtual
        self._committer = committer
        self._record = record

    async def get(self, ino: int) -> Node:
        """The node of an inode number, with all that its attributes depend on."""
        node = self._inodes.node(ino)
        if node.group and not self._names.links.complete():
            await self._names.links.load()
        return node

    async def setattr(
        self,
        ino: int,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
    ) -> Node:
        """Change what is given. A truncation of a file that nobody has open for writing is a version by itself."""
        self._inodes.writable(ino)
        node = self._inodes.current(self._inodes.node(ino))
        if size is not None:
            if not isinstance(node, FileNode):
                fail(errno.EISDIR if isinstance(node, DirNode) else errno.EINVAL)
            if size > limits.FILE_SIZE_MAX:
                fail(errno.EFBIG)
            await self._files.truncate(node, size)
        before = (node.mode, node.uid, node.gid, node.mtime_ns)
        if mode is not None:
            node.mode = mode & 0o7777
        if uid is not None or gid is not None:
            node.uid = node.uid if uid is None else uid
            node.gid = node.gid if gid is None else gid
            if isinstance(node, FileNode) and mode is None:
                node.mode &= ~stat_module.S_ISUID
                if node.mode & stat_module.S_IXGRP:
                    node.mode &= ~stat_module.S_ISGID
        if atime_ns is not None:
            node.atime_ns = atime_ns
        if mtime_ns is not None:
            node.mtime_ns = mtime_ns
        if before != (node.mode, node.uid, node.gid, node.mtime_ns):
            self._names.changed(node)
            self._record(node)
        node.ctime_ns = time.time_ns()
        self._committer.poke()
        return node

    async def getxattr(self, ino: int, name: bytes) -> bytes:
        node = self._inodes.node(ino)
        value = node.xattrs.get(name)
        if value is None:
            value = await self._virtual.attribute(node, name)
        if value is None:
            fail(errno.ENODATA)
        return value

    def listxattr(self, ino: int) -> list[bytes]:
        return sorted(self._inodes.node(ino).xattrs)

    def setxattr(self, ino: int, name: bytes, value: bytes) -> None:
        """Set a ``user.`` attribute; other namespaces are not stored, nor what the mount says by itself."""
        self._inodes.writable(ino)
        node = self._inodes.current(self._inodes.node(ino))
        if not settable(name):
            fail(errno.EPERM)
        if not name.startswith(b"user."):
            fail(errno.EOPNOTSUPP)
        if node.kind not in (Kind.FILE, Kind.INLINE, Kind.DIRECTORY):
            fail(errno.EPERM)
        if len(name) > limits.NAME_MAX:
            fail(errno.ERANGE)
        others = sum(len(k) + len(v) for k, v in node.xattrs.items() if k != name)
        if len(value) > limits.XATTR_VALUE_MAX:
            fail(errno.E2BIG)
        if others + len(name) + len(value) > limits.XATTR_TOTAL_MAX:
            fail(errno.ENOSPC)
        node.xattrs[name] = value
        self._attribute_changed(node)

    def removexattr(self, ino: int, name: bytes) -> None:
        self._inodes.writable(ino)
        node = self._inodes.current(self._inodes.node(ino))
        if node.xattrs.pop(name, None) is None:
            fail(errno.ENODATA)
        self._attribute_changed(node)

    def _attribute_changed(self, node: Node) -> None:
        node.ctime_ns = time.time_ns()
        self._names.changed(node)
        self._record(node)
        self._committer.poke()
