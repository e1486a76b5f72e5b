"""S3, Google Cloud Storage, Azure Blob and HTTP(S) through obstore: Rust, no GIL held, one connection pool.

Credentials come from where each service's own tools look (environment, ``~/.aws``, instance metadata), never from
the URL. What is not secret may stand in the URL's query: ``endpoint``, ``region`` and ``anonymous``, as in
``s3://bucket/prefix?endpoint=http://10.0.0.5:7480``. HTTP is read-only. Every object goes up in one request, because
a multipart completion ignores the condition of an exclusive creation. obstore's own retries are off: `retry` does it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore import exceptions as oe
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from modelfs import limits
from modelfs.errors import (
    AlreadyExistsError,
    ExtraMissingError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    ReadOnlyError,
    StoreError,
    TransientError,
    UsageError,
)
from modelfs.store.base import Buffer, ObjectInfo, StoreProperties

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, ObjectStore, RetryConfig, S3Config

T = TypeVar("T")

SCHEMES: Final = ("s3", "gs", "gcs", "az", "azure", "abfs", "http", "https")
_OPTIONS: Final = ("endpoint", "region", "anonymous")

_ERRORS: Final[dict[type[oe.BaseError], type[StoreError]]] = {
    oe.AlreadyExistsError: AlreadyExistsError,
    oe.PreconditionError: AlreadyExistsError,
    oe.PermissionDeniedError: PermissionDeniedError,
    oe.UnauthenticatedError: PermissionDeniedError,
    oe.NotSupportedError: ReadOnlyError,
}
# GenericError is everything else; the status is in its text only. 409: S3's answer to writers who met half-way.
_STATUS: Final = re.compile(r"(?:status(?: code)?:? |non-retryable error: |Status )(\d{3})")
_PASSING: Final = frozenset({408, 409, 425, 429})


class ObjectStoreBackend:
    """The objects below a prefix of a bucket. ``timeout``: seconds that one request may take."""

    def __init__(self, url: str, timeout: float = limits.STORE_REQUEST_TIMEOUT) -> None:
        parts = urlsplit(url)
        options = _options(parts.query)
        self.url = f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
        writable = parts.scheme not in ("http", "https")
        self.properties = StoreProperties(parts.scheme, writable=writable, exclusive_put=writable, local=False)
        try:
            self._store = _connect(
                parts.scheme, self.url, parts.netloc, parts.path.strip("/") or None, options, timeout
            )
        except (oe.BaseError, ValueError) as error:
            raise UsageError(f"{self.url}: {_first_line(error)}") from error

    def get(self, key: str) -> Buffer:
        return self._call(key, lambda: memoryview(obstore.get(self._store, key).bytes()))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if length <= 0:
            return b""
        try:
            return self._call(key, lambda: bytes(obstore.get_range(self._store, key, start=start, length=length)))
        except PermanentError:
            size = self.size(key)  # a range that begins beyond the end is refused by the service
            if size is None:
                raise NotFoundError(f"{self.url} has no object {key}", key) from None
            if start >= size:
                return b""
            raise

    def put(self, key: str, data: Buffer) -> None:
        self._check_writable(key)
        self._call(key, lambda: obstore.put(self._store, key, data, use_multipart=False), writing=True)

    def put_if_absent(self, key: str, data: Buffer) -> None:
        self._check_writable(key)
        self._call(key, lambda: obstore.put(self._store, key, data, mode="create", use_multipart=False), writing=True)

    def size(self, key: str) -> int | None:
        try:
            return int(self._call(key, lambda: obstore.head(self._store, key)["size"]))
        except NotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        if not self.properties.writable:
            yield from self._walk(prefix.rstrip("/"))
            return
        pages = iter(obstore.list(self._store, prefix.rstrip("/") or None))
        while (page := self._call(prefix, lambda: next(pages, None))) is not None:
            for found in page:
                if found["path"].startswith(prefix):
                    yield _info(found)

    def _walk(self, folder: str) -> Iterator[ObjectInfo]:
        """HTTP: one PROPFIND for each collection, because servers (nginx) refuse one for all that is below."""
        try:
            found = self._call(folder, lambda: obstore.list_with_delimiter(self._store, folder or None))
        except NotFoundError:
            return
        yield from map(_info, found["objects"])
        for below in found["common_prefixes"]:
            yield from self._walk(below)

    def delete(self, key: str) -> None:
        self._check_writable(key)
        try:
            self._call(key, lambda: obstore.delete(self._store, key))
        except NotFoundError:
            return

    def close(self) -> None:
        """The connection pool ends with the object."""

    def _check_writable(self, key: str) -> None:
        if not self.properties.writable:
            raise ReadOnlyError(f"{self.url} is read-only", key)

    def _call(self, key: str, action: Callable[[], T], *, writing: bool = False) -> T:
        try:
            return action()
        except oe.BaseError as error:
            _translate(error, self.url, key)
        except FileNotFoundError as error:  # what obstore makes of 404
            if writing:
                raise PermanentError(f"{self.url}: {key}: the bucket does not exist", key) from error
            raise NotFoundError(f"{self.url} has no object {key}", key) from error


def _info(found: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(found["path"], int(found["size"]), found["last_modified"].timestamp())


def _translate(error: oe.BaseError, url: str, key: str) -> NoReturn:
    kind = _ERRORS.get(type(error))
    if kind is None:
        status = _STATUS.search(str(error))
        # obstore's own finding about services that answer a range beyond the end instead of refusing it (Azure).
        code = int(status[1]) if status else 416 if "Wanted range starting at" in str(error) else 0
        kind = PermanentError if 400 <= code < 500 and code not in _PASSING else TransientError
        if code in (401, 403):
            kind = PermissionDeniedError
    raise kind(f"{url}: {key or 'listing'}: {_first_line(error)}", key) from error


def _first_line(error: Exception) -> str:
    """What happened, in one line without the library's debug text."""
    text = " ".join(str(error).split("\n\nDebug source:")[0].split())
    return text[:300] or type(error).__name__


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(options.keys() - set(_OPTIONS))
    if unknown:
        raise UsageError(f"unknown option {unknown[0]!r} in the store's URL ({', '.join(_OPTIONS)} are known)")
    return options


