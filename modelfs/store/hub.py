"""Repositories of the Hugging Face Hub, to read: ``hf://ORG/NAME[@REVISION][/PATH]``, ``hf://datasets/ORG/NAME``.

The Hub's documented HTTP interface (https://huggingface.co/docs/hub/api) and nothing of its library, whose releases
change what HTTP client they stand on. A revision is pinned to its commit at the first contact, and `HubStore.url` says
so from then on: all that is read is of one commit. ``HF_ENDPOINT`` names another server, ``HF_TOKEN`` or the file that
``hf auth login`` writes holds the token; it is sent to that server and to no other, wherever it redirects to.
"""

from __future__ import annotations

import json
import os
import re
import threading
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urljoin, urlsplit

from modelfs import limits
from modelfs.errors import (
    ExtraMissingError,
    NotFoundError,
    PermanentError,
    ReadOnlyError,
    TransientError,
    UnreachableError,
    UsageError,
)
from modelfs.store.base import Buffer, ObjectInfo, StoreProperties

try:
    import urllib3
    from urllib3.exceptions import HTTPError, MaxRetryError
except ImportError as missing:
    raise ExtraMissingError("hf:// needs urllib3: pip install 'modelfs[hf]'") from missing

_KINDS: Final = ("datasets", "spaces")  # models have no word in addresses
_PULL: Final = re.compile(r"refs/(?:pr|convert)/[^/]+")  # revisions of more than one part
_PASSING: Final = frozenset({408, 425, 429})
_HERE: Final = urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5)


