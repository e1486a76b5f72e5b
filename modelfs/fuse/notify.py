"""Telling the kernel to forget names and attributes, from a thread of its own.

An invalidation can block until a request on the same directory has been answered, so it must never run on the event
loop that answers requests. The queue is bounded by what a rebase found; the thread ends with `close`.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

import pyfuse3
from pyfuse3 import FileNameT, InodeT

from modelfs.vfs.namespace import Invalidations

log = logging.getLogger(__name__)


class Notifier:
    """Sends invalidations to the kernel, in order."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Invalidations | None] = SimpleQueue()
        self._armed = True
        self._thread = threading.Thread(target=self._run, name="modelfs-notify", daemon=True)
        self._thread.start()

    def __call__(self, what: Invalidations) -> None:
        """Queue what the kernel must forget; returns at once."""
        if what.entries or what.attributes:
            self._queue.put(what)

    def _run(self) -> None:
        while (what := self._queue.get()) is not None:
            for ino, name in what.entries:
                self._send(partial(pyfuse3.invalidate_entry, InodeT(ino), FileNameT(name)))
            for ino in what.attributes:
                self._send(partial(pyfuse3.invalidate_inode, InodeT(ino), attr_only=True))

    def _send(self, call: Callable[[], None]) -> None:
        if not self._armed:
            return
        try:
            call()
        except OSError as error:
            # ENOENT: the kernel did not know it. ENOTCONN, EBADF, ENODEV: the mount is going away.
            if error.errno not in (errno.ENOENT, errno.ENOTCONN, errno.EBADF, errno.ENODEV):
                log.warning("the kernel refused an invalidation: %s", error)

    def close(self) -> None:
        """Stop sending (before the session ends: a late notification could block for good)."""
        self._armed = False
        self._queue.put(None)
