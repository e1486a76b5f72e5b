"""The control socket of a running mount: one JSON line in, one JSON line out.

Requests: ``{"op": "status"}``, ``{"op": "drain"}`` (returns when nothing is pending, or with the error that keeps
it from the store), ``{"op": "detached"}`` (after a lazy unmount: others may mount there) and ``{"op": "residency",
"path": …}`` (which parts of a file are on this machine). The socket lies in a directory that only its owner may enter.
Used by `status`, `top`, `umount` and `cache map`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from modelfs.errors import ModelfsError

log = logging.getLogger(__name__)

Facts = dict[str, Any]
_LINE_MAX = 1 << 20


def socket_directory() -> Path:
    """A short private directory for sockets (their paths are limited to 107 bytes)."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    path = Path(base) / "modelfs" if base and len(base) < 60 else Path(tempfile.gettempdir()) / f"modelfs-{os.getuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise ModelfsError(f"{path} must be a directory of yours with mode 0700")
    return path


async def serve(path: Path, answer: Callable[[Facts], Awaitable[Facts]]) -> None:
    """Answer requests on ``path`` until cancelled; the socket file is removed at the end."""
    path.unlink(missing_ok=True)
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        await listener.bind(str(path))
        ours = path.stat().st_ino
        listener.listen(16)
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    connection, _ = await listener.accept()
                    nursery.start_soon(_converse, trio.SocketStream(connection), answer)
        finally:
            # After a lazy unmount another daemon may have come to the same mount point.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == ours:
                    path.unlink()


async def _converse(stream: trio.SocketStream, answer: Callable[[Facts], Awaitable[Facts]]) -> None:
    try:
        async with stream:
            buffer = b""
            while True:
                line, newline, buffer = buffer.partition(b"\n")
                if not newline:
                    buffer = line
                    more = await stream.receive_some(65536)
                    if not more or len(buffer) > _LINE_MAX:
                        return
                    buffer += more
                    continue
                try:
                    request = json.loads(line)
                    request["op"]  # what is no object with a verb is no request
                    reply = await answer(request)
                except (ModelfsError, OSError) as error:
                    reply = {"error": str(error)}
                except (ValueError, KeyError, TypeError):
                    reply = {"error": "not a request"}
                await stream.send_all(json.dumps(reply).encode() + b"\n")
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        log.debug("a control connection went away")


def ask(path: Path, op: str, timeout: float, /, **arguments: str) -> Facts:
    """Send one request and return the answer. Blocking; OSError when there is nobody, TimeoutError when it is slow."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        connection.sendall(json.dumps({"op": op, **arguments}).encode() + b"\n")
        received = b""
        while not received.endswith(b"\n"):
            more = connection.recv(65536)
            if not more:
                raise ConnectionResetError(f"{path}: the mount closed its control socket")
            received += more
    facts: Facts = json.loads(received)
    return facts
