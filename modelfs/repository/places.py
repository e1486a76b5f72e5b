"""Places outside the store: what a source's URL and the key of a link name, and whether one lies below another.

Pure. What a store says (`said`) is checked and compared and never opened; what a person says (`allowed`) is what may be
opened, with the user, the password and the options that stand in it. Both become a `Place`, whose parts are compared
one by one, so `/data/old` is not below `/data/o`, and nothing with `..` is anywhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlsplit, urlunsplit

from modelfs import limits
from modelfs.errors import UsageError
from modelfs.shown import printable

_CONTAINERS: Final = ("az", "azure", "abfs", "abfss")  # where the user names a container: elsewhere it is who asks
_DOTS: Final = (b".", b"..")


@dataclass(frozen=True, slots=True)
class Place:
    """A directory or object: ``host`` has the port and, where it names something, the user."""

    scheme: str
    host: str
    parts: tuple[bytes, ...]

    def below(self, other: Place) -> tuple[bytes, ...] | None:
        """The parts that lead from ``other`` to here, none if it is the same; None when this is not below it."""
        if (self.scheme, self.host) != (other.scheme, other.host):
            return None
        count = len(other.parts)
        return self.parts[count:] if self.parts[:count] == other.parts else None

    def at(self, key: bytes) -> Place:
        """What ``key`` names below it. ValueError."""
        return Place(self.scheme, self.host, self.parts + key_parts(key))

    def __str__(self) -> str:
        path = printable(b"/".join(self.parts))
        host = printable(self.host.encode("utf-8", "surrogateescape"))
        return f"/{path}" if self.scheme == "file" else f"{self.scheme}://{host}/{path}".rstrip("/")


@dataclass(frozen=True, slots=True)
class Allowed:
    """Below ``place`` may be read; ``url`` is how it is opened."""

    place: Place
    url: str

    @property
    def above(self) -> str:
        """How the directory that it lies in is opened."""
        if self.place.scheme == "file":
            return file_url(Path(os.fsdecode(b"/" + b"/".join(self.place.parts[:-1]))))
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=parts.path.rstrip("/").rpartition("/")[0] or "/"))


def key_parts(key: bytes) -> tuple[bytes, ...]:
    """The parts of the key of an original. ValueError when they could lead elsewhere."""
    if not 1 <= len(key) <= limits.PATH_MAX:
        raise ValueError(f"a key of {len(key)} bytes")
    parts = tuple(key.split(b"/"))
    for part in parts:
        # A server may decode what looks harmless here.
        if not part or b"\0" in part or part in _DOTS or unquote_to_bytes(part) in _DOTS:
            raise ValueError(f"the key {key[:80]!r}")
    return parts


def said(url: str) -> Place:
    """The place that a source names. ValueError for what no writer writes."""
    split = urlsplit(url)
    if not split.scheme or "://" not in url or split.query or split.fragment or split.password is not None:
        raise ValueError("no URL of a source")
    found = _place(url)
    if url_of(found) != url:
        raise ValueError("not in its shortest form")
    return found


def url_of(place: Place) -> str:
    """The URL of a place as a source has it."""
    path = b"/".join(place.parts)
    if place.scheme == "file":
        return f"file:///{quote(path)}"
    return f"{place.scheme}://{place.host}/{path.decode()}" if path else f"{place.scheme}://{place.host}"


def canonical(url: str) -> str:
    """The URL of a source for a URL that a person gave. ValueError."""
    return url_of(_place(url))


def file_url(path: Path) -> str:
    """A path of this machine as a URL."""
    return f"file://{quote(os.fsencode(path))}"


def allowed(text: str) -> Allowed:
    """What a person allows: a path or URL. Symbolic links on the way to a path are followed now. UsageError."""
    if "://" not in text or text.lower().startswith("file://"):
        split = urlsplit(text)
        name = text if "://" not in text else os.fsdecode(unquote_to_bytes(split.path))
        if not name or ("://" in text and split.netloc not in ("", "localhost")):
            raise UsageError(f"{text[:200]!r} is no source: it is a directory or a URL, a file URL has three slashes")
        url = file_url(Path(name).expanduser().resolve())
    else:
        url = text
    try:
        return Allowed(_place(url), url)
    except ValueError as error:
        raise UsageError(f"{url.partition('?')[0][:200]} is no source: {error}") from error


def _place(url: str) -> Place:
    split = urlsplit(url)
    scheme = split.scheme.lower()
    path = unquote_to_bytes(split.path) if scheme == "file" else split.path.encode()
    path = path.strip(b"/")
    host = split.netloc.rpartition("@")[2]  # as it is written: some name buckets and accounts
    if split.username and scheme in _CONTAINERS:
        host = f"{split.username}@{host}"
    if scheme == "file" and host not in ("", "localhost"):
        raise ValueError("a file URL has three slashes and an absolute path")
    return Place(scheme, "" if scheme == "file" else host, key_parts(path) if path else ())
