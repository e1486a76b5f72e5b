"""A store in a local directory: the embedded default, and whatever is mounted there (NFS, a disk, a RAM disk).

Every object is one file. A write goes to a temporary file under ``.tmp``, is synced, and gets its name by rename
(``put``) or by link, which fails when the name is taken (``put_if_absent``); then the directory is synced. So an
acknowledged object survives a power cut and nobody sees half of one. Files and directories take their permissions
from the root directory: who may read the root may read the store.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

from modelfs import limits
from modelfs.errors import (
    AlreadyExistsError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    ReadOnlyError,
    StoreError,
    TransientError,
    UsageError,
)
from modelfs.store.base import Buffer, ObjectInfo, StoreProperties

TEMPORARY: Final = ".tmp"

_Name = Callable[[Path], object]

_ERRORS: Final[dict[int, type[StoreError]]] = {
    errno.ENOENT: NotFoundError,
    errno.ENOTDIR: NotFoundError,
    errno.EACCES: PermissionDeniedError,
    errno.EPERM: PermissionDeniedError,
    errno.EROFS: ReadOnlyError,
    errno.EAGAIN: TransientError,
    errno.EIO: TransientError,
    errno.ESTALE: TransientError,
    errno.ETIMEDOUT: TransientError,
    errno.EMFILE: TransientError,
    errno.ENFILE: TransientError,
}


class LocalStore:
    """Objects as files below ``root``, which must exist unless ``create``. UsageError when it cannot be used."""

    properties = StoreProperties("file", writable=True, exclusive_put=True, local=True)

    def __init__(self, root: Path, *, create: bool = False) -> None:
        self.local_root = root
        self.url = str(root)
        try:
            if create:
                root.mkdir(parents=True, exist_ok=True)
            mode = root.stat().st_mode
        except FileNotFoundError as error:
            raise UsageError(f"no such directory: {root} (`modelfs init` makes a store)") from error
        except OSError as error:
            raise UsageError(f"cannot use {root} as a store: {error.strerror}") from error
        if not root.is_dir():
            raise UsageError(f"{root} is not a directory")
        self._directory_mode = mode & 0o7777
        self._file_mode = mode & 0o666
        self._sweep()

    # -- reading ------------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        try:
            return (self.local_root / key).read_bytes()
        except OSError as error:
            translate(error, self.url, key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        try:
            fd = os.open(self.local_root / key, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.pread(fd, length, start)
            finally:
                os.close(fd)
        except OSError as error:
            translate(error, self.url, key)

    def size(self, key: str) -> int | None:
        try:
            return (self.local_root / key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            translate(error, self.url, key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._walk(self.local_root / prefix, prefix)

    def _walk(self, directory: Path, prefix: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if not prefix and entry.name == TEMPORARY:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        yield from self._walk(Path(entry.path), f"{prefix}{entry.name}/")
                        continue
                    with contextlib.suppress(FileNotFoundError):  # deleted while it was being listed
                        facts = entry.stat()
                        yield ObjectInfo(prefix + entry.name, facts.st_size, facts.st_mtime)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            translate(error, self.url, prefix)

    # -- writing ------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer) -> None:
        try:
            with self._written(data) as temporary:
                self._place(key, temporary.rename)
        except OSError as error:
            translate(error, self.url, key, writing=True)

    def put_if_absent(self, key: str, data: Buffer) -> None:
        try:
            with self._written(data) as temporary:
                self._place(key, lambda target: os.link(temporary, target))
        except FileExistsError as error:
            raise AlreadyExistsError(f"{key} exists in {self.url}", key) from error
        except OSError as error:
            translate(error, self.url, key, writing=True)

    def delete(self, key: str) -> None:
        target = self.local_root / key
        try:
            target.unlink(missing_ok=True)
            _sync_directory(target.parent)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            translate(error, self.url, key)

    def close(self) -> None:
        """Nothing is held."""

    @contextlib.contextmanager
    def _written(self, data: Buffer) -> Iterator[Path]:
        """A synced temporary file with ``data``; gone afterwards if it still has its temporary name."""
        folder = self.local_root / TEMPORARY
        temporary = folder / uuid.uuid4().hex
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(temporary, flags, 0o600)
        except FileNotFoundError:
            self._make_directory(folder)
            fd = os.open(temporary, flags, 0o600)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                os.fchmod(fd, self._file_mode)
                os.fsync(fd)
            finally:
                os.close(fd)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _place(self, key: str, name: _Name) -> None:
        target = self.local_root / key
        try:
            name(target)
        except FileNotFoundError:
            for part in reversed(target.relative_to(self.local_root).parents[:-1]):
                self._make_directory(self.local_root / part)
            name(target)
        _sync_directory(target.parent)

    def _make_directory(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            return
        path.chmod(self._directory_mode)
        _sync_directory(path.parent)

    def _sweep(self) -> None:
        """Remove what writers that died long ago left behind."""
        oldest = time.time() - limits.LOCAL_TEMPORARY_AGE
        with contextlib.suppress(OSError), os.scandir(self.local_root / TEMPORARY) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_mtime < oldest:
                    Path(entry.path).unlink()


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def translate(error: OSError, url: str, key: str, *, writing: bool = False) -> NoReturn:
    """Raise the StoreError that an error of the file system is."""
    kind = _ERRORS.get(error.errno or 0, PermanentError)
    if writing and kind is NotFoundError:  # the directory itself went away or is not one
        kind = PermanentError
    raise kind(f"{url}: {key or 'the directory'}: {error.strerror}", key) from error
