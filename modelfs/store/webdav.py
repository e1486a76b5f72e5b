"""WebDAV: ``dav://host/path`` over HTTP, ``davs://host/path`` over HTTPS; ``webdav(s)://`` is the same.

A write goes to a temporary name and gets its own by MOVE, which replaces atomically. Exclusive creation is a MOVE with
``Overwrite: F``. Servers look first and rename then (nginx with several workers, Apache), so a claim comes before it:
MKCOL of a collection named after the object, which is one step on every server and fails when it is there. Whoever
finds a claim waits for what its owner makes of it, and takes it away when it is older than any owner lives.

User and password come from ``~/.netrc`` (or the file that ``NETRC`` names), as with curl; a URL may name the user.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import netrc
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from modelfs import limits
from modelfs.errors import (
    AlreadyExistsError,
    ExtraMissingError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    StoreError,
    TransientError,
    UsageError,
)
from modelfs.store.base import Buffer, ObjectInfo, StoreProperties

try:
    import httpx
    from webdav4 import client as dav
except ImportError as missing:
    raise ExtraMissingError("WebDAV needs webdav4: pip install 'modelfs[webdav]'") from missing

for _name in ("httpx", "httpcore"):  # a line for each request, otherwise
    logging.getLogger(_name).setLevel(logging.WARNING)

_TEMPORARY: Final = ".tmp"
_PASSING: Final = frozenset({408, 423, 425, 429})  # of those below 500: timeouts, locked, too many requests


class WebdavStore:
    """Objects as files below a collection, which is made when it is missing. ``timeout``: seconds that the server may
    be silent."""

    def __init__(self, url: str, timeout: float = limits.STORE_REQUEST_TIMEOUT) -> None:
        parts = urlsplit(url)
        if not parts.hostname:
            raise UsageError(f"{parts.scheme}://: no host in the URL")
        user = f"{parts.username}@" if parts.username else ""
        host = f"{parts.hostname}{f':{parts.port}' if parts.port else ''}"
        self.url = f"{parts.scheme}://{user}{host}{parts.path}"
        if parts.password or parts.query:
            raise UsageError(f"{self.url}: no password and no options in a URL (a password goes into ~/.netrc)")
        self.properties = StoreProperties(parts.scheme, writable=True, exclusive_put=True, local=False)
        self._client = dav.Client(
            f"{'https' if parts.scheme.endswith('s') else 'http'}://{host}",
            auth=_login(parts),
            retry=False,
            timeout=httpx.Timeout(timeout, connect=min(timeout, limits.STORE_CONNECT_TIMEOUT)),
            limits=httpx.Limits(max_connections=limits.STORE_CONCURRENCY),
        )
        self._root = unquote(parts.path).strip("/")
        self._made: set[str] = set()

    # -- reading ------------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        with self._translated(key):
            return self._bytes(key, {})

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if length <= 0:
            return b""
        try:
            with self._translated(key):
                return self._bytes(key, {"Range": f"bytes={start}-{start + length - 1}"}, start, length)
        except PermanentError:
            size = self.size(key)  # a range that begins beyond the end is refused by the server
            if size is None or start < size:
                raise
            return b""

    def size(self, key: str) -> int | None:
        try:
            with self._translated(key):
                answer = self._client.request("HEAD", self._path(key), headers={"Accept-Encoding": "identity"})
                return int(answer.headers["Content-Length"])
        except NotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        waiting = [prefix.rstrip("/")]
        while waiting:
            folder = waiting.pop()
            try:
                with self._translated(prefix):
                    found = self._client.ls(self._path(folder), allow_listing_resource=False)
            except NotFoundError:
                continue  # deleted meanwhile, or never there
            for info in found:
                assert isinstance(info, dict)  # `detail` is what ls() does by default
                key = info["name"].strip("/")[len(self._root) :].strip("/")
                if info["type"] == "directory":
                    if key != _TEMPORARY:
                        waiting.append(key)
                    continue
                modified = info["modified"]
                yield ObjectInfo(key, int(info["content_length"]), modified.timestamp() if modified else 0.0)

    def _bytes(self, key: str, headers: dict[str, str], start: int = 0, length: int | None = None) -> bytes:
        headers["Accept-Encoding"] = "identity"
        answer = self._client.request("GET", self._path(key), headers=headers)
        data: bytes = answer.content
        if length is not None and answer.status_code != httpx.codes.PARTIAL_CONTENT:  # a server without ranges
            return data[start : start + length]
        return data

    # -- writing ------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer) -> None:
        with self._translated(key, writing=True), self._written(data) as temporary:
            self._make_folder_of(key)
            self._client.move(temporary, self._path(key), overwrite=True)

    def put_if_absent(self, key: str, data: Buffer) -> None:
        if self.size(key) is not None:
            raise AlreadyExistsError(f"{key} exists in {self.url}", key)
        with self._translated(key, writing=True), self._written(data) as temporary:
            self._make_folder_of(key)
            with self._claimed(key):
                self._client.move(temporary, self._path(key), overwrite=False)

    def delete(self, key: str) -> None:
        with contextlib.suppress(NotFoundError), self._translated(key):
            self._client.remove(self._path(key))

    def close(self) -> None:
        self._client.http.close()

    @contextlib.contextmanager
    def _written(self, data: Buffer) -> Iterator[str]:
        """A file with ``data``; gone afterwards if it still has its temporary name."""
        temporary = self._path(f"{_TEMPORARY}/{uuid.uuid4().hex}")
        self._make_folder_of(f"{_TEMPORARY}/")
        try:
            self._client.request("PUT", temporary, content=bytes(data))
            yield temporary
        except BaseException:
            with contextlib.suppress(dav.ClientError, httpx.HTTPError):
                self._client.remove(temporary)
            raise

    @contextlib.contextmanager
    def _claimed(self, key: str) -> Iterator[None]:
        """Nobody else creates ``key`` meanwhile. AlreadyExistsError when somebody else has."""
        claim = self._path(f"{_TEMPORARY}/claim-{hashlib.sha256(key.encode()).hexdigest()[:32]}")
        given_up = time.monotonic() + limits.WEBDAV_CLAIM
        while True:
            try:
                self._client.mkdir(claim)
                break
            except dav.ResourceAlreadyExists:
                if self.size(key) is not None:
                    raise AlreadyExistsError(f"{key} exists in {self.url}", key) from None
                if time.monotonic() > given_up:  # its owner has died; MOVE still looks whether the object is there
                    self._remove_folder(claim)
                time.sleep(limits.WEBDAV_CLAIM_POLL)
        try:
            yield
        finally:
            self._remove_folder(claim)

    def _remove_folder(self, path: str) -> None:
        with contextlib.suppress(dav.ResourceNotFound):
            self._client.request("DELETE", path, add_trailing_slash=True)

    def _make_folder_of(self, key: str) -> None:
        """The collections above an object, the store's own among them."""
        folder = ""
        for name in self._path(key).split("/")[:-1]:
            folder = f"{folder}/{name}".strip("/")
            if folder not in self._made:
                with contextlib.suppress(dav.ResourceAlreadyExists):
                    self._client.mkdir(folder)
                self._made.add(folder)

    # -- the server ---------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if self._root else key

    @contextlib.contextmanager
    def _translated(self, key: str, *, writing: bool = False) -> Iterator[None]:
        """Foreign exceptions leave as ours."""
        try:
            yield
        except dav.ResourceNotFound as error:
            if writing:
                raise PermanentError(f"{self.url}: {key}: a collection above it is gone", key) from error
            raise NotFoundError(f"{self.url} has no object {key}", key) from error
        except dav.ResourceAlreadyExists as error:
            raise AlreadyExistsError(f"{key} exists in {self.url}", key) from error
        except (dav.ClientError, httpx.HTTPError, httpx.InvalidURL) as error:
            text = " ".join(str(error).split())[:300] or type(error).__name__
            raise _kind(error)(f"{self.url}: {key or 'listing'}: {text}", key) from error
        except RuntimeError as error:  # what httpx says to a thread that comes after `close`
            if not self._client.http.is_closed:
                raise
            raise TransientError(f"{self.url} has been closed", key) from error


def _kind(error: Exception) -> type[StoreError]:
    if isinstance(error, dav.ForbiddenOperation):
        return PermissionDeniedError
    if isinstance(error, dav.BadGatewayError | dav.ResourceLocked | httpx.TransportError):
        return TransientError
    if isinstance(error, dav.HTTPError):
        status = int(error.status_code)
        if status in (401, 403):
            return PermissionDeniedError
        return TransientError if status in _PASSING or status >= 500 else PermanentError
    return PermanentError


def _login(parts: SplitResult) -> Any:
    """User and password for a URL's host; None where ~/.netrc has none. UsageError when it cannot be read."""
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    user = unquote(parts.username or "")
    try:
        found = netrc.netrc(path).authenticators(parts.hostname or "") if path.is_file() else None
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        where = f" line {error.lineno}" if isinstance(error, netrc.NetrcParseError) else ""
        raise UsageError(f"{path}{where} cannot be read as a netrc file") from error
    if found is None or (user and found[0] != user):
        return (user, "") if user else None
    return (found[0], found[2] or "")
