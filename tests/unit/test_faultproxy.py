"""The fault proxy does what its weather says: what other tests build on it is worth no more than that."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest
from faultproxy import CALM, FaultProxy, Weather


class _Echo(socketserver.BaseRequestHandler):
    """Sends back what it got, and notes it."""

    got: list[bytes]

    def handle(self) -> None:
        try:
            while data := self.request.recv(65536):
                self.got.append(data)
                self.request.sendall(data)
        except ConnectionError:
            pass


@pytest.fixture
def echo() -> Iterator[tuple[str, list[bytes]]]:
    """An echo server's URL and all that reached it."""
    got: list[bytes] = []
    handler = type("Echo", (_Echo,), {"got": got})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", got
        server.shutdown()
        thread.join()


def _connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=30)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := connection.recv(size - len(data))):
        data += piece
    return data


def test_calm_passes_everything(echo: tuple[str, list[bytes]]) -> None:
    with FaultProxy(echo[0]) as proxy, _connect(proxy) as line:
        sent = bytes(range(256)) * 2000
        threading.Thread(target=line.sendall, args=(sent,)).start()
        assert _exactly(line, len(sent)) == sent
        line.shutdown(socket.SHUT_WR)
        assert line.recv(1) == b""
        assert not proxy.faults


def test_refusing_ends_open_connections_and_takes_no_new_ones_until_it_is_over(echo: tuple[str, list[bytes]]) -> None:
    with FaultProxy(echo[0]) as proxy:
        for _ in range(3):
            with _connect(proxy) as line:
                line.sendall(b"x")
                assert line.recv(1) == b"x"
                proxy.weather = Weather(refuse=True)
                with pytest.raises(ConnectionResetError):
                    line.recv(1)
            with pytest.raises(ConnectionRefusedError):
                _connect(proxy)
            proxy.weather = CALM
        assert proxy.faults["refuse"] == 3


def test_hanging_holds_back_and_lets_go(echo: tuple[str, list[bytes]]) -> None:
    with FaultProxy(echo[0]) as proxy, _connect(proxy) as line:
        proxy.weather = Weather(hang=True)
        line.sendall(b"x")
        line.settimeout(0.2)
        with pytest.raises(TimeoutError):
            line.recv(1)
        with _connect(proxy) as new:
            new.settimeout(0.2)
            new.sendall(b"y")
            with pytest.raises(TimeoutError):
                new.recv(1)
        assert echo[1] == []
        proxy.weather = CALM
        line.settimeout(30)
        assert line.recv(1) == b"x"
        assert proxy.faults["hang"] == 2


def test_a_lost_response_had_its_effect(echo: tuple[str, list[bytes]]) -> None:
    with FaultProxy(echo[0], weather=Weather(lose_response=1)) as proxy, _connect(proxy) as line:
        line.sendall(b"take effect")
        with pytest.raises(ConnectionResetError):
            line.recv(1)
        assert echo[1] == [b"take effect"]
        assert proxy.faults == {"lose_response": 1}


def test_a_cut_response_ends_in_order_and_a_reset_one_does_not(echo: tuple[str, list[bytes]]) -> None:
    with FaultProxy(echo[0], weather=Weather(cut_response=1)) as proxy:
        with _connect(proxy) as line:
            line.sendall(b"12345678")
            assert _exactly(line, 8) == b"1234"
        proxy.weather = Weather(reset_response=1)
        with _connect(proxy) as line:
            line.sendall(b"12345678")
            with pytest.raises(ConnectionResetError):
                while line.recv(8):
                    pass


def test_a_reset_request_reaches_the_server_in_part(echo: tuple[str, list[bytes]]) -> None:
    with FaultProxy(echo[0], weather=Weather(reset_request=1)) as proxy, _connect(proxy) as line:
        line.sendall(b"12345678")
        with pytest.raises(ConnectionResetError):
            while line.recv(8):  # the server may have answered the half before the reset
                pass
        assert b"".join(echo[1]) in (b"", b"1234")  # a reset may overtake what was sent before it
        assert proxy.faults["reset_request"] == 1


def test_a_delay_is_counted(echo: tuple[str, list[bytes]]) -> None:
    with FaultProxy(echo[0], weather=Weather(delay=0.01)) as proxy, _connect(proxy) as line:
        line.sendall(b"x")
        assert line.recv(1) == b"x"
        assert proxy.faults["delay"] == 2
