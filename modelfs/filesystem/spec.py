"""`ModelFileSystem`: ``modelfs://`` in fsspec.

Instances are cheap: they hold options, and share the engine of their store and options, which starts at the first call.
They can be pickled, and used from any thread and after a fork. docs/fsspec.md says what they promise.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import io
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from fsspec.spec import AbstractFileSystem
from fsspec.transaction import Transaction
from fsspec.utils import stringify_path

from modelfs import limits
from modelfs.assembly.errnos import errno_of
from modelfs.errors import ModelfsError, UnreachableError, UsageError
from modelfs.filesystem import engine as engines
from modelfs.filesystem.engine import Engine
from modelfs.filesystem.files import RawFile, buffered
from modelfs.filesystem.places import PROTOCOL, Place, place, split_url
from modelfs.filesystem.tree import Info, Tree

T = TypeVar("T")

_OF_FSSPEC: Final = ("use_listings_cache", "listings_expiry_time", "max_paths", "asynchronous", "loop", "batch_size")
_MODES: Final = {"r", "r+", "w", "w+", "x", "x+", "a", "a+"}


class ModelTransaction(Transaction):  # type: ignore[misc]
    """Files that are written in it appear in one commit, when it ends."""

    def complete(self, commit: bool = True) -> None:
        """Publish all files, or none."""
        files = list(self.files)
        try:
            if commit and files:
                for file in files:
                    file.close()
                self.fs.publish_files(files)
                self.files.clear()
        finally:
            super().complete(commit=False)


class ModelFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """A store of checkpoints as fsspec sees it.

    ``store``: a directory, a URL or ``@NAME`` of a configured mount; ``auto_mkdir``: directories above a file that is
    written are made, as on an object store. All other options are those of a mount (docs/configuration.md): branch, at
    (or ref), read_only, refresh, write_back, cache_dir, cache_size, key_file, passphrase_file, verify_with, …

    ValueError: an option, the store or its key is wrong; OSError: all else.
    """

    protocol = PROTOCOL
    root_marker = ""
    transaction_type = ModelTransaction

    def __init__(self, *args: Any, auto_mkdir: bool = True, **options: Any) -> None:
        if self._cached:
            return
        self.auto_mkdir = auto_mkdir
        ours = {name: value for name, value in options.items() if name not in _OF_FSSPEC}
        store = ours.get("store")
        self._named = store if isinstance(store, str) and store.startswith("@") and "/" not in store else None
        try:
            self._place: Place = place(ours)
        except UsageError as error:
            raise ValueError(f"{PROTOCOL}: {error}") from error
        super().__init__(*args, **options)

    # -- URLs ---------------------------------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return "/".join(part for part in split_url(stringify_path(path))[1].split("/") if part not in ("", "."))

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        name, _ = split_url(path)
        return {} if name is None else {"store": name}

    def unstrip_protocol(self, name: str) -> str:
        """The URL of a path."""
        path = self._strip_protocol(name)
        return f"{PROTOCOL}://{self._named}/{path}" if self._named else f"{PROTOCOL}://{path}"

    @property
    def fsid(self) -> str:
        """The same for the same store and branch or commit."""
        return f"{PROTOCOL}:{self._place}"

    # -- the engine ---------------------------------------------------------------------------------------------

    def _engine(self, path: str = "") -> Engine:
        with _errors(path):
            return engines.engine_of(self._place)

    def _ask(self, call: Callable[[Tree], Any], path: str = "") -> Any:
        return _run(self._engine(path), path, call)

    def _bytes(self, path: Any) -> bytes:
        return os.fsencode(self._strip_protocol(path))

    def close(self) -> None:
        """Close what is open and bring what is pending into the store; the next call starts anew. The end of the
        program does it by itself. OSError when not all of it is in the store (it is in the journal)."""
        engine = engines.found(self._place)
        if engine is not None and not engine.close():
            raise OSError(errno.EIO, "not everything is in the store: see `modelfs journal ls`", str(self._place))

    # -- looking ------------------------------------------------------------------------------------------------

    def info(self, path: Any, **kwargs: Any) -> Info:
        """What is known of a path: name, size, type, mtime, mode, uid, gid, islink, and ETag of a file: equal for equal
        content."""
        found: Info = self._ask(lambda tree: tree.info(self._bytes(path)), str(path))
        return found

    def ls(self, path: Any, detail: bool = True, **kwargs: Any) -> list[Any]:
        """What is in a directory, by name; of a file only itself."""
        found: list[Info] = self._ask(lambda tree: tree.ls(self._bytes(path)), str(path))
        return found if detail else [info["name"] for info in found]

    def exists(self, path: Any, **kwargs: Any) -> bool:
        """True when something is there. What keeps it from being told is an error, and not False."""
        return self._type(path) not in (None, "link")

    def lexists(self, path: Any, **kwargs: Any) -> bool:
        """As `exists`, and True for a link that leads nowhere."""
        return self._type(path) is not None

    def isdir(self, path: Any) -> bool:
        """True for a directory."""
        return self._type(path) == "directory"

    def isfile(self, path: Any) -> bool:
        """True for a file."""
        return self._type(path) == "file"

    def _type(self, path: Any) -> str | None:
        try:
            return str(self.info(path)["type"])
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                return None
            raise

    def checksum(self, path: Any) -> int:
        """A number that is the same for the same content: of a file the id of its manifest."""
        return int(self.ukey(path), 16)

    def ukey(self, path: Any) -> str:
        """The id of a file's manifest, in hex; of a small file, which has none, a hash of its content."""
        return str(self._ask(lambda tree: tree.content(self._bytes(path)), str(path)))

    def modified(self, path: Any) -> datetime.datetime:
        """When the file was changed last, in UTC."""
        return datetime.datetime.fromtimestamp(self.info(path)["mtime"], tz=datetime.UTC)

    def created(self, path: Any) -> datetime.datetime:
        """As `modified`: a store keeps the time of a version, and no other."""
        return self.modified(path)

    def invalidate_cache(self, path: Any = None) -> None:
        """See at once what others have committed."""
        super().invalidate_cache(path)
        engine = engines.found(self._place)
        if engine is not None:
            _run(engine, str(path or ""), lambda tree: tree.refresh())

    # -- reading and writing ------------------------------------------------------------------------------------

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> io.IOBase:
        kind = mode.replace("b", "").replace("t", "")
        if kind not in _MODES:
            raise ValueError(f"invalid mode: {mode!r}")
        where, engine = self._bytes(path), self._engine(path)
        writing = None
        if kind == "r":
            fh, node = _run(engine, path, lambda tree: tree.open(where, os.O_RDONLY))
        else:
            if kind[0] in "wx":
                begin = lambda tree: tree.replace(where, make=self.auto_mkdir, exclusive=kind[0] == "x")  # noqa: E731
            else:
                create = kind[0] == "a"
                begin = lambda tree: tree.edit(where, make=self.auto_mkdir and create, create=create)  # noqa: E731
            writing = _run(engine, path, begin)
            fh, node = writing.fh, writing.node
        raw = RawFile(_run, engine, path, f"{kind[0]}b{kind[1:]}", fh, node, writing, autocommit=autocommit)
        return buffered(self, raw, block_size or limits.FILESYSTEM_BUFFER)

    def publish_files(self, files: Sequence[Any]) -> None:
        """Publish files that were opened without ``autocommit`` and are closed, in one commit: all of them or none."""
        raws: list[RawFile] = [file.raw for file in files]
        by_engine: dict[Engine, list[RawFile]] = {}
        for raw in raws:
            by_engine.setdefault(raw.engine, []).append(raw)
        for engine, some in by_engine.items():
            writings = [raw.writing for raw in some if raw.writing is not None]
            for raw in some:
                raw.settled()
            _run(engine, some[0].path, partial(Tree.publish, writings=writings))

    def cat_file(self, path: Any, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """The content of a file, or a range of it as Python slices have it."""
        return bytes(self.cat_ranges([path], [start], [end], on_error="raise")[0])

    def cat_ranges(
        self,
        paths: Any,
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Ranges of files, read side by side; errors in their places with ``on_error="return"``."""
        if not isinstance(paths, list):
            raise TypeError("paths must be a list")
        starts, ends = ([one] * len(paths) if not isinstance(one, list) else one for one in (starts, ends))
        if len(starts) != len(paths) or len(ends) != len(paths):
            raise ValueError("paths, starts and ends must be of one length")
        wanted = [(self._bytes(path), start, end) for path, start, end in zip(paths, starts, ends, strict=True)]
        found = self._ask(lambda tree: tree.ranges(wanted))
        for i, one in enumerate(found):
            if isinstance(one, Exception):
                found[i] = _as_os_error(one, str(paths[i]))
                if on_error == "raise":
                    raise found[i] from one
        return list(found)

    def pipe_file(self, path: Any, value: Any, mode: str = "overwrite", **kwargs: Any) -> None:
        """A whole file at once; ``mode="create"``: there must be none."""
        if self._intrans:
            with self.open(path, "xb" if mode == "create" else "wb") as file:
                file.write(value)
            return
        where, data, new = self._bytes(path), bytes(value), mode == "create"
        self._ask(lambda tree: tree.store(where, data, make=self.auto_mkdir, exclusive=new), str(path))

    def touch(self, path: Any, truncate: bool = True, **kwargs: Any) -> None:
        """Make an empty file; without ``truncate`` one that is there gets a new time only."""
        if truncate or not self.exists(path):
            self.pipe_file(path, b"")
        else:
            self._ask(lambda tree: tree.touch(self._bytes(path)), str(path))

    # -- names --------------------------------------------------------------------------------------------------

    def mkdir(self, path: Any, create_parents: bool = True, **kwargs: Any) -> None:
        """Make a directory. FileExistsError; FileNotFoundError without ``create_parents``."""
        self._ask(lambda tree: tree.mkdir(self._bytes(path), parents=create_parents, exist_ok=False), str(path))

    def makedirs(self, path: Any, exist_ok: bool = False) -> None:
        """Make a directory and those above it."""
        self._ask(lambda tree: tree.mkdir(self._bytes(path), parents=True, exist_ok=exist_ok), str(path))

    def rmdir(self, path: Any) -> None:
        """Remove an empty directory."""
        self._ask(lambda tree: tree.rmdir(self._bytes(path)), str(path))

    def rm_file(self, path: Any) -> None:
        """Remove a file."""
        self.rm(path)

    def _rm(self, path: Any) -> None:
        self.rm_file(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files, and with ``recursive`` directories."""
        paths = [path] if isinstance(path, str | os.PathLike) else list(path)
        if maxdepth is not None:
            for one in reversed(self.expand_path(paths, recursive=recursive, maxdepth=maxdepth)):
                (self.rmdir if self.isdir(one) else self.rm_file)(one)
            return
        for one in self._expanded(paths):
            self._ask(partial(Tree.remove, path=os.fsencode(one), recursive=recursive), one)
        self._ask(Tree.durable)

    def _expanded(self, paths: list[Any]) -> list[str]:
        """Paths with their patterns expanded; what lies in another one is left out."""
        found: list[str] = []
        for path in sorted(self.expand_path(paths)):
            if not (found and path.startswith(found[-1] + "/")):
                found.append(path)
        return found

    def cp_file(self, path1: Any, path2: Any, durable: bool = True, **kwargs: Any) -> None:
        """Copy a file inside the store: no bytes move. Of a directory only the directory is made. Without ``durable``
        it is in the store within a second."""
        old, new = self._bytes(path1), self._bytes(path2)
        self._ask(lambda tree: tree.copy(old, new, make=self.auto_mkdir), str(path1))
        if durable:
            self._ask(Tree.durable)

    def copy(self, path1: Any, path2: Any, *args: Any, **kwargs: Any) -> None:
        """Copy files and directories inside the store: no bytes move, and one commit has all of them, or a few."""
        super().copy(path1, path2, *args, durable=False, **kwargs)
        self._ask(Tree.durable)

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> None:
        """Rename a file or directory, whole and at once; onto a directory: into it."""
        one = isinstance(path1, str | os.PathLike) and isinstance(path2, str | os.PathLike)
        if not one or maxdepth is not None or not self.lexists(path1):  # lists and patterns
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **kwargs)
            return
        old, new = self._bytes(path1), self._bytes(path2)
        into = str(stringify_path(path2)).endswith("/")
        self._ask(lambda tree: tree.move(old, new, into=into, make=self.auto_mkdir), str(path1))


@contextlib.contextmanager
def _errors(path: str) -> Any:
    """Errors as programs expect them: OSError with errno and path; ValueError for what is wrong with the options."""
    try:
        yield
    except (ModelfsError, OSError) as error:
        raise _as_os_error(error, path) from error


def _as_os_error(error: Exception, path: str) -> Exception:
    if isinstance(error, UnreachableError):
        return ConnectionError(errno.EIO, str(error))
    if isinstance(error, UsageError):
        return ValueError(f"{PROTOCOL}: {error}")
    if isinstance(error, ModelfsError):
        return OSError(errno_of(error), str(error), path)
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        return OSError(error.errno, error.strerror, path)
    return error


def _run(engine: Engine, path: str, call: Callable[[Tree], Any]) -> Any:
    with _errors(path):
        return engine.run(call)
