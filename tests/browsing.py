"""`modelfs ui` as a process of its own, and a client that judges every page it gets."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest


@dataclass(frozen=True)
class Answer:
    """One page. ``text``: what a person reads of it, words separated by single spaces."""

    status: int
    headers: dict[str, str]
    body: str
    text: str
    links: tuple[str, ...]


class Page(HTMLParser):
    """Reads a page as a browser would, and fails on what the pages' own rules forbid."""

    VOID = frozenset(("meta", "link", "input", "br"))

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        assert "style" not in found, found
        assert not any(name.startswith("on") for name in found), found
        assert tag != "script" or found.get("src") == "/live.js"
        for name in ("src", "href", "action"):
            if (address := found.get(name)) is not None:
                assert address.startswith(("/", "#")), address
                assert not address.startswith("//"), address
                self.links.append(address)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in ("p", "option", "li") or (self.open and self.open[-1] == tag):
            while self.open and self.open.pop() != tag:
                pass
            return
        raise AssertionError(f"</{tag}> within {self.open}")

    def handle_data(self, data: str) -> None:
        self.words += data.split()


class Browser:
    """Asks one `modelfs ui`. ``process``: to end or to stop it."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.host, self.port, self.token = parts.hostname, parts.port, parts.query.removeprefix("token=")

    def raw(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Without the token unless ``headers`` have it."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def get(self, path: str, status: int = 200) -> Answer:
        """A page, which is checked to be well-formed and without anything that runs."""
        found, headers, body = self.raw(path, headers={"Cookie": f"modelfs-ui-{self.port}={self.token}"})
        text = body.decode()
        assert found == status, text
        page = Page()
        if headers["content-type"].startswith("text/html"):
            assert "default-src 'none'" in headers["content-security-policy"]
            page.feed(text.removeprefix("<!doctype html>"))
            page.close()
            assert not page.open, page.open
        return Answer(found, headers, text, " ".join(page.words), tuple(page.links))


@contextlib.contextmanager
def browsing(*arguments: object) -> Iterator[Browser]:
    """`modelfs ui` with these arguments on a free port, ended afterwards."""
    command = [sys.executable, "-m", "modelfs", "ui", *map(str, arguments), "--listen", "127.0.0.1:0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        said = ""
        while not said.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            said += line
        facts = json.loads(said)
        assert facts["pid"] == process.pid
        yield Browser(process, facts["url"])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def chromium(*arguments: str, profile: Path) -> subprocess.CompletedProcess[str]:
    """A headless browser. Its sandbox cannot be had in most containers; the pages are ours."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium here (Debian: chromium)")
    command = [found, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
               f"--user-data-dir={profile}", "--hide-scrollbars", *arguments]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