class HubStore:
    """The files of one commit of a repository, below a path. ``timeout``: seconds that one request waits for each
    answer. UsageError when the repository or the revision is not there, or the token does not let us in."""

    def __init__(self, url: str, timeout: float = limits.STORE_REQUEST_TIMEOUT) -> None:
        self._kind, self._name, self._revision, self._root = _parts(url)
        self.properties = StoreProperties("hf", writable=False, exclusive_put=False, local=False)
        self._endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        self._token = _token()
        self._commit = ""
        self._lock = threading.Lock()
        waiting = urllib3.Timeout(connect=min(timeout, limits.STORE_CONNECT_TIMEOUT), read=timeout)
        self._pool = _pool(self._endpoint, maxsize=limits.STORE_CONCURRENCY, timeout=waiting, retries=_HERE)

    @property
    def url(self) -> str:
        """With the hash of the commit, once it is known."""
        kind = f"{self._kind}/" if self._kind else ""
        revision = f"@{self._commit or quote(self._revision, safe='')}" if self._commit or self._revision else ""
        return f"hf://{kind}{self._name}{revision}{f'/{self._root}' if self._root else ''}"

    def get(self, key: str) -> bytes:
        return self._ask("GET", self._address(key), key).data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if length <= 0:
            return b""
        asked = {"Range": f"bytes={start}-{start + length - 1}"}
        answer = self._ask("GET", self._address(key), key, asked, load=False)
        try:
            if answer.status == 416:  # it begins at the end or beyond
                return b""
            if answer.status == 206:
                return answer.read()
            size = int(answer.headers.get("Content-Length", start + length + 1))
            if size > start + length:
                raise PermanentError(f"{self.url}: {key}: the server does not serve ranges", key)
            return answer.read()[start:]
        except HTTPError as error:
            raise self._interrupted(error, key) from error
        finally:
            answer.release_conn()

    def size(self, key: str) -> int | None:
        address = self._address(key)
        for _ in range(_HERE.redirect or 0):
            try:  # the answer of the Hub itself says it of large files, whose bytes are elsewhere
                answer = self._ask("HEAD", address, key, redirect=False)
            except NotFoundError:
                return None
            size = answer.headers.get("X-Linked-Size")
            target = urlsplit(answer.get_redirect_location() or "")
            if size is None and target.path and not target.netloc:  # the repository has another name by now
                address = f"{self._endpoint}{target.geturl()}"
                continue
            size = size or (None if target.path else answer.headers.get("Content-Length"))
            if size is None:
                break
            return int(size)
        raise PermanentError(f"{self.url}: {key}: the server does not say how large it is", key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder = "/".join(part for part in (self._root, prefix.strip("/")) if part)
        address = self._interface(f"tree/{self._pinned()}{f'/{quote(folder)}' if folder else ''}")
        following: str | None = f"{address}?recursive=true&expand=true"  # expand: when each file was changed
        above = len(self._root) + 1 if self._root else 0
        while following:
            try:
                answer = self._ask("GET", following, prefix)
            except NotFoundError:
                return
            try:
                yield from [_info(entry, above) for entry in self._json(answer, list) if entry["type"] == "file"]
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise self._strange() from error
            following = self._next(answer)

    def put(self, key: str, data: Buffer) -> None:
        raise ReadOnlyError(f"{self.url} is read-only", key)

    def put_if_absent(self, key: str, data: Buffer) -> None:
        raise ReadOnlyError(f"{self.url} is read-only", key)

    def delete(self, key: str) -> None:
        raise ReadOnlyError(f"{self.url} is read-only", key)

    def close(self) -> None:
        self._pool.clear()

    # -- addresses ----------------------------------------------------------------------------------------------

    def _interface(self, what: str) -> str:
        return f"{self._endpoint}/api/{self._kind or 'models'}/{self._name}/{what}"

    def _address(self, key: str) -> str:
        kind = f"{self._kind}/" if self._kind else ""
        path = f"{self._root}/{key}" if self._root else key
        return f"{self._endpoint}/{kind}{self._name}/resolve/{self._pinned()}/{quote(path)}"

    def _pinned(self) -> str:
        """Hash of the commit that the revision names."""
        with self._lock:
            if not self._commit:
                address = self._interface(f"revision/{quote(self._revision or 'main', safe='')}")
                found = self._json(self._ask("GET", address, ""), dict).get("sha")
                if not isinstance(found, str) or not re.fullmatch(r"[0-9a-f]{40,64}", found):
                    raise self._strange()
                self._commit = found
            return self._commit

    def _next(self, answer: urllib3.BaseHTTPResponse) -> str | None:
        """Where a listing goes on, which must be on the same server, as the token goes there."""
        found = re.search(r'<([^>]+)>\s*;\s*rel="?next"?', answer.headers.get("Link", ""))
        if found is None:
            return None
        address: str = urljoin(f"{self._endpoint}/", str(found[1]))
        if urlsplit(address)[:2] != urlsplit(self._endpoint)[:2]:
            raise PermanentError(f"{self.url}: the listing goes on at another server")
        return address

    # -- requests -----------------------------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        address: str,
        key: str,
        headers: dict[str, str] | None = None,
        *,
        redirect: bool = True,
        load: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        sent = {"User-Agent": "modelfs", "Accept-Encoding": "identity", **(headers or {})}
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        try:
            answer = self._pool.request(method, address, headers=sent, redirect=redirect, preload_content=load)
        except HTTPError as error:
            raise self._interrupted(error, key) from error
        if answer.status >= 400 and answer.status != 416:
            answer.drain_conn()
            raise self._refused(answer, key)
        return answer

    def _json(self, answer: urllib3.BaseHTTPResponse, kind: type) -> Any:
        try:
            found = json.loads(answer.data)
        except ValueError:
            found = None
        if not isinstance(found, kind):
            raise self._strange()
        return found

    def _strange(self) -> UsageError:
        return UsageError(f"{self.url}: {self._endpoint} does not answer as the Hub does")

    def _interrupted(self, error: HTTPError, key: str) -> TransientError:
        reason = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
        return TransientError(f"{self.url}: {key or 'listing'}: {' '.join(str(reason).split())[:300]}", key)

    def _refused(self, answer: urllib3.BaseHTTPResponse, key: str) -> Exception:
        code, text = answer.headers.get("X-Error-Code", ""), answer.headers.get("X-Error-Message", "")
        said = f"HTTP status {answer.status}{f', {text}' if text else ''}"[:300]
        if answer.status >= 500 or answer.status in _PASSING:
            return TransientError(f"{self.url}: {key or 'listing'}: {said}", key)
        if code == "GatedRepo":
            page = f"{self._endpoint}/{f'{self._kind}/' if self._kind else ''}{self._name}"
            return UnreachableError(f"{self.url}: access has to be asked for at {page} ({self._who()})")
        if code == "RevisionNotFound":
            return UsageError(f"{self.url}: there is no revision {self._revision or 'main'}")
        if code == "EntryNotFound":
            return NotFoundError(f"{self.url} has no file {key}", key)
        if answer.status == 401 and text.startswith("Invalid credentials"):
            return UnreachableError(f"{self.url}: the token is refused ({self._who()})")
        if code == "RepoNotFound" or answer.status == 401 or (answer.status == 404 and not self._commit):
            return UsageError(f"{self.url}: there is no such repository, or it is private ({self._who()})")
        if answer.status == 404:
            return NotFoundError(f"{self.url} has no file {key}", key)
        if answer.status == 403:
            return UnreachableError(f"{self.url}: {said} ({self._who()})")
        return PermanentError(f"{self.url}: {key or 'listing'}: {said}", key)

    def _who(self) -> str:
        return "asked with the token at hand" if self._token else "asked without a token: HF_TOKEN, or `hf auth login`"


def _info(entry: dict[str, Any], above: int) -> ObjectInfo:
    """What a listing says of a file; ``above`` characters of its path are not ours."""
    changed = (entry.get("lastCommit") or {}).get("date")
    moment = datetime.fromisoformat(changed).timestamp() if changed else 0.0
    return ObjectInfo(str(entry["path"])[above:], int(entry["size"]), moment)


def _parts(url: str) -> tuple[str, str, str, str]:
    """Kind, name, revision ("": the default) and path that a URL says."""
    rest = url.partition("://")[2].strip("/")
    kind, _, below = rest.partition("/")
    if kind in _KINDS:
        rest = below
    else:
        kind = ""
    before, at, after = rest.partition("@")
    names = before.split("/")
    if at and len(names) <= 2:
        found = _PULL.match(after)
        revision = found[0] if found else after.partition("/")[0]
        path = after[len(revision) :].strip("/")
        if not revision:
            raise UsageError(f"hf://{rest}: no revision after the @")
    else:  # an @ further on is of a file's name
        names, revision, path = rest.split("/")[:2], "", "/".join(rest.split("/")[2:])
    if not all(re.fullmatch(r"[\w.-]+", name) for name in names) or any(name in (".", "..") for name in names):
        raise UsageError(f"{url}: hf://ORG/NAME, hf://ORG/NAME@REVISION or hf://datasets/ORG/NAME is expected")
    return kind, "/".join(names), unquote(revision), unquote(path)


def _token() -> str:
    """The user's token, from where the Hub's own tools keep it; "": none."""
    if os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in ("1", "ON", "YES", "TRUE"):
        return ""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if found := os.environ.get(name, "").strip():
            return found
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    try:
        return Path(os.environ.get("HF_TOKEN_PATH") or f"{home}/token").expanduser().read_text().strip()
    except OSError:
        return ""


def _pool(endpoint: str, **options: Any) -> urllib3.PoolManager:
    """Connections, by the proxy that the environment names."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"HF_ENDPOINT: {endpoint!r} is no http(s) address")
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.netloc):
        return urllib3.ProxyManager(proxy, **options)
    return urllib3.PoolManager(**options)
