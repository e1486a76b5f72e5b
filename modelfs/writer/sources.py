"""Where `modelfs import` finds files: a local directory, or whatever a URL names.

Of a local directory, links that lead out of it are followed, because what they name would be missing otherwise; others
stay links. A repository in the cache of huggingface_hub (``models--ORG--NAME`` with ``blobs``, ``refs`` and
``snapshots``) is the snapshot of one revision, its links followed; a directory of such repositories is all of them,
as ``ORG/NAME``. At a URL there are only objects: no modes, no links, no empty directories. A repository of the Hub
(``hf://``) is one commit of it, which ``pinned`` names.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from modelfs import limits
from modelfs.errors import StoreError, UsageError
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind
from modelfs.store.open import open_backend, redact_url
from modelfs.store.retry import RetryStore
from modelfs.writer.ingest import Read

_REPOSITORIES: Final = {"models--": "", "datasets--": "datasets/", "spaces--": "spaces/"}


@dataclass(frozen=True, slots=True)
class Item:
    """Something to be brought in, at ``path``. Of a file ``entry`` lacks the content, which `Source.reading` gives;
    ``where``: its place, for messages and for the source."""

    path: bytes
    entry: Entry
    where: str

    @property
    def is_file(self) -> bool:
        """True for a file with content."""
        return self.entry.kind is Kind.FILE


class LocalSource:
    """A file or directory of this machine. ``left_out``: names of what a store cannot hold, or nobody can read.
    ``revision``: of repositories in a Hugging Face cache."""

    pinned = ""  # files here have no version that could be named

    def __init__(self, root: Path, revision: str | None = None) -> None:
        self.name = str(root)
        self.left_out: list[str] = []
        self._root = root
        self._revision = revision
        if not root.exists():
            raise UsageError(f"{root}: no such file or directory")
        if revision is not None and not any(True for _ in _repositories(root)):
            raise UsageError(f"{root} is no Hugging Face cache: --revision has no meaning there")

    @property
    def single(self) -> bytes | None:
        """The name of the file that this is; None for a directory."""
        return os.fsencode(self._root.name) if not self._root.is_dir() else None

    def items(self) -> Iterator[Item]:
        """Everything in it, directories before what is in them. OSError."""
        if self.single is not None:
            yield self._item(self._root, b"", self._root.stat())
            return
        repositories = list(_repositories(self._root))
        if not repositories:
            yield from self._walk(self._root, b"", self._root.resolve())
        for repository, name in repositories:
            snapshot = _snapshot(repository, self._revision)
            if snapshot is None:
                self.left_out.append(f"{repository.name} (it has no snapshot of {self._revision or 'main'})")
                continue
            yield from self._walk(snapshot, os.fsencode(name), snapshot.resolve())

    def _walk(self, directory: Path, path: bytes, inside: Path) -> Iterator[Item]:
        for child in sorted(directory.iterdir()):
            below = path + b"/" + os.fsencode(child.name) if path else os.fsencode(child.name)
            facts = child.lstat()
            if stat.S_ISLNK(facts.st_mode) and not child.resolve().is_relative_to(inside):
                if not child.is_file():  # a directory elsewhere may hold anything, this one too
                    self.left_out.append(f"{child} (a link to {child.readlink()})")
                    continue
                facts = child.stat()
            if stat.S_IFMT(facts.st_mode) not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                self.left_out.append(f"{child} (neither a file, a directory nor a link)")
                continue
            yield self._item(child, below, facts)
            if stat.S_ISDIR(facts.st_mode):
                yield from self._walk(child, below, inside)

    def _item(self, place: Path, path: bytes, facts: os.stat_result) -> Item:
        kind, content, size = Kind.FILE, b"", facts.st_size
        if stat.S_ISDIR(facts.st_mode):
            kind, content, size = Kind.DIRECTORY, bytes(EMPTY_TREE), 0
        elif stat.S_ISLNK(facts.st_mode):
            kind, content = Kind.SYMLINK, os.fsencode(place.readlink())
            size = len(content)
        name, mode = path.rpartition(b"/")[2], stat.S_IMODE(facts.st_mode)
        entry = Entry(name, kind, mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns, size, content)
        return Item(path, entry, str(place))

    @contextmanager
    def reading(self, item: Item) -> Iterator[Read]:
        """Reads of one file. UsageError in the end when it is not what it was."""
        with Path(item.where).open("rb", buffering=0) as file:
            fd = file.fileno()
            yield lambda offset, length: os.pread(fd, length, offset)
            facts = os.fstat(fd)
            if (facts.st_size, facts.st_mtime_ns) != (item.entry.size, item.entry.mtime_ns):
                raise UsageError(f"{item.where} was changed while it was read; run it again")

    def close(self) -> None:
        """Nothing is held."""


class UrlSource:
    """The objects below a URL, or the one that it names."""

    def __init__(self, url: str) -> None:
        self.name = redact_url(url)
        self.left_out: list[str] = []
        self.single: bytes | None = None
        self._store = RetryStore(open_backend(url), foreign=True)
        self._pool = ThreadPoolExecutor(limits.IMPORT_FILES * (limits.IMPORT_AHEAD + 1), "import-read")
        try:
            self._objects = [] if self._store.properties.scheme in ("http", "https") else list(self._store.list(""))
            if not self._objects:
                self._open_single(url)
        except StoreError:
            self.close()
            raise

    @property
    def pinned(self) -> str:
        """The URL with the version that is read, where there are versions; ""."""
        return self._store.url if self._store.properties.scheme == "hf" else ""

    def _open_single(self, url: str) -> None:
        parts = urlsplit(url)
        above, _, name = parts.path.rstrip("/").rpartition("/")
        name = unquote(name)
        self._store.close()
        self._store = RetryStore(open_backend(urlunsplit(parts._replace(path=above or "/"))), foreign=True)
        size = self._store.size(name) if name else None
        if size is None:
            raise UsageError(f"there is nothing at {self.name}")
        self.single = os.fsencode(name)
        self._size = size

    def items(self) -> Iterator[Item]:
        """All objects."""
        if self.single is not None:
            yield self._item(os.fsdecode(self.single), b"", self._size, 0.0)
            return
        for info in sorted(self._objects, key=lambda info: info.key):
            path = os.fsencode(info.key)
            names = path.split(b"/")
            if info.key.endswith("/") and not info.size:
                continue  # what consoles make to show a directory
            if any(name in (b"", b".", b"..") or len(name) > limits.NAME_MAX or b"\0" in name for name in names):
                self.left_out.append(f"{info.key} (not a path)")
                continue
            yield self._item(info.key, path, info.size, info.mtime)

    def _item(self, key: str, path: bytes, size: int, mtime: float) -> Item:
        name = path.rpartition(b"/")[2]
        moment = round(mtime * 1e9) or time.time_ns()  # 0: the server does not say
        entry = Entry(name, Kind.FILE, 0o644, os.getuid(), os.getgid(), moment, size, b"")
        return Item(path, entry, key)

    @contextmanager
    def reading(self, item: Item) -> Iterator[Read]:
        """Reads of one object: long ones in order are read ahead."""

        def read(offset: int, length: int) -> bytes:
            return self._store.get_range(item.where, offset, min(length, item.entry.size - offset))

        yield _Ahead(self._pool, read, item.entry.size).read

    def close(self) -> None:
        """Let go of the connection."""
        self._pool.shutdown(cancel_futures=True)
        self._store.close()


Source = LocalSource | UrlSource


class _Ahead:
    """Blocks of one object on their way, read in order. Used by one thread."""

    def __init__(self, pool: ThreadPoolExecutor, read: Read, size: int) -> None:
        self._pool = pool
        self._read = read
        self._size = size
        self._coming: dict[int, Future[bytes]] = {}

    def read(self, offset: int, length: int) -> bytes:
        """The bytes; what is short, as the parsers of formats ask for, is not read ahead."""
        length = min(length, self._size - offset)
        if length < limits.IMPORT_BLOCK:
            covered = offset // limits.IMPORT_BLOCK in self._coming
            if not covered:
                return self._read(offset, length) if length > 0 else b""
        parts = []
        end = offset + length
        first, last = offset // limits.IMPORT_BLOCK, (end - 1) // limits.IMPORT_BLOCK
        for block in [block for block in self._coming if block < first]:
            del self._coming[block]
        for block in range(first, last + limits.IMPORT_AHEAD + 1):
            start = block * limits.IMPORT_BLOCK
            if start < self._size and block not in self._coming:
                count = min(limits.IMPORT_BLOCK, self._size - start)
                self._coming[block] = self._pool.submit(self._read, start, count)
        for block in range(first, last + 1):
            start = block * limits.IMPORT_BLOCK
            parts.append(memoryview(self._coming[block].result())[max(offset - start, 0) : end - start])
        return b"".join(parts)


def open_source(url: str, revision: str | None = None) -> Source:
    """What is at a path or URL. UsageError when there is nothing."""
    scheme, separator, _ = url.partition("://")
    if separator and scheme.lower() != "file":
        if revision is not None:
            raise UsageError("--revision is for a Hugging Face cache on this machine; else hf://ORG/NAME@REVISION")
        return UrlSource(url)
    path = Path(unquote(urlsplit(url).path)) if separator else Path(url).expanduser()
    return LocalSource(path.absolute(), revision)


def excluded(path: bytes, patterns: tuple[str, ...]) -> bool:
    """True for a path that a pattern matches, or a directory above it."""
    parts = os.fsdecode(path).split("/")
    ways = ["/".join(parts[:i]) for i in range(1, len(parts) + 1)]
    return any(
        fnmatch(way, pattern) or fnmatch(way.rpartition("/")[2], pattern) for way in ways for pattern in patterns
    )


def _repositories(root: Path) -> Iterator[tuple[Path, str]]:
    """Repositories of a Hugging Face cache at or right below a directory, and the paths that they get."""
    if _is_repository(root):
        yield root, ""
        return
    for child in sorted(root.iterdir()) if root.is_dir() else ():
        kind = next((kind for kind in _REPOSITORIES if child.name.startswith(kind)), None)
        if kind is not None and _is_repository(child):
            yield child, _REPOSITORIES[kind] + child.name.removeprefix(kind).replace("--", "/")


def _is_repository(path: Path) -> bool:
    return (path / "snapshots").is_dir() and (path / "refs").is_dir() and (path / "blobs").is_dir()


def _snapshot(repository: Path, revision: str | None) -> Path | None:
    """The snapshot of a name in ``refs``, or of a commit's hash."""
    name = revision or "main"
    ref = repository / "refs" / name
    if ".." not in name.split("/") and ref.is_file():
        name = ref.read_text().strip()
    found = repository / "snapshots" / name
    return found if name and "/" not in name and name not in (".", "..") and found.is_dir() else None
