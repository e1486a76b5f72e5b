"""Any other fsspec file system as a store, with exclusive creation only where it is known to be right.

fsspec promises neither atomic writes nor exclusive creation. So a write goes to a temporary name and is renamed, and
``properties.exclusive_put`` is True only for backends with a `Naming` of their own (SFTP). File system objects are
lent to one thread at a time from a small pool, because many (paramiko's among them) are not safe to share; one that
failed is thrown away and its connection with it.
"""

from __future__ import annotations

import contextlib
import errno
import posixpath
import queue
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import fsspec
from fsspec import AbstractFileSystem

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

_TEMPORARY: Final = ".tmp"
_EXTRAS: Final = {"sftp": "sftp", "ssh": "sftp"}
_PASSING: Final = frozenset(
    {errno.EAGAIN, errno.EIO, errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.ECONNREFUSED, errno.ECONNABORTED}
)


class Naming(Protocol):
    """How a backend gives a finished temporary file its name."""

    def replace(self, fs: AbstractFileSystem, source: str, target: str) -> None:
        """Atomically, over whatever is there."""

    def create(self, fs: AbstractFileSystem, source: str, target: str) -> None:
        """Atomically, or AlreadyExistsError."""


class FsspecStore:
    """Objects as files below ``root`` of the file systems that ``connect`` makes."""

    def __init__(
        self, url: str, root: str, connect: Callable[[], AbstractFileSystem], scheme: str, naming: Naming | None = None
    ) -> None:
        self.url = url
        self.properties = StoreProperties(scheme, writable=True, exclusive_put=naming is not None, local=False)
        self._root = root.rstrip("/")
        self._connect = connect
        self._naming = naming
        self._idle: queue.LifoQueue[AbstractFileSystem] = queue.LifoQueue()
        self._slots = threading.BoundedSemaphore(limits.FSSPEC_CONNECTIONS)
        self._made: set[str] = set()

    # -- reading ------------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        with self._lent(key) as fs:
            return bytes(fs.cat_file(self._path(key)))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if length <= 0:
            return b""
        with self._lent(key) as fs, fs.open(self._path(key), "rb", cache_type="none") as file:
            file.seek(start)
            return bytes(file.read(length))

    def size(self, key: str) -> int | None:
        found = self.info(key)
        return None if found is None else found.size

    def info(self, key: str) -> ObjectInfo | None:
        """Size and modification time of an object, None when it does not exist."""
        try:
            with self._lent(key) as fs:
                found = fs.info(self._path(key))
                return ObjectInfo(key, int(found["size"]), _modified(found))
        except NotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        top = self._path(prefix.rstrip("/")) if prefix else self._root
        try:
            with self._lent(prefix) as fs:
                fs.invalidate_cache()
                found = fs.find(top, detail=True)
        except NotFoundError:
            return
        base = fs._strip_protocol(self._root).strip("/")
        for path, info in found.items():
            key = path.strip("/")[len(base) :].strip("/") if base else path.strip("/")
            if not key.startswith(f"{_TEMPORARY}/"):
                yield ObjectInfo(key, int(info["size"]), _modified(info))

    # -- writing ------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer) -> None:
        with self._lent(key, writing=True) as fs:
            if self._naming is None:
                self._make_directory(fs, posixpath.dirname(self._path(key)))
                fs.pipe_file(self._path(key), bytes(data))
                return
            with self._written(fs, data) as temporary:
                self._make_directory(fs, posixpath.dirname(self._path(key)))
                self._naming.replace(fs, temporary, self._path(key))

    def put_if_absent(self, key: str, data: Buffer) -> None:
        with self._lent(key, writing=True) as fs:
            if fs.exists(self._path(key)):
                raise AlreadyExistsError(f"{key} exists in {self.url}", key)
            if self._naming is None:
                # Not exclusive between two writers, as `properties` says: only --single-writer comes here.
                self._make_directory(fs, posixpath.dirname(self._path(key)))
                fs.pipe_file(self._path(key), bytes(data))
                return
            with self._written(fs, data) as temporary:
                self._make_directory(fs, posixpath.dirname(self._path(key)))
                self._naming.create(fs, temporary, self._path(key))

    def delete(self, key: str) -> None:
        with contextlib.suppress(NotFoundError), self._lent(key) as fs:
            fs.rm_file(self._path(key))

    def close(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                _disconnect(self._idle.get_nowait())

    @contextlib.contextmanager
    def _written(self, fs: AbstractFileSystem, data: Buffer) -> Iterator[str]:
        folder = f"{self._root}/{_TEMPORARY}"
        self._make_directory(fs, folder)
        temporary = f"{folder}/{uuid.uuid4().hex}"
        try:
            with fs.open(temporary, "wb") as file:
                file.write(data)
            yield temporary
        except BaseException:
            with contextlib.suppress(Exception):
                fs.rm_file(temporary)
            raise

    def _make_directory(self, fs: AbstractFileSystem, path: str) -> None:
        if path not in self._made:
            fs.makedirs(path, exist_ok=True)
            self._made.add(path)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    @contextlib.contextmanager
    def _lent(self, key: str, *, writing: bool = False) -> Iterator[AbstractFileSystem]:
        """A file system for this thread alone; foreign exceptions leave as ours."""
        with self._slots:
            fs = None
            try:
                try:
                    fs = self._idle.get_nowait()
                except queue.Empty:
                    fs = self._connect()
                yield fs
            except Exception as error:
                translated = _translated(error, self.url, key, writing=writing)
                if fs is not None and isinstance(translated, TransientError):
                    _disconnect(fs)
                    fs = None
                if translated is error:
                    raise
                raise translated from error
            finally:
                if fs is not None:
                    self._idle.put(fs)


def open_fsspec(url: str, timeout: float = limits.STORE_REQUEST_TIMEOUT) -> FsspecStore:
    """The store at an fsspec URL; ExtraMissingError when its library is not installed."""
    parts = urlsplit(url)
    scheme = parts.scheme
    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        hint = f"pip install 'modelfs[{extra}]'" if extra else str(error)
        raise ExtraMissingError(f"{scheme}:// needs another library: {hint}") from error
    except ValueError as error:
        raise UsageError(f"{scheme}:// is no kind of store that modelfs or fsspec knows") from error
    host = parts.netloc.rpartition("@")[2]
    shown = f"{scheme}://{f'{parts.username}@' if parts.username else ''}{host}{parts.path}"
    if scheme in ("sftp", "ssh"):
        from modelfs.store.sftp import SftpNaming, connect

        return FsspecStore(shown, parts.path, lambda: connect(parts, timeout), scheme, SftpNaming())
    arguments: dict[str, Any] = kind._get_kwargs_from_urls(url)
    root = str(kind._strip_protocol(url))
    return FsspecStore(shown, root, lambda: kind(**arguments, skip_instance_cache=True), scheme)


def _disconnect(fs: AbstractFileSystem) -> None:
    client = getattr(fs, "client", None)
    if client is not None:
        with contextlib.suppress(Exception):
            client.close()


def _modified(info: dict[str, Any]) -> float:
    moment = info.get("mtime") or info.get("modified")
    if isinstance(moment, datetime):
        return moment.timestamp()
    return float(moment) if isinstance(moment, int | float) else 0.0


def _translated(error: Exception, url: str, key: str, *, writing: bool) -> Exception:
    if isinstance(error, StoreError | UsageError):
        return error
    what = f"{url}: {key or 'listing'}: {' '.join(str(error).split())[:300] or type(error).__name__}"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return PermanentError(what, key) if writing else NotFoundError(what, key)
    if isinstance(error, PermissionError):
        return PermissionDeniedError(what, key)
    if isinstance(error, EOFError | TimeoutError | ConnectionError):
        return TransientError(what, key)
    if isinstance(error, OSError):
        return (TransientError if error.errno in _PASSING or error.errno is None else PermanentError)(what, key)
    if type(error).__module__.partition(".")[0] in ("paramiko", "requests", "aiohttp", "urllib3"):
        return TransientError(what, key)
    return PermanentError(what, key)
