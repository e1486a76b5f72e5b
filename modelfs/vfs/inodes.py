"""The nodes that requests name by inode number, and which of them may be changed."""

from __future__ import annotations

import errno
import os
from typing import NoReturn, TypeVar

from modelfs.repository.objects import OWN_NAME
from modelfs.vfs.namespace import Namespace
from modelfs.vfs.nodes import DirNode, Node
from modelfs.vfs.virtual import is_virtual

N = TypeVar("N", bound=Node)


def fail(code: int) -> NoReturn:
    """Raise OSError with its usual text."""
    raise OSError(code, os.strerror(code))


class Inodes:
    """What a mount's requests may be about. Each method raises OSError with the errno that POSIX gives."""

    def __init__(self, names: Namespace, *, read_only: bool) -> None:
        self._names = names
        self._read_only = read_only

    def node(self, ino: int) -> Node:
        """The node of an inode number that the kernel holds."""
        node = self._names.nodes.get(ino)
        if node is None:
            fail(errno.ESTALE)
        return node

    def dir(self, ino: int) -> DirNode:
        """The directory of an inode number."""
        node = self.node(ino)
        if not isinstance(node, DirNode):
            fail(errno.ENOTDIR)
        return self.current(node)

    def current(self, node: N) -> N:
        """The node, unless the kernel remembers one that another mount has replaced: it looks the path up again then.
        What would be done to it would be done to nothing that has a name."""
        if node.replaced and node.opens == 0:
            fail(errno.ESTALE)
        return node

    def writable(self, ino: int) -> None:
        """Fail when nobody may change this inode."""
        if self._read_only:
            fail(errno.EROFS)
        if is_virtual(ino):
            fail(errno.EPERM)

    def changeable(self, parent_ino: int, name: bytes) -> None:
        """Fail when nobody may make, take away or replace that name."""
        self.writable(parent_ino)
        if name == OWN_NAME and parent_ino == self._names.root.ino:
            fail(errno.EPERM)
