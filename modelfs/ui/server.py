"""The process of `modelfs ui`: a socket, the pages, and an end at SIGINT or SIGTERM."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hypercorn.trio
import trio
from hypercorn.config import Config

from modelfs import limits
from modelfs.errors import UsageError
from modelfs.quantities import parse_address
from modelfs.repository.access import Access
from modelfs.repository.repository import Repository
from modelfs.ui.app import Site
from modelfs.ui.guard import TOKEN, Guard
from modelfs.ui.stores import Stores
from modelfs.ui.watch import Watch

_http_log = logging.getLogger("modelfs.ui.http")
_http_log.setLevel(logging.WARNING)  # it would say where it listens


@dataclass(frozen=True, slots=True)
class Shown:
    """What the pages are about: one mount, one store and its mounts, or, with neither, all mounts of this user.
    ``access``: what opens stores that are not open yet."""

    access: Access
    mountpoint: Path | None = None
    repo: Repository | None = None
    name: str = ""


class Server:
    """Listens from the beginning, so that a port in use is said at once. UsageError. ``token``: who asks must have
    one."""

    def __init__(self, address: str, *, token: bool = True) -> None:
        host, port = parse_address("--listen", address)
        try:
            family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(where)
            self._socket.listen()
        except OSError as error:
            raise UsageError(f"--listen {address}: cannot listen there: {error.strerror or error}") from error
        bound, self.port = self._socket.getsockname()[:2]
        self.loopback = ipaddress.ip_address(bound).is_loopback
        self._host = host
        self._token = secrets.token_urlsafe(24) if token else None

    @property
    def url(self) -> str:
        """What to open, the token included."""
        return f"http://{self._host}:{self.port}/" + (f"?{TOKEN}={self._token}" if self._token else "")

    def run(self, shown: Shown, started: Callable[[], None]) -> None:
        """Serve until SIGINT or SIGTERM. ``started`` is called once the pages can be asked for."""
        with contextlib.suppress(KeyboardInterrupt):
            trio.run(self._run, shown, started)

    async def _run(self, shown: Shown, started: Callable[[], None]) -> None:
        stores = Stores(shown.access)
        store_id = stores.add(shown.repo).id if shown.repo is not None else None
        watch = Watch(shown.mountpoint, store_id)
        site = Site(watch, stores, shown.name)
        names = () if self.loopback else (self._host, socket.gethostname())
        app = Guard(
            site.app(), token=self._token, cookie=f"modelfs-ui-{self.port}", loopback=self.loopback, names=names
        )
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:

            async def ended() -> None:
                async for _ in signals:
                    return

            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch.run)
                nursery.start_soon(self._when_up, watch, started)
                await hypercorn.trio.serve(app, self._config(), shutdown_trigger=ended, mode="asgi")  # type: ignore[arg-type]
                nursery.cancel_scope.cancel()
            await site.settle()
            await stores.close()

    async def _when_up(self, watch: Watch, started: Callable[[], None]) -> None:
        with trio.move_on_after(limits.UI_INTERVAL):
            await watch.looked.wait()
        started()

    def _config(self) -> Config:
        config = Config()
        config.bind = [f"fd://{self._socket.detach()}"]
        config.accesslog = None
        config.errorlog = _http_log
        config.include_server_header = False
        config.graceful_timeout = limits.UI_END
        config.h11_max_incomplete_size = 32 * limits.KiB
        return config
