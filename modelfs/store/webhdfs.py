"""HDFS over HTTP: the REST interface that every NameNode has, and gateways such as HttpFS.

A NameNode sends data requests on to a DataNode by a redirect, whose host name must be known here. Renames go with
``renameoptions``, which lets them replace or refuse; the plain rename of gateways that do not know the option refuses
as well, by "false". There is no Kerberos here: a cluster that asks for it is reached through ``hdfs://``.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote, urlencode

from modelfs import limits
from modelfs.errors import ExtraMissingError
from modelfs.store.base import Buffer
from modelfs.store.hdfs import Entry, JavaError

try:
    import urllib3
    from urllib3.exceptions import HTTPError
except ImportError as missing:
    raise ExtraMissingError("webhdfs:// needs urllib3: pip install 'modelfs[hdfs]'") from missing

_PASSING: Final = frozenset({408, 429})


class WebClient:
    """``user``: as whom to act. ``timeout``: seconds that one request waits for each answer."""

    def __init__(self, host: str, port: int, user: str, timeout: float) -> None:
        name = f"[{host}]" if ":" in host else host
        self._base = f"http://{name}:{port}/webhdfs/v1"
        self._user = user
        self._pool = urllib3.PoolManager(
            maxsize=limits.STORE_CONCURRENCY,
            retries=False,
            timeout=urllib3.Timeout(connect=min(timeout, limits.STORE_CONNECT_TIMEOUT), read=timeout),
            headers={"User-Agent": "modelfs"},
        )

    def read(self, path: str, start: int, length: int | None) -> bytes:
        wanted: dict[str, Any] = {} if length is None else {"length": length}
        if start:
            wanted["offset"] = start
        try:
            location = self._ask("GET", path, "OPEN", **wanted)
            return self._send("GET", location)
        except JavaError:
            if start and start >= self.length(path):  # an offset at or beyond the end is refused
                return b""
            raise

    def length(self, path: str) -> int:
        status = self._json("GET", path, "GETFILESTATUS")["FileStatus"]
        if status["type"] != "FILE":
            raise FileNotFoundError(f"{path} is a directory")
        return int(status["length"])

    def entries(self, path: str) -> list[Entry]:
        found = []
        for status in self._json("GET", path, "LISTSTATUS")["FileStatuses"]["FileStatus"]:
            name = f"{path.rstrip('/')}/{status['pathSuffix']}" if status["pathSuffix"] else path  # "": a file itself
            directory = status["type"] == "DIRECTORY"
            found.append(Entry(name, directory, int(status["length"]), status["modificationTime"] / 1000))
        return found

    def make_directory(self, path: str) -> None:
        if not self._json("PUT", path, "MKDIRS").get("boolean"):
            raise OSError(f"{path} was not made")

    def write(self, path: str, data: Buffer) -> None:
        location = self._ask("PUT", path, "CREATE", overwrite="true")
        self._send("PUT", location, bytes(data))
        # DataNodes say "created" even when closing the file failed.
        if self.length(path) != len(data):
            raise OSError(f"{path} is not complete")

    def rename(self, source: str, target: str, *, replace: bool) -> None:
        option = "OVERWRITE" if replace else "NONE"
        if self._json("PUT", source, "RENAME", destination=target, renameoptions=option).get("boolean", True):
            return
        self.length(target)
        if replace:
            raise ValueError("this server cannot rename over an object; use the NameNode's own address")
        raise FileExistsError(f"{target} exists")

    def delete(self, path: str) -> None:
        self._json("DELETE", path, "DELETE")

    def close(self) -> None:
        self._pool.clear()

    def _json(self, method: str, path: str, operation: str, **parameters: Any) -> dict[str, Any]:
        body = self._ask(method, path, operation, **parameters)
        found = json.loads(body or "{}")
        if not isinstance(found, dict):
            raise OSError(f"not an answer of WebHDFS: {body[:100]}")
        return found

    def _ask(self, method: str, path: str, operation: str, **parameters: Any) -> str:
        """The NameNode's answer: the place that it redirects to, else its text."""
        query = urlencode({"op": operation, "user.name": self._user, **parameters})
        response = self._request(method, f"{self._base}{quote(path)}?{query}")
        return response.headers.get("Location") or response.data.decode()

    def _send(self, method: str, location: str, data: bytes | None = None) -> bytes:
        if not location.startswith(("http://", "https://")):
            raise OSError("the NameNode names no DataNode")
        return self._request(method, location, data).data

    def _request(self, method: str, url: str, data: bytes | None = None) -> urllib3.BaseHTTPResponse:
        headers = {"Content-Type": "application/octet-stream"} if data is not None else None
        try:
            response = self._pool.request(method, url, body=data, headers=headers, redirect=False)
        except HTTPError as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        if response.status >= 400:
            raise _failure(response.status, response.data)
        return response


def _failure(status: int, body: bytes) -> Exception:
    try:
        remote = json.loads(body)["RemoteException"]
        kind, message = str(remote["exception"]), str(remote["message"])
    except (ValueError, KeyError, TypeError):
        text = f"HTTP status {status}"
        if status in (401, 403):
            return PermissionError(text)
        return OSError(text) if status >= 500 or status in _PASSING else ValueError(text)
    if kind == "FileNotFoundException":
        return FileNotFoundError(message)
    if kind == "FileAlreadyExistsException":
        return FileExistsError(message)
    return JavaError(kind, message)
