"""A directory with a local store in it, served as an S3 bucket that counts what is asked of it.

    with CountingStore(directory) as served:
        …mount(served.url, read_only=True)…
        served.gets  # how often each object was asked for

Read-only, and with only as much of the protocol as reading takes: GET and HEAD of an object, and listing. So what a
mount fetches is counted where it is fetched from, whatever the daemon's own counters say.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bucket"
_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


class CountingStore:
    """Serves ``directory`` while it is entered. Who mounts it needs `environment`."""

    environment: ClassVar = {
        "AWS_ACCESS_KEY_ID": "reader",
        "AWS_SECRET_ACCESS_KEY": "reader",
        "AWS_REGION": "us-east-1",
    }

    def __init__(self, directory: Path) -> None:
        self.gets: Counter[str] = Counter()  # by key; answered with the object
        self._lock = threading.Lock()
        counting = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                key = unquote(parts.path).removeprefix(f"/{BUCKET}").lstrip("/")
                if not key:
                    return self._answer(200, _listing(directory, parse_qs(parts.query)))
                path = directory / key
                if not path.is_file():
                    return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                if self.command == "GET":
                    with counting._lock:
                        counting.gets[key] += 1
                return self._answer(200, path.read_bytes())

            do_HEAD = do_GET

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Last-Modified", _DATE)
                self.send_header("ETag", '"written once"')
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="counting store")

    @property
    def url(self) -> str:
        """The store's URL."""
        return f"s3://{BUCKET}/?endpoint=http://127.0.0.1:{self._server.server_port}"

    def below(self, area: str) -> Counter[str]:
        """How often each object of "data", "meta", … was asked for."""
        with self._lock:
            return Counter({key: count for key, count in self.gets.items() if key.startswith(f"{area}/")})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _listing(directory: Path, query: dict[str, list[str]]) -> bytes:
    prefix = query.get("prefix", [""])[0]
    found = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder) / name
            key = path.relative_to(directory).as_posix()
            if key.startswith(prefix):
                found.append((key, path.stat().st_size))
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f'<ETag>"written once"</ETag><Size>{size}</Size></Contents>'
        for key, size in sorted(found)
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>".encode()
