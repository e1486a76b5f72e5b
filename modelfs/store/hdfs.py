"""HDFS as a store: ``hdfs://`` by its own protocol (`hdfsnative`), ``webhdfs://`` over HTTP (`webhdfs`).

HDFS creates a file exclusively, but shows it while it is written, and a writer that dies leaves a part of it. So an
object is written under a temporary name, closed, and renamed. The NameNode carries out a rename under the lock of its
name space and as one entry of its log: over what is there (an object of the key before is there until it is replaced),
or, for an exclusive creation, only when nothing is there.

A rename whose answer was lost is not known to have happened. It leaves as TransientError, and `retry` compares.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import posixpath
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from modelfs import limits
from modelfs.errors import (
    AlreadyExistsError,
    ModelfsError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    StoreError,
    TransientError,
    UsageError,
)
from modelfs.store.base import Buffer, ObjectInfo, StoreProperties

_WEB_PORT: Final = 9870  # of a NameNode since Hadoop 3
_TEMPORARY: Final = ".tmp"
# Exceptions of NameNodes and DataNodes, by the last part of their class's name.
_REFUSED: Final = frozenset(
    {"AccessControlException", "AuthorizationException", "AuthenticationException", "InvalidToken", "SecurityException"}
)
_PASSING: Final = frozenset(
    {
        *("StandbyException", "RetriableException", "SafeModeException", "ObserverRetryOnActiveException"),
        *("IOException", "EOFException", "InterruptedIOException", "ConnectException", "NoRouteToHostException"),
        *("SocketTimeoutException", "SocketException", "LeaseExpiredException", "NotReplicatedYetException"),
        *("RecoveryInProgressException", "BlockMissingException"),
    }
)


class JavaError(Exception):
    """An exception of Hadoop's that has no counterpart in Python. ``kind``: its class, with or without the package."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind.rpartition(".")[2].rpartition("$")[2]

    def __str__(self) -> str:
        return f"{self.kind}: {self.args[0]}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or directory. ``size`` in bytes, ``mtime`` in seconds since the epoch."""

    path: str
    directory: bool
    size: int
    mtime: float


class Client(Protocol):
    """A way to talk to HDFS. Paths are absolute.

    FileNotFoundError, FileExistsError and PermissionError mean what they say, ValueError what no second attempt will
    mend; JavaError is judged by its kind; any other OSError, TimeoutError among them, is taken to pass.
    """

    def read(self, path: str, start: int, length: int | None) -> bytes:
        """At most ``length`` bytes, None: all; b"" at or beyond the end."""

    def length(self, path: str) -> int:
        """Of a file, in bytes. FileNotFoundError for a directory too."""

    def entries(self, path: str) -> list[Entry]:
        """What is in a directory; of a file, itself."""

    def make_directory(self, path: str) -> None:
        """With its parents; nothing happens when it is there."""

    def write(self, path: str, data: Buffer) -> None:
        """A file, complete and closed, over one that an earlier attempt may have left half-written."""

    def rename(self, source: str, target: str, *, replace: bool) -> None:
        """Atomically; FileExistsError when ``target`` is there and is not to be replaced."""

    def delete(self, path: str) -> None:
        """A file; nothing happens when it is missing."""

    def close(self) -> None: ...


