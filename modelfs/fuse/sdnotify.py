"""What a service manager hears of a mount: that it answers, that it ends, how it is, and signs of life (sd_notify(3)).

The protocol is one datagram of ``NAME=value`` lines to the socket in ``NOTIFY_SOCKET``. Signs of life come from the
event loop that serves the kernel's requests: when that is stuck, they stay away and the manager starts the mount anew.
The daemon calls this; without a manager every method does nothing.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping

import trio

from modelfs import limits

log = logging.getLogger(__name__)


class Notifier:
    """The way to the service manager. ``address``: of its socket; None: there is no manager. ``watchdog``: seconds
    after which the manager takes a process without a sign of life for stuck; None: it does not look."""

    def __init__(self, address: str | None = None, watchdog: float | None = None) -> None:
        self._address = address
        self._watchdog = watchdog

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Notifier:
        """As the manager told this process, and no other (sd_watchdog_enabled(3))."""
        address = environment.get("NOTIFY_SOCKET")
        if not address:
            return cls()
        if not address.startswith(("/", "@")):
            log.warning("NOTIFY_SOCKET=%s: only unix sockets are known, so nobody is notified", address)
            return cls()
        microseconds = environment.get("WATCHDOG_USEC", "")
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watched = meant and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address, int(microseconds) / 1e6 if watched else None)

    def say(self, *lines: str) -> bool:
        """Send lines such as "READY=1". False when the manager's queue is full; a manager that is gone hears nothing.

        Never waits: it is called on the event loop.
        """
        if self._address is None:
            return True
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_manager:
            try:
                to_manager.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, address)
            except BlockingIOError:
                return False
            except OSError as error:
                log.warning("the service manager cannot be told %s: %s", lines[0], error)
        return True

    async def ready(self, status: str) -> None:
        """The mount answers."""
        while not self.say("READY=1", _status(status)):
            await trio.sleep(limits.NOTIFY_RETRY)

    def ending(self, timeout: float, status: str) -> None:
        """The mount ends, and takes ``timeout`` seconds at most: what the unit allows by itself may be less."""
        self.say("STOPPING=1", _status(status), f"EXTEND_TIMEOUT_USEC={int(timeout * 1e6)}")

    @contextlib.asynccontextmanager
    async def patience(self, status: str) -> AsyncIterator[None]:
        """Around a part of the start that may take long and goes on: more time is asked for while it lasts."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_for_time, status)
            yield
            nursery.cancel_scope.cancel()

    async def _ask_for_time(self, status: str) -> None:
        while self._address is not None:
            self.say(_status(status), f"EXTEND_TIMEOUT_USEC={int(3 * limits.NOTIFY_EVERY * 1e6)}")
            await trio.sleep(limits.NOTIFY_EVERY)

    async def beat(self, status: Callable[[], str]) -> None:
        """Signs of life and a line of status until cancelled. When the manager ends a stuck process with SIGABRT, the
        log says where its threads were."""
        if self._address is None:
            return
        if self._watchdog is not None:
            faulthandler.enable()
        every = min(limits.NOTIFY_EVERY, (self._watchdog or float("inf")) / 3)
        while True:
            self.say(*(["WATCHDOG=1"] if self._watchdog is not None else []), _status(status()))
            await trio.sleep(every)


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}"
