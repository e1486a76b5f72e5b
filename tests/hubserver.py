"""A server that speaks the part of the Hugging Face Hub's HTTP interface that reading a repository needs.

https://huggingface.co/docs/hub/api: what a revision is, its files page by page, and their bytes. As on the Hub, large
files lie on another host, to which ``resolve`` redirects; a token that arrives there is noted as a leak. It is good
enough for huggingface_hub to download from it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import ceph_rgw

LARGE = 1000  # bytes from which on a file lies elsewhere
PAGE = 2  # entries of a listing


@dataclass
class Version:
    """One commit of a repository: its files, and when each was changed."""

    files: dict[str, bytes]
    changed: dict[str, str]

    @functools.cached_property
    def sha(self) -> str:
        """Its hash."""
        return hashlib.sha1(repr((sorted(self.files.items()), self.changed)).encode()).hexdigest()


@dataclass
class Repository:
    """``versions`` by the name of a revision. ``private``: only with the token; ``gated``: its files are."""

    versions: dict[str, Version]
    private: bool = False
    gated: bool = False


@dataclass
class Hub:
    """What is there (``models/ORG/NAME``, ``datasets/ORG/NAME``), and what was asked."""

    endpoint: str
    storage: str
    token: str = "hf_right"
    repositories: dict[str, Repository] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)  # repositories that have another name now
    asked: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    failures: int = 0  # so many requests for bytes fail
    strange: str = ""  # what it says instead of a listing
    ranges: bool = True  # parts of files are served
    elsewhere: str = ""  # where listings pretend to go on

    def version(self, name: str, revision: str) -> Version | None:
        """By the name of a revision or a commit's hash."""
        versions = self.repositories[name].versions
        return versions.get(revision) or next((each for each in versions.values() if each.sha == revision), None)


def _tag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):  # the client has seen enough
                self.wfile.write(body)

    def send_range(self, body: bytes, **headers: str) -> None:
        """A file, or what of it is asked for."""
        headers["ETag"] = _tag(body)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None or not self.hub.ranges:
            self.send(200, body, **headers)
        elif int(asked[1]) >= len(body):
            self.send(416, Content_Range=f"bytes */{len(body)}")
        else:
            part = body[int(asked[1]) : int(asked[2]) + 1]
            begin = int(asked[1])
            self.send(206, part, **headers, Content_Range=f"bytes {begin}-{begin + len(part) - 1}/{len(body)}")

    def fails(self) -> bool:
        """True for one of the requests that are meant to fail."""
        if self.hub.failures <= 0:
            return False
        self.hub.failures -= 1
        self.send(503)
        return True


class _Storage(_Handler):
    """Where large files lie."""

    def do_GET(self) -> None:
        if "Authorization" in self.headers:
            self.hub.leaks.append(self.path)
        name, sha, path = (unquote(part) for part in self.path.strip("/").split("/"))
        version = self.hub.version(name, sha)
        if not self.fails():
            self.send_range(version.files[path] if version else b"")


class _Hub(_Handler):
    """The Hub itself."""

    def do_GET(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        parts = urlsplit(self.path)
        api = re.fullmatch(
            r"/api/(models|datasets|spaces)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.*))?)?", parts.path
        )
        file = re.fullmatch(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.*)", parts.path)
        found = api or file
        if found is None:
            self.send(404)
            return
        name = f"{found[1] or 'models'}/{found[2]}"
        if name in self.hub.moved:
            self.send(307, Location=self.path.replace(found[2], self.hub.moved[name].partition("/")[2]))
            return
        known = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        repository = self.hub.repositories.get(name)
        if "Authorization" in self.headers and not known:
            self.send(401, X_Error_Message="Invalid credentials in Authorization header")
        elif repository is None or (repository.private and not known):
            self.send(401 if not known else 404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        elif (version := self.hub.version(name, unquote((api[4] or "main") if api else found[3]))) is None:
            self.send(404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
        elif api:
            self.answer(found[2], api[3] or "revision", version, unquote(api[5] or ""), parse_qs(parts.query))
        elif (path := unquote(found[4])) not in version.files:
            self.send(404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found")
        elif repository.gated and not known:
            self.send(401, X_Error_Code="GatedRepo", X_Error_Message="Access to model is restricted")
        elif len(version.files[path]) < LARGE:
            if not self.fails():
                self.send_range(version.files[path], X_Repo_Commit=version.sha)
        else:
            target = "/".join(quote(part, safe="") for part in (name, version.sha, path))
            data = version.files[path]
            linked = {"X_Linked_Size": str(len(data)), "X_Linked_ETag": _tag(data), "X_Repo_Commit": version.sha}
            self.send(302, b"Found", Location=f"{self.hub.storage}/{target}", **linked)

    def answer(self, name: str, what: str, version: Version, folder: str, query: dict[str, list[str]]) -> None:
        """Of the interface for programs."""
        if what == "revision":
            files = [{"rfilename": path} for path in sorted(version.files)]
            self.send(200, json.dumps({"id": name, "sha": version.sha, "private": False, "siblings": files}).encode())
            return
        above = f"{folder}/" if folder else ""
        paths = sorted(path for path in version.files if path.startswith(above))
        if not paths:
            self.send(404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found")
            return
        folders = {path.rpartition("/")[0] for path in paths} - {"", folder}
        entries: list[dict[str, Any]] = [
            {"type": "directory", "path": name, "size": 0, "oid": version.sha} for name in sorted(folders)
        ]
        for path in paths:
            changed = {"id": version.sha, "title": "", "date": version.changed[path]}
            facts = {"oid": hashlib.sha1(version.files[path]).hexdigest(), "size": len(version.files[path])}
            expanded = {"lastCommit": changed} if query.get("expand") == ["true"] else {}
            entries.append({"type": "file", "path": path, **facts, **expanded})
        begin = int(query.get("cursor", ["0"])[0])
        more = {}
        if begin + PAGE < len(entries):
            address = f"{self.hub.elsewhere or self.hub.endpoint}{urlsplit(self.path).path}"
            more["Link"] = f'<{address}?recursive=true&expand=true&cursor={begin + PAGE}>; rel="next"'
        listing = self.hub.strange or json.dumps(entries[begin : begin + PAGE])
        self.send(200, listing.encode(), **more)


@contextlib.contextmanager
def start_hub() -> Iterator[Hub]:
    """The two servers, without any repository."""
    ports = ceph_rgw.free_port(), ceph_rgw.free_port()
    hub = Hub(*(f"http://127.0.0.1:{port}" for port in ports))
    with contextlib.ExitStack() as stack:
        for port, kind in zip(ports, (_Hub, _Storage), strict=True):
            handler = type(kind.__name__, (kind,), {"hub": hub})
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", port), handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        yield hub
