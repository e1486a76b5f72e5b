"""Looking at the journals of this machine while mounts are running: `modelfs journal` is the caller.

A session is read without its lock, so what is seen of a living one may be a moment old, and it may go away meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelfs.errors import UsageError
from modelfs.journal.held import Fate, HeldFile, held_files
from modelfs.journal.log import Begin, Opened, Record, Staged, scan_log, unfinished
from modelfs.journal.session import ABOUT, FAILURE, LOCK, LOG, STAGE, TORN, About, Failure, owner


@dataclass(frozen=True, slots=True)
class SessionView:
    """What one journal directory holds. ``pid``: the daemon, where it lives and can be told; ``changes``: names and
    attributes that wait for a commit, beside the files; ``torn``: bytes of a damaged log that were kept aside or are
    still there."""

    directory: Path
    store_id: str
    branch: str
    about: About
    living: bool
    pid: int | None
    began_on: int | None  # the commit that the changes were made on
    failure: Failure | None
    changes: int
    torn: int
    files: tuple[HeldFile, ...]

    @property
    def id(self) -> str:
        """Its name, hex digits."""
        return self.directory.name

    def find(self, name: str) -> HeldFile:
        """A staged file by its path in the mount or its name in the staging directory; UsageError."""
        path = os.fsencode(name).strip(b"/")
        found = [held for held in self.files if held.path == path or held.file.name == name]
        if not found:
            raise UsageError(f"the journal {self.id[:12]} has no file {name!r} (`modelfs journal ls` lists them)")
        return max(found, key=lambda held: held.modified)


def sessions(journals: Path, store_id: str | None = None) -> list[SessionView]:
    """Everything below ``journals``, the journal directory of this user, or of one store; oldest first."""
    found = []
    for lock in journals.glob(f"{store_id or '*'}/*/*/{LOCK}"):
        with contextlib.suppress(FileNotFoundError):  # its mount has just ended
            found.append(_view(lock.parent))
    return sorted(found, key=lambda view: (view.about.began, view.id))


def find_session(journals: Path, prefix: str) -> SessionView:
    """The one session whose name begins like that; UsageError."""
    found = [view for view in sessions(journals) if view.id.startswith(prefix)] if prefix else []
    if not found:
        raise UsageError(f"there is no journal {prefix!r} (`modelfs journal ls` lists them)")
    if len(found) > 1:
        raise UsageError(f"{prefix!r} is the beginning of {len(found)} journals; give more of it")
    return found[0]


def _view(directory: Path) -> SessionView:
    log = directory / LOG
    living = _is_held(directory / LOCK)
    contents = scan_log(log) if log.exists() else None
    records: list[Record] = contents.records if contents else []
    begin, left = unfinished(records)
    torn = sum(path.stat().st_size for path in directory.glob(f"{TORN}*"))
    if contents and not living:
        torn += contents.torn
    return SessionView(
        directory,
        directory.parent.parent.name,
        directory.parent.name,
        _about(directory),
        living,
        owner(directory) if living else None,
        begin.number if isinstance(begin, Begin) else None,
        _failure(directory),
        sum(not isinstance(record, Staged | Opened) for record in left),
        torn,
        tuple(held for held in held_files(records, directory / STAGE) if held.fate is not Fate.SETTLED),
    )


def _is_held(lock: Path) -> bool:
    fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _about(directory: Path) -> About:
    try:
        return msgspec.json.decode((directory / ABOUT).read_bytes(), type=About)
    except (OSError, ValueError, RecursionError):  # of an older version, or cut by a power loss
        return About("", "", directory.stat().st_mtime)


def _failure(directory: Path) -> Failure | None:
    try:
        return msgspec.json.decode((directory / FAILURE).read_bytes(), type=Failure)
    except (OSError, ValueError, RecursionError):
        return None


def data_ranges(held: HeldFile) -> Iterator[tuple[int, int]]:
    """The byte ranges of a staged file that were written: as the log says, else where the file has no holes (a block
    of the file system is the finest that those tell)."""
    if held.present is not None:
        yield from held.present
        return
    fd = os.open(held.file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end, position = os.fstat(fd).st_size, 0
        while position < end:
            try:
                start = os.lseek(fd, position, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole up to the end
                return
            position = os.lseek(fd, start, os.SEEK_HOLE)
            yield start, position
    finally:
        os.close(fd)
