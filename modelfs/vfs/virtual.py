"""What a mount shows of itself inside itself: the directory ``.modelfs`` in its root, and attributes of its files.

Neither is stored, and neither is found by who copies a tree: the directory is in no listing, and the attributes are in
no list of attributes, so that ``cp -a`` and ``rsync -X`` take only what was set. Who asks by name gets them. The name
in the root is refused to everybody who would store it. Used by `Vfs`.

    .modelfs/status.json      what `modelfs status --json` says of this mount, as of the open
    user.modelfs.manifest     id of the version that the mount shows, hex: equal content has equal ids
    user.modelfs.chunks       how many chunks it has
    user.modelfs.resident     which share of its bytes is on this machine, 0 to 1
    user.modelfs.commit       the commit that the mount shows, BRANCH@NUMBER
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from modelfs.ids import ManifestId
from modelfs.reader.source import ChunkSource
from modelfs.repository.objects import EMPTY_TREE, OWN_NAME, Kind
from modelfs.vfs.namespace import Namespace
from modelfs.vfs.nodes import DirNode, FileNode, Node
from modelfs.writer.bases import BASE_ATTRIBUTE

DIRECTORY_INO: Final = 2
STATUS_INO: Final = 3
PREFIX: Final = b"user.modelfs."
_STATUS: Final = b"status.json"

Provider = Callable[[], Awaitable[dict[str, Any]]]


class Virtual:
    """The directory and the attributes of one mount. ``status`` is set once there is somebody who can answer."""

    def __init__(self, names: Namespace, source: ChunkSource, commit: Callable[[], str]) -> None:
        self.status: Provider | None = None
        self._source = source
        self._commit = commit
        now, owner = time.time_ns(), (os.getuid(), os.getgid())
        self.directory = DirNode(
            DIRECTORY_INO, Kind.DIRECTORY, 0o555, *owner, now, now, {}, names.root, OWN_NAME, lookups=1, tree=EMPTY_TREE
        )
        self._file = FileNode(
            STATUS_INO, Kind.INLINE, 0o444, *owner, now, now, {}, self.directory, _STATUS, lookups=1
        )  # fmt: skip
        self.directory.children[_STATUS] = self._file
        self.directory.dirty[_STATUS] = 0  # its listing is what was made here; nothing commits it
        names.nodes[DIRECTORY_INO], names.nodes[STATUS_INO] = self.directory, self._file

    def snapshot(self, facts: dict[str, Any]) -> FileNode:
        """A node that holds the facts as JSON and is in no directory, for one handle."""
        content = json.dumps(facts, indent=2, ensure_ascii=False).encode() + b"\n"
        file, now = self._file, time.time_ns()
        file.content, file.finished_size, file.mtime_ns, file.ctime_ns = content, len(content), now, now
        return FileNode(
            STATUS_INO, Kind.INLINE, file.mode, file.uid, file.gid, now, now, {}, self.directory, _STATUS,
            content=content, finished_size=len(content), opens=1,
        )  # fmt: skip

    async def opened(self) -> FileNode:
        """A snapshot of this moment. OSError (EAGAIN) while the mount is not up."""
        if self.status is None:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return self.snapshot(await self.status())

    async def attribute(self, node: Node, name: bytes) -> bytes | None:
        """The value of an attribute that is not stored; None when there is none of that name. CacheError."""
        what = name.removeprefix(PREFIX)
        if not name.startswith(PREFIX) or not isinstance(node, FileNode) or node.ino == STATUS_INO:
            return None
        if what == b"commit":
            return self._commit().encode()
        if what not in (b"manifest", b"chunks", b"resident") or not node.exists_finished:
            return None
        if node.kind is not Kind.FILE:
            return {b"chunks": b"0", b"resident": b"1"}.get(what)
        content = ManifestId(node.content)
        if what == b"manifest":
            return content.hex().encode()
        return await trio.to_thread.run_sync(self._of_manifest, content, what, limiter=self._source.threads)

    def _of_manifest(self, content: ManifestId, what: bytes) -> bytes:
        manifest = self._source.repo.read_manifest(content)
        if what == b"chunks":
            return b"%d" % sum(bool(extent.id) for extent in manifest.chunks)
        here = self._source.cache.resident(manifest)
        return b"1" if here == manifest.size else f"{here / manifest.size:.4f}".encode()


def is_virtual(ino: int) -> bool:
    """True for what `Virtual` made."""
    return ino in (DIRECTORY_INO, STATUS_INO)


def settable(name: bytes) -> bool:
    """False for attributes that nobody may store, because they would hide behind ours."""
    return not name.startswith(PREFIX) or name == BASE_ATTRIBUTE
