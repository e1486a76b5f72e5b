"""A cache directory: whose it is, who uses it, and putting right what an unclean stop left.

    store           the id of the store that the cache belongs to, and "keyed" when its ids need the store's key
    lock            flock LOCK_SH by every process that uses the cache
    index.sqlite    what lies where
    files/xx/<id>   one sparse file per manifest

Only a process that is alone (LOCK_EX on ``lock``) repairs: a damaged index is thrown away with all files, and bytes
that no row accounts for are given back.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import sqlite3
from pathlib import Path
from typing import Final

from modelfs import limits
from modelfs.cache import schema, sparse
from modelfs.cache.index import Index
from modelfs.errors import CacheError, UsageError
from modelfs.ids import ManifestId
from modelfs.private import private_directory

log = logging.getLogger(__name__)

INDEX: Final = "index.sqlite"
FILES: Final = "files"
_STORE: Final = "store"
_LOCK: Final = "lock"
_KEYED: Final = " keyed"
_MARKER: Final = re.compile(rf"[0-9a-z-]{{1,64}}({_KEYED})?")


def open_directory(path: Path, store_id: str, limit: int | None, *, keyed: bool = False) -> tuple[Index, int]:
    """The index of the cache at ``path`` and a descriptor whose lock keeps repairs away while it is open.

    UsageError when the directory cannot be written, belongs to another store, or ``limit`` is below one chunk.
    ``keyed``: the store is encrypted, and the caller has its key. ``limit`` None: as it is.
    """
    if limit is not None:
        check_limit(limit)
    try:
        private_directory(path / FILES)
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"the cache directory {path} is not writable: {error.strerror}") from error
    try:
        _claim(path, store_id, keyed=keyed)
        alone = _lock_alone(lock)
        if alone:
            _prepare(path)
        index = Index(path / INDEX, limit or limits.CACHE_SIZE_DEFAULT)
        if alone and index.unclean():
            _give_back_unaccounted(path, index)
            index.forget_sessions()
        fcntl.flock(lock, fcntl.LOCK_SH)
    except OSError as error:
        os.close(lock)
        raise UsageError(f"the cache directory {path} is not usable: {error.strerror}") from error
    except sqlite3.Error as error:
        os.close(lock)
        raise UsageError(f"the cache directory {path} is not usable: {error}") from error
    except BaseException:
        os.close(lock)
        raise
    return index, lock


def check_limit(limit: int) -> None:
    """UsageError when a cache of so many bytes is of no use."""
    if limit < limits.CHUNK_MAX:
        raise UsageError(f"a cache of {limit} bytes is smaller than one chunk ({limits.CHUNK_MAX} bytes)")


def read_store_id(path: Path) -> str:
    """Id of the store that the cache at ``path`` belongs to; UsageError when it is no cache."""
    return _read_marker(path).removesuffix(_KEYED)


def is_keyed(path: Path) -> bool:
    """True when only who has the key of its store can verify what the cache at ``path`` holds. UsageError as above."""
    return _read_marker(path).endswith(_KEYED)


def _read_marker(path: Path) -> str:
    """What the marker says; "" when whoever began the cache did not get to write it."""
    try:
        with (path / _STORE).open("rb") as file:
            said = file.read(limits.CACHE_MARKER_MAX).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a cache directory") from error
    if said and not _MARKER.fullmatch(said):
        raise UsageError(f"{path} is not a cache directory")
    return said


def _claim(path: Path, store_id: str, *, keyed: bool) -> None:
    marker = path / _STORE
    said = f"{store_id}{_KEYED if keyed else ''}\n"
    try:
        with marker.open("x") as file:
            file.write(said)
    except FileExistsError:
        found = read_store_id(path)
        if found and found != store_id:
            raise UsageError(f"the cache directory {path} belongs to another store ({found})") from None
        if keyed or not found:
            marker.write_text(said)


def _lock_alone(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(lock, fcntl.LOCK_SH)
        return False
    return True


def _prepare(path: Path) -> None:
    """Make the index, or make it anew when it cannot be trusted."""
    database = path / INDEX
    if database.exists() and (why := schema.damage(database)):
        log.warning("the index of the cache %s is damaged and begins anew: %s", path, why)
        for suffix in ("", "-wal", "-shm"):
            database.with_name(database.name + suffix).unlink(missing_ok=True)
    if not database.exists():
        for file, _ in sparse.stored(path / FILES):
            file.unlink()
        schema.create(database)


def _give_back_unaccounted(path: Path, index: Index) -> None:
    """Punch what no row accounts for out of every file; remove files without rows."""
    known = {row.manifest: row for row in index.files()}
    for file, manifest in sparse.stored(path / FILES):
        row = known.get(manifest)
        if row is None:
            file.unlink()
            continue
        with contextlib.suppress(OSError, CacheError):
            places = [(place.offset, place.length) for _, place in index.places(row.id, manifest)]
            _punch_between(file, manifest, places)


def _punch_between(file: Path, manifest: ManifestId, kept: list[tuple[int, int]]) -> None:
    fd = sparse.open_exclusive(file)
    if fd is None:
        return
    try:
        if not sparse.unused(fd):  # a program maps what a mount that died had let the kernel read for it
            return
        at, size = 0, os.fstat(fd).st_size
        for offset, length in [*kept, (size, 0)]:
            if offset > at:
                sparse.punch(fd, at, offset - at)
            at = max(at, offset + length)
    finally:
        os.close(fd)
