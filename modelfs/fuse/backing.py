"""Which open files the kernel reads by itself: the mode of each inode, and the cache files that stand behind it.

While an inode has a handle that reads a backing file ("passing"), the kernel refuses every open of it that does not,
or that names another file; while it has a handle that uses the page cache, it refuses those that pass. So the mode is
the inode's, kept here from the answer to OPEN until RELEASE, which the kernel sends after it has let go of its own.

A passing inode is never written. Who wants to gets ESTALE, upon which the kernel looks the path up again and finds a
new inode there with the same content (`Vfs.part`): readers keep the version that they opened.

A cache file stays locked (LOCK_SH) while it is registered, so eviction leaves it alone; RELEASE comes after the last
mapping is gone. When this daemon dies the lock goes, and mappings live on: `cache.sparse.unused` sees them.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from modelfs.fuse import device
from modelfs.fuse.protocol import OpenFlag
from modelfs.fuse.requests import RefusedError
from modelfs.reader.file import FileReader
from modelfs.vfs.vfs import Vfs
from modelfs.vfs.virtual import is_virtual

log = logging.getLogger(__name__)


def writes(flags: int) -> bool:
    """True when an open with these flags may change the file."""
    return (flags & os.O_ACCMODE) != os.O_RDONLY or bool(flags & os.O_TRUNC)


@dataclass(slots=True)
class _Mode:
    """Of an inode that is open: how many handles use the page cache, or pass, and to which number and file."""

    writing: int = 0  # handles that may change the file, those included that are being opened
    cached: int = 0
    passing: int = 0
    backing: int = 0
    reader: FileReader | None = None


class Backings:
    """Of one connection to the kernel; ``enabled``: it takes backing files."""

    def __init__(self, vfs: Vfs, connection: int, *, enabled: bool) -> None:
        self.opened = 0  # opens that passed, since the mount began
        self._vfs = vfs
        self._connection = connection
        self._enabled = enabled
        self._modes: dict[int, _Mode] = {}
        self._handles: dict[int, tuple[int, bool]] = {}  # file handle -> inode number, and whether it may write

    def passing(self) -> int:
        """Files that the kernel reads by itself at this moment."""
        return sum(mode.passing > 0 for mode in self._modes.values())

    @contextmanager
    def changing(self, ino: int) -> Iterator[None]:
        """Around what changes the content of an inode: no reader begins to pass meanwhile. RefusedError (ESTALE) when
        some do already, for the next lookup to find an inode that may be changed."""
        mode = self._modes.setdefault(ino, _Mode())
        if mode.passing:
            self._vfs.part(ino)
            raise RefusedError(errno.ESTALE)
        mode.writing += 1
        try:
            yield
        finally:
            mode.writing -= 1
            self._drop_if_closed(ino, mode)

    def open(self, ino: int, fh: int, flags: int) -> tuple[OpenFlag, int]:
        """How the kernel is to serve a handle that was just opened, `changing` the inode if the flags say so: flags and
        number of the answer."""
        if is_virtual(ino):
            # The size of what is made for this open is known to nobody before: pages and sizes are not kept.
            return OpenFlag.DIRECT_IO, 0
        mode = self._modes.setdefault(ino, _Mode())
        if not (mode.passing or mode.cached or mode.writing) and self._enabled:
            self._register(fh, mode)
        mode.writing += writes(flags)
        self._handles[fh] = ino, writes(flags)
        if mode.backing:
            mode.passing += 1
            self.opened += 1
            # Without KEEP_CACHE: pages of an earlier open, which the kernel does not use any more, are given back.
            return OpenFlag.PASSTHROUGH, mode.backing
        mode.cached += 1
        return OpenFlag.KEEP_CACHE, 0

    def _register(self, fh: int, mode: _Mode) -> None:
        reader = self._vfs.whole(fh)
        if reader is None or (fd := reader.whole()) is None:
            return
        try:
            mode.backing = device.register(self._connection, fd)
        except OSError as error:
            log.warning("the kernel does not take a cache file, it is read through the daemon: %s", error)
            return
        mode.reader = reader.retain()
        reader.counted_whole()

    def released(self, fh: int) -> FileReader | None:
        """The kernel has let go of a handle: a reader that is to be released with it. The next request may be to open
        the file again, so this is called before any is taken."""
        ino, wrote = self._handles.pop(fh, (0, False))
        mode = self._modes.get(ino)
        if mode is None:
            return None
        mode.writing -= wrote
        if mode.passing:
            mode.passing -= 1
        else:
            mode.cached -= 1
        self._drop_if_closed(ino, mode)
        if mode.reader is None or mode.passing:
            return None
        try:
            device.unregister(self._connection, mode.backing)
        except OSError as error:
            log.debug("a backing file went with the connection: %s", error)
        return mode.reader

    def _drop_if_closed(self, ino: int, mode: _Mode) -> None:
        if not (mode.passing or mode.cached or mode.writing) and self._modes.get(ino) is mode:
            del self._modes[ino]
