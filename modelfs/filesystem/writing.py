"""Files that are being written: drafts beside their path until they are published, or changed in place.

A draft is a file without a visible name. It takes its name when it is closed, and goes into the store with it in one
commit, so a path has its old content or its new one and never half of it, in this process too. The draft's own name can
be seen in one place only: the journal that a crash leaves behind (`modelfs journal ls`).
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from modelfs import limits
from modelfs.concurrency import together
from modelfs.vfs.inodes import fail
from modelfs.vfs.nodes import DirNode, FileNode, Node, path_at
from modelfs.vfs.vfs import RENAME_NOREPLACE, Caller, Vfs
from modelfs.writer.bases import BASE_ATTRIBUTE


@dataclass(eq=False, slots=True)
class Draft:
    """Where a draft lies, and the name that it will get. ``xattrs``: those that it will have."""

    parent: DirNode
    hidden: bytes
    name: bytes
    exclusive: bool
    xattrs: dict[bytes, bytes]


@dataclass(eq=False, slots=True)
class Writing:
    """An open file that is written. ``draft`` None: in place."""

    fh: int
    node: FileNode
    draft: Draft | None = None


class Hand:
    """Writes files of one engine."""

    def __init__(self, vfs: Vfs) -> None:
        self.hidden: set[FileNode] = set()
        self.caller = Caller(os.geteuid(), os.getegid(), _umask())
        self._vfs = vfs

    async def begin(self, parent: DirNode, name: bytes, before: FileNode | None, *, exclusive: bool) -> Writing:
        """A draft of what will stand at a place. It takes owner, mode and attributes from what is there ``before``."""
        if len(name) > limits.NAME_MAX:
            fail(errno.ENAMETOOLONG)
        if not name:
            fail(errno.EISDIR)
        hidden = b".modelfs-%s.part" % uuid.uuid4().hex.encode()
        parent.lookups += 1
        try:
            node, fh = await self._vfs.create(parent.ino, hidden, 0o666, os.O_RDWR | os.O_EXCL, self.caller)
        except BaseException:
            self._vfs.forget(parent.ino, 1)
            raise
        self.hidden.add(node)
        if before is not None:
            node.mode, node.uid, node.gid, node.xattrs = before.mode, before.uid, before.gid, dict(before.xattrs)
        draft = Draft(parent, hidden, name, exclusive, dict(node.xattrs))
        # Chunks are sent while it is written: they are differences to the version that it will replace.
        node.xattrs.setdefault(BASE_ATTRIBUTE, name)
        return Writing(fh, node, draft)

    async def truncate(self, writing: Writing, size: int) -> None:
        """Set the size."""
        if size > limits.FILE_SIZE_MAX:
            fail(errno.EFBIG)
        await self._vfs.files.truncate(writing.node, size)

    async def set_time(self, node: Node, mtime_ns: int) -> None:
        """Set the time of a file or directory."""
        await self._vfs.attributes.setattr(node.ino, mtime_ns=mtime_ns)

    # -- the end of a writing -----------------------------------------------------------------------------------

    async def publish(self, writing: Writing) -> None:
        """Give it its name, return when it is durable, and close it. When it cannot get its name, or some of it is not
        on this machine's disk, there is what was before."""
        await self._take_name(writing)
        try:
            await self._vfs.fsync(writing.fh)
        finally:
            await self._close(writing)

    async def take_over(self, writing: Writing, source: FileNode) -> None:
        """The same with the content of another file, but it is not durable yet."""
        await self._take_name(writing)
        self._vfs.files.take_over(writing.node, source)
        await self._close(writing)

    async def _take_name(self, writing: Writing) -> None:
        try:
            self._check(writing)
            if writing.draft is not None:
                await self._name(writing, writing.draft)
        except BaseException:
            await self.discard(writing)
            raise

    async def publish_together(self, writings: Sequence[Writing]) -> None:
        """The same for several, in one commit: others see all of them or none."""
        vfs = self._vfs
        async with vfs.committer.paused():
            try:
                for writing in writings:
                    self._check(writing)
                    if writing.draft is not None:
                        await self._may_name(writing.draft)
                async with together() as nursery:
                    for writing in writings:
                        nursery.start_soon(vfs.files.finish, writing.node)
                for writing in writings:
                    if writing.draft is not None:
                        await self._name(writing, writing.draft)
            except BaseException:
                for writing in writings:
                    await self.discard(writing)
                raise
        try:
            await vfs.durability.everything()
        finally:
            for writing in writings:
                await self._close(writing)

    def _check(self, writing: Writing) -> None:
        """OSError when something that was written is not here."""
        state = writing.node.state
        if state is not None and state.failed is not None:
            raise state.failed
        if writing.draft is not None and writing.node.parent is None:
            fail(errno.ENOENT)  # its directory was removed

    async def _may_name(self, draft: Draft) -> None:
        there = await self._vfs.names.child(draft.parent, draft.name)
        code = errno.EEXIST if draft.exclusive else errno.EISDIR if isinstance(there, DirNode) else 0
        if there is not None and code:
            raise OSError(code, os.strerror(code), os.fsdecode(path_at(draft.parent, draft.name)))

    async def _name(self, writing: Writing, draft: Draft) -> None:
        node = writing.node
        if node.parent is not draft.parent or node.name != draft.hidden:
            fail(errno.ENOENT)
        node.xattrs = draft.xattrs
        flags = RENAME_NOREPLACE if draft.exclusive else 0
        await self._vfs.rename(draft.parent.ino, draft.hidden, draft.parent.ino, draft.name, flags)
        self.hidden.discard(node)

    async def discard(self, writing: Writing) -> None:
        """Close it as if it had never been opened. May be called again."""
        node, draft = writing.node, writing.draft
        if writing.fh < 0:
            return
        if draft is None:
            if node.state is not None and node.written:
                node.state.failed = OSError(errno.ECANCELED, "given up")
        elif node in self.hidden and node.parent is not None:
            with trio.CancelScope(shield=True):
                await self._vfs.unlink(draft.parent.ino, draft.hidden)
        await self._close(writing)

    async def _close(self, writing: Writing) -> None:
        fh, writing.fh = writing.fh, -1
        if fh < 0:
            return
        self.hidden.discard(writing.node)
        with trio.CancelScope(shield=True):
            await self._vfs.release(fh)
        if writing.draft is not None:
            self._vfs.forget(writing.draft.parent.ino, 1)


def _umask() -> int:
    """The mask of this process; os.umask would have to change it to tell."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022