def _connect(
    scheme: str, url: str, netloc: str, prefix: str | None, options: dict[str, str], timeout: float
) -> ObjectStore:
    endpoint = options.get("endpoint") or _endpoint_from_environment(scheme)
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=min(timeout, limits.STORE_CONNECT_TIMEOUT)),
        "timeout": timedelta(seconds=timeout),
        "pool_max_idle_per_host": str(limits.STORE_CONCURRENCY),
        "user_agent": "modelfs",
    }
    if endpoint.startswith("http://") or scheme == "http":
        client["allow_http"] = True
    retry: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=timeout)}
    if scheme in ("http", "https"):
        return HTTPStore.from_url(url, client_options=client, retry_config=retry)
    anonymous = "anonymous" in options
    if scheme in ("gs", "gcs"):
        gcs: GCSConfig = {"skip_signature": True} if anonymous else {}
        if endpoint:
            gcs["base_url"] = endpoint
        return GCSStore(netloc, prefix=prefix, client_options=client, retry_config=retry, config=gcs)
    if scheme in ("az", "azure", "abfs"):
        azure: AzureConfig = {"skip_signature": True} if anonymous else {}
        if endpoint:
            azure["endpoint"] = endpoint
        return AzureStore(netloc, prefix=prefix, client_options=client, retry_config=retry, config=azure)
    # The payload's own hash costs more CPU than TLS. Without TLS nothing else guards it on the wire, so there it stays.
    s3: S3Config = {"unsigned_payload": not endpoint.startswith("http://"), "skip_signature": anonymous}
    if endpoint:
        s3["endpoint"] = endpoint
    if region := options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        s3["region"] = region
    provider = None if anonymous else _aws_profile()
    return S3Store(
        netloc, prefix=prefix, client_options=client, retry_config=retry, config=s3, credential_provider=provider
    )


def _endpoint_from_environment(scheme: str) -> str:
    if scheme != "s3":
        return ""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        if value := os.environ.get(name):
            return value
    return ""


def _aws_profile() -> Any:
    """Credentials of ``~/.aws`` (profiles, SSO, roles) where the environment has none; they need boto3."""
    here = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    files = (Path.home() / ".aws" / "credentials", Path.home() / ".aws" / "config")
    wanted = "AWS_PROFILE" in os.environ or any(path.exists() for path in files)
    if not wanted or any(name in os.environ for name in here):
        return None
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        raise ExtraMissingError("reading ~/.aws needs boto3: pip install 'modelfs[s3]'") from error
    return Boto3CredentialProvider()
