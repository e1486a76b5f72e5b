"""The script of the pages, in a browser, on a page that counts how often it was asked for."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browsing import chromium

from modelfs.ui.guard import HEADERS
from modelfs.ui.render import asset

PAGE = """<!doctype html><title>x</title><script src="/live.js" defer></script>
<label id="live" hidden><input type="checkbox"> live <output></output></label>
<div id="part" data-live><details %s><summary>seen</summary>asked %d times</details></div><p>first was %d</p>"""


@pytest.fixture
def counting() -> Iterator[str]:
    """URL of the page."""
    asked = [0]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/live.js":
                body, kind = asset("live.js"), "text/javascript"
            else:
                asked[0] += self.path.startswith("/page")
                body, kind = (PAGE % ("open" if asked[0] == 1 else "", asked[0], asked[0])).encode(), "text/html"
            self.send_response(200)
            for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/page?token=secret&at=x"
        finally:
            server.shutdown()
            thread.join()


def test_live_parts_are_replaced_and_what_is_open_stays_open(counting: str, tmp_path: Path) -> None:
    seen = chromium("--dump-dom", "--virtual-time-budget=9000", counting, profile=tmp_path / "profile").stdout
    count = re.search(r'<details open=""><summary>seen</summary>asked (\d+) times', seen)
    assert count is not None, seen
    assert int(count[1]) > 1
    assert "first was 1" in seen  # the rest of the page is left as it was
    assert '<label id="live">' in seen
