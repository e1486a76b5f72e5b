"""The end of a mount: what is pending goes into the store, within a bound, and what is left is said.

`Drain` is run by the daemon when it is told to end, and once more when the kernel has let go. `Watchdog` ends a process
whose requests to the store hang when nobody waits for them any more: threads cannot be cancelled.
"""

from __future__ import annotations

import logging
import os
import threading

import trio

from modelfs import limits
from modelfs.errors import ModelfsError
from modelfs.vfs.vfs import Vfs

log = logging.getLogger(__name__)


class Drain:
    """Brings everything into the store, at most ``timeout`` seconds from the first `run` on."""

    def __init__(self, vfs: Vfs, timeout: float, nursery: trio.Nursery) -> None:
        self.timeout = timeout
        self.begun = False
        self._vfs = vfs
        self._nursery = nursery
        self._deadline = float("inf")
        self._hurried = trio.Event()

    def hurry(self) -> None:
        """Give up at once."""
        self._hurried.set()

    async def run(self) -> bool:
        """True when everything is in the store; False, with a line in the log, when time is over."""
        if self._vfs.options.read_only:
            return True
        if not self.begun:
            self.begun = True
            self._deadline = trio.current_time() + self.timeout
        done = trio.Event()
        self._nursery.start_soon(self._try, done)
        with trio.move_on_at(max(self._deadline, trio.current_time() + min(limits.DRAIN_LAST, self.timeout))):
            async with trio.open_nursery() as either:
                for event in (done, self._hurried):
                    either.start_soon(_first, event, either.cancel_scope)
        if self._vfs.durability.settled():
            return True
        files, size = self._vfs.durability.pending()
        log.error(
            "%d files (%d bytes) are not in the store; they stay in the journal of this machine: what was acknowledged "
            "goes up with the next mount or `modelfs journal retry`",
            files,
            size,
        )
        return False

    async def _try(self, done: trio.Event) -> None:
        while True:
            try:
                await self._vfs.durability.drain()
                break
            except (ModelfsError, OSError) as error:
                log.error("ending, but not everything is in the store yet: %s", error)
                await trio.sleep(limits.COMMIT_RETRY)
        done.set()


async def _first(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


class Watchdog:
    """Ends the process `limits.EXIT_GRACE` seconds after `start`, unless `stop` comes first."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def start(self) -> None:
        """From now on, only threads that hang keep the process from ending."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _watch(self) -> None:
        if not self._stopped.wait(limits.EXIT_GRACE):
            log.warning("requests to the store hang: the process ends without them")
            os._exit(1)

    def stop(self) -> None:
        """The process ends by itself."""
        self._stopped.set()
