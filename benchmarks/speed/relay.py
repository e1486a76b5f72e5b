"""A TCP relay that makes a fast line slow: a delay for each direction, or a cap on the bytes per second of each.

`tc netem` needs a kernel module that few machines have; this needs nothing. It runs as a process of its own, so that
its work is not counted as anybody's, and ends when its standard input does.

    python -m benchmarks.speed.relay PORT DELAY_SECONDS BYTES_PER_SECOND      prints its own port

A segment is passed on when its delay is over and the line, which all connections share, has had time to carry it.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import trio

SEGMENT = 256 * 1024  # read at once
IN_FLIGHT = 64  # segments on their way in one direction of one connection


class Line:
    """One direction of the line: when a segment that is sent now has arrived."""

    def __init__(self, delay: float, rate: float) -> None:
        self._delay = delay
        self._rate = rate
        self._free = 0.0

    def arrival(self, size: int) -> float:
        """The time at which ``size`` more bytes are through."""
        now = trio.current_time()
        self._free = max(now, self._free) + (size / self._rate if self._rate else 0.0)
        return self._free + self._delay


async def _carry(source: trio.SocketStream, target: trio.SocketStream, line: Line) -> None:
    send, receive = trio.open_memory_channel[tuple[float, bytes]](IN_FLIGHT)

    async def deliver() -> None:
        async for due, data in receive:
            await trio.sleep_until(due)
            await target.send_all(data)
        await target.send_eof()

    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async with trio.open_nursery() as nursery, send:
            nursery.start_soon(deliver)
            while data := await source.receive_some(SEGMENT):
                await send.send((line.arrival(len(data)), bytes(data)))


async def serve(port: int, delay: float, rate: float) -> None:
    """Relay to ``port`` of loopback; ``delay`` in seconds a direction, ``rate`` in bytes per second (0: no cap)."""
    there, back = Line(delay, rate), Line(delay, rate)

    async def connection(stream: trio.SocketStream) -> None:
        try:
            with contextlib.suppress(OSError, BaseExceptionGroup):
                onward = await trio.open_tcp_stream("127.0.0.1", port)
                for end in (stream, onward):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with onward, trio.open_nursery() as nursery:
                    nursery.start_soon(_carry, stream, onward, there)
                    nursery.start_soon(_carry, onward, stream, back)
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, connection, 0)
        print(listeners[0].socket.getsockname()[1], flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


@contextlib.contextmanager
def relay(endpoint: str, *, delay: float = 0.0, rate: float = 0.0) -> Iterator[str]:
    """A slower way to ``endpoint`` (http://127.0.0.1:PORT): its own endpoint."""
    port = endpoint.rpartition(":")[2]
    command = [sys.executable, "-m", "benchmarks.speed.relay", port, str(delay), str(rate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    trio.run(serve, int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
