"""A TCP proxy in front of a real server that fails as told: store-away tests and tests of real S3 servers use it.

    with FaultProxy("http://127.0.0.1:PORT", seed=1) as proxy:
        …                                    # use proxy.endpoint in place of the server's
        proxy.weather = Weather(refuse=True)  # from now on, open connections included
        …
        proxy.weather = CALM

It runs on a thread of its own. What happens by chance is drawn from one generator with the seed; which connection it
strikes depends on how the client's connections are scheduled, so a seed gives a kind of weather, not a replay.
`faults` counts what was done, so that a test can insist that something was.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

import trio

SEGMENT = 64 * 1024  # read at once
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends RST


@dataclass(frozen=True)
class Weather:
    """What becomes of connections and segments. Chances, 0 to 1, are per segment of at most `SEGMENT` bytes."""

    refuse: bool = False  # nobody listens; open connections are reset
    hang: bool = False  # connections are taken, nothing moves on them, for as long as it lasts
    delay: float = 0.0  # seconds that a segment takes
    reset_request: float = 0.0  # half of the segment goes to the server, then both ends are reset
    lose_response: float = 0.0  # the server's answer is dropped, then both ends are reset: the request took effect
    cut_response: float = 0.0  # half of the segment goes to the client, then an orderly end: a truncated answer
    reset_response: float = 0.0  # half of the segment goes to the client, then a reset


CALM = Weather()


class FaultProxy:
    """Stands in front of ``target`` (http://HOST:PORT) at `endpoint`."""

    def __init__(self, target: str, *, seed: int = 0, weather: Weather = CALM, host: str = "127.0.0.1") -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._weather = weather
        self._rng = random.Random(seed)
        self._connections: set[_Connection] = set()
        self._changed = trio.Event()
        self.faults: Counter[str] = Counter()  # by the name of the field of `Weather`
        self._host = host
        with socket.socket() as any_port:
            any_port.bind((host, 0))
            self.port: int = any_port.getsockname()[1]
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, self.port))  # by number: else Linux gives the port up with the listening
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._thread = threading.Thread(target=trio.run, args=(self._run,), name="fault proxy")

    @property
    def endpoint(self) -> str:
        """The URL that stands for the target's."""
        return f"http://{self._host}:{self.port}"

    @property
    def weather(self) -> Weather:
        """What is happening now. Setting it returns when it holds for every connection."""
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        assert self._token is not None, "the proxy does not run"
        trio.from_thread.run_sync(self._set, weather, trio_token=self._token)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._token is not None
        with contextlib.suppress(trio.RunFinishedError):
            trio.from_thread.run_sync(self._scope.cancel, trio_token=self._token)
        self._thread.join()
        self._socket.close()

    # -- on the thread --------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:
                self._socket.setblocking(False)
                if not self._weather.refuse:
                    self._socket.listen(128)
                self._ready.set()
                while True:
                    changed = self._changed
                    if self._weather.refuse:
                        await changed.wait()
                        continue
                    await trio.lowlevel.wait_readable(self._socket)
                    with contextlib.suppress(OSError):  # it stopped listening meanwhile
                        client, _ = self._socket.accept()
                        nursery.start_soon(self._serve, trio.SocketStream(trio.socket.from_stdlib_socket(client)))

    def _set(self, weather: Weather) -> None:
        before, self._weather = self._weather, weather
        if weather.refuse and not before.refuse:
            # On Linux this ends listening and keeps the address: who connects is refused, nobody takes the port.
            self._socket.shutdown(socket.SHUT_RDWR)
            for connection in list(self._connections):
                self.faults["refuse"] += 1
                connection.reset()
        elif before.refuse and not weather.refuse:
            self._socket.listen(128)
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def _serve(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_tcp_stream(*self._target)
        except OSError:
            _reset(client)
            return
        connection = _Connection(client, server)
        self._connections.add(connection)
        try:
            with connection.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._carry, connection, True)
                    nursery.start_soon(self._carry, connection, False)
        finally:
            self._connections.discard(connection)
            for end in (client, server):
                await trio.aclose_forcefully(end)

    async def _carry(self, connection: _Connection, to_server: bool) -> None:
        source, target = connection.ends if to_server else reversed(connection.ends)
        try:
            while data := await source.receive_some(SEGMENT):
                await self._wait()
                fault = self._draw(to_server)
                if fault is None:
                    await target.send_all(data)
                    continue
                self.faults[fault] += 1
                if fault != "lose_response":
                    await target.send_all(data[: len(data) // 2])
                if fault == "cut_response":
                    await target.send_eof()
                    connection.scope.cancel()
                else:
                    connection.reset()
                return
            await target.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            connection.reset()

    async def _wait(self) -> None:
        """As long as the weather holds a segment back."""
        if self._weather.delay:
            self.faults["delay"] += 1
            await trio.sleep(self._weather.delay)
        if self._weather.hang:
            self.faults["hang"] += 1
        while self._weather.hang:
            await self._changed.wait()

    def _draw(self, to_server: bool) -> str | None:
        names = ("reset_request",) if to_server else ("lose_response", "cut_response", "reset_response")
        return next((name for name in names if self._rng.random() < getattr(self._weather, name)), None)


class _Connection:
    """A client's connection and ours to the server, which end together."""

    def __init__(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self.ends = (client, server)
        self.scope = trio.CancelScope()

    def reset(self) -> None:
        """Both ends see a reset."""
        for end in self.ends:
            _reset(end)
        self.scope.cancel()


def _reset(stream: trio.SocketStream) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    stream.socket.close()