class HdfsStore:
    """Objects as files below ``root``."""

    def __init__(self, url: str, root: str, client: Client) -> None:
        self.url = url
        self.properties = StoreProperties(url.partition("://")[0], writable=True, exclusive_put=True, local=False)
        self._root = root.rstrip("/")
        self._client = client
        self._made: set[str] = set()

    def get(self, key: str) -> bytes:
        with self._translated(key):
            return self._client.read(self._path(key), 0, None)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if length <= 0:
            return b""
        with self._translated(key):
            return self._client.read(self._path(key), start, length)

    def size(self, key: str) -> int | None:
        try:
            with self._translated(key):
                return self._client.length(self._path(key))
        except NotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        found = []
        folders = [f"{self._root}/{prefix}".rstrip("/") or "/"]
        while folders:
            with contextlib.suppress(NotFoundError), self._translated(prefix):
                for entry in self._client.entries(folders.pop()):
                    key = entry.path[len(self._root) + 1 :]
                    if entry.directory and key != _TEMPORARY:
                        folders.append(entry.path)
                    elif not entry.directory and key.startswith(prefix):
                        found.append(ObjectInfo(key, entry.size, entry.mtime))
        yield from sorted(found, key=lambda info: info.key)

    def put(self, key: str, data: Buffer) -> None:
        self._publish(key, data, replace=True)

    def put_if_absent(self, key: str, data: Buffer) -> None:
        if self.size(key) is not None:  # saves the bytes' way; the rename decides
            raise AlreadyExistsError(f"{key} exists in {self.url}", key)
        self._publish(key, data, replace=False)

    def delete(self, key: str) -> None:
        with self._translated(key):
            self._client.delete(self._path(key))

    def close(self) -> None:
        self._client.close()

    def _publish(self, key: str, data: Buffer, *, replace: bool) -> None:
        temporary = f"{self._root}/{_TEMPORARY}/{uuid.uuid4().hex}"
        folder = posixpath.dirname(self._path(key))
        with self._translated(key, writing=True):
            try:
                self._make_directory(posixpath.dirname(temporary))
                self._client.write(temporary, data)
                self._make_directory(folder)
                self._client.rename(temporary, self._path(key), replace=replace)
            except (FileExistsError, FileNotFoundError, PermissionError, JavaError):
                self._made.clear()  # somebody may have removed a directory
                with contextlib.suppress(Exception):  # not after a time-out: it would be another one
                    self._client.delete(temporary)
                raise

    def _make_directory(self, path: str) -> None:
        if path not in self._made:
            self._client.make_directory(path)
            self._made.add(path)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    @contextlib.contextmanager
    def _translated(self, key: str, *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except ModelfsError:
            raise
        except Exception as error:
            # Stack traces of Java follow in the lines after the first.
            text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise _kind(error, writing=writing)(f"{self.url}: {key or 'listing'}: {text}", key) from error


def _kind(error: Exception, *, writing: bool) -> type[StoreError]:
    missing: type[StoreError] = (
        TransientError if writing else NotFoundError
    )  # the rename of a temporary file that is not there any more
    if isinstance(error, FileExistsError):
        return AlreadyExistsError
    if isinstance(error, FileNotFoundError):
        return missing
    if isinstance(error, PermissionError):
        return PermissionDeniedError
    if isinstance(error, OSError):
        return TransientError
    if isinstance(error, JavaError):
        # A parent that is a file; which of the two is said depends on the version.
        if error.kind == "ParentNotDirectoryException" or "is not a directory" in str(error):
            return PermanentError if writing else NotFoundError
        if error.kind in _REFUSED:
            return PermissionDeniedError
        if error.kind in _PASSING:
            return TransientError
    return PermanentError


def open_hdfs(url: str, timeout: float = limits.STORE_REQUEST_TIMEOUT) -> HdfsStore:
    """The store at ``url``. ``timeout``: seconds that one request may take. UsageError for what is wrong with the URL,
    ExtraMissingError when the library is not installed."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    shown = f"{parts.scheme}://{f'{parts.username}@' if parts.username else ''}{host}{parts.path}"
    if not parts.hostname:
        raise UsageError(f"{shown}: no host in the URL")
    if parts.password or parts.query:
        raise UsageError(f"{shown}: neither a password nor options belong into the URL")
    try:
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{shown}: {error}") from error
    root = unquote(parts.path)
    if parts.scheme == "webhdfs":
        from modelfs.store.webhdfs import WebClient

        user = unquote(parts.username or "") or os.environ.get("HADOOP_USER_NAME") or getpass.getuser()
        return HdfsStore(shown, root, WebClient(parts.hostname, port or _WEB_PORT, user, timeout))
    if parts.username:
        raise UsageError(f"{shown}: the user of hdfs:// is that of the Kerberos ticket, or HADOOP_USER_NAME")
    from modelfs.store.hdfsnative import NativeClient

    return HdfsStore(shown, root, NativeClient(parts.hostname, port, timeout))
