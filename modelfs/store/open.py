"""URL -> store: the only way in, and the first contact.

A plain path or ``file://`` is a local directory, ``memory://`` this process, ``s3:// gs:// az:// http(s)://`` go
through obstore, ``dav(s)://`` through webdav4, ``hdfs://`` through hdfs-native, ``webhdfs://`` and ``hf://`` over HTTP,
databases through SQLAlchemy, every other scheme through fsspec. A store on the network is asked one question before it
is handed out, so that a wrong address or wrong credentials are one line within ``STORE_OPEN_TIMEOUT`` seconds.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from modelfs import limits
from modelfs.errors import ModelfsError, PermissionDeniedError, StoreError, UnreachableError, UsageError
from modelfs.store.base import Store
from modelfs.store.local import LocalStore
from modelfs.store.memory import MemoryStore
from modelfs.store.retry import SMALL_OBJECT, RetryStore

_DATABASES: Final = ("sqlite", "postgresql", "mysql", "mariadb", "oracle")
_WEBDAV: Final = ("dav", "davs", "webdav", "webdavs")
_HDFS: Final = ("hdfs", "webhdfs")


def open_store(url: str, *, create: bool = False, timeout: float = limits.STORE_RETRY_BUDGET) -> RetryStore:
    """The store at ``url``, reachable. ``create`` makes the directory of a local one. ``timeout``: seconds that one
    operation is tried, and the longest that one request of it may take.

    UsageError (UnreachableError, ExtraMissingError among them) says in one line what is wrong with the argument.
    """
    if not url:
        raise UsageError("the store's URL is empty")
    backend = open_backend(url, create=create, timeout=min(timeout, limits.STORE_REQUEST_TIMEOUT))
    if not backend.properties.local:
        _contact(RetryStore(backend, attempts=limits.STORE_ATTEMPTS))
    return RetryStore(backend, budget=timeout)


def redact_url(url: str) -> str:
    """``url`` without password and query (but the table of a database), for logs and people."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = parts.username
    query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name == "table"])
    return f"{parts.scheme}://{f'{user}@' if user else ''}{host}{parts.path}{f'?{query}' if query else ''}"


def open_backend(url: str, *, create: bool = False, timeout: float = limits.STORE_REQUEST_TIMEOUT) -> Store:
    """The backend for ``url`` as it is: no retries, no first contact. `open_store` is what callers want."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalStore(Path(url).expanduser().absolute(), create=create)
    scheme = scheme.lower()
    if scheme == "file":
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise UsageError(f"{url}: a file URL has three slashes and an absolute path")
        return LocalStore(Path(unquote(parts.path)), create=create)
    if scheme == "memory":
        return MemoryStore(rest.strip("/"))
    if scheme in _DATABASES:
        from modelfs.store.sql import SqlStore

        return SqlStore(url, timeout, create=create)
    if scheme in _WEBDAV:
        from modelfs.store.webdav import WebdavStore

        return WebdavStore(url, timeout)
    if scheme in _HDFS:
        from modelfs.store.hdfs import open_hdfs

        return open_hdfs(url, timeout)
    if scheme == "hf":
        from modelfs.store.hub import HubStore

        return HubStore(url, timeout)
    from modelfs.store import objectstore  # 30 ms that a local store need not pay

    if scheme in objectstore.SCHEMES:
        if not urlsplit(url).netloc:
            raise UsageError(f"{redact_url(url)}: no bucket or host in the URL")
        return objectstore.ObjectStoreBackend(url, timeout)
    from modelfs.store.fsspecstore import open_fsspec

    return open_fsspec(url, timeout)


def _contact(store: RetryStore) -> None:
    """Ask for one object. A library that hangs in there is left behind in its thread."""
    failure: list[Exception] = []

    def ask() -> None:
        try:
            store.size(SMALL_OBJECT)
        except Exception as error:  # noqa: BLE001  # handed over to the caller's thread, which judges it
            failure.append(error)

    thread = threading.Thread(target=ask, name="first contact", daemon=True)
    thread.start()
    thread.join(limits.STORE_OPEN_TIMEOUT)
    if thread.is_alive():
        store.close()
        raise UnreachableError(f"{store.url} does not answer within {limits.STORE_OPEN_TIMEOUT:.0f} s")
    if not failure:
        return
    store.close()
    error = failure[0]
    if isinstance(error, PermissionDeniedError):
        raise UnreachableError(f"{store.url} refuses these credentials ({error})") from error
    if isinstance(error, StoreError):
        raise UnreachableError(f"cannot reach {store.url}: {error}") from error
    if isinstance(error, ModelfsError):
        raise error
    raise UnreachableError(f"cannot reach {store.url}: {type(error).__name__}: {error}") from error
