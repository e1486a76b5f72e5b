"""The journal directory of one writing mount, locked while its daemon lives.

Layout: ``<journal directory>/<branch>/<random hex>/`` with ``lock``, ``about`` (whose it is), ``log``, ``stage/`` and,
when something went wrong, ``failure`` (why a replay failed) and ``torn-…`` (the end of a log that a power loss
damaged). The lock (flock) tells a running mount from one that died. `dead_sessions` takes over what the dead left:
changes that were acknowledged are replayed by the next mount or `modelfs journal retry` (`modelfs.vfs.recovery`), files
that were still open are kept and reported, nothing is dropped silently. `modelfs.journal.look` only looks.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from modelfs import limits
from modelfs.errors import UsageError
from modelfs.journal.held import Fate, HeldFile, as_opened, held_files
from modelfs.journal.log import Begin, JournalLog, Record, scan_log, sync_directory, unfinished
from modelfs.private import private_directory
from modelfs.process import ending, namespace

log = logging.getLogger(__name__)

LOCK: Final = "lock"
LOG: Final = "log"
STAGE: Final = "stage"
ABOUT: Final = "about"
FAILURE: Final = "failure"
TORN: Final = "torn-"


@dataclass(frozen=True, slots=True)
class About:
    """Whose journal it is: the store's URL as it was given, the mount point, when it began (Unix seconds)."""

    store: str
    mountpoint: str
    began: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last replay failed, and when (Unix seconds)."""

    why: str
    when: float


class Session:
    """A locked directory with a log and staged files."""

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        self.stage = directory / STAGE
        self._lock = lock

    @classmethod
    def begin(cls, root: Path, branch: str, *, store: str = "", mountpoint: str = "") -> Session:
        """A new session under ``root``, its names on the disk. UsageError when that is not possible."""
        directory = root / branch / uuid.uuid4().hex
        try:
            private_directory(directory / STAGE)
            about = About(store, mountpoint, time.time())
            (directory / ABOUT).write_text(json.dumps(asdict(about)))
            # Under its name only when it is held: another mount that begins now would take the session for a dead one.
            fresh = directory / f"{LOCK}.new"
            lock = _locked(fresh)
            os.write(lock, b"%d %d\n" % (os.getpid(), namespace()))
            fresh.rename(directory / LOCK)
            JournalLog(directory / LOG).close()
            for path in (directory, *directory.parents)[: limits.JOURNAL_DEPTH]:
                with contextlib.suppress(PermissionError):  # above what is ours
                    sync_directory(path)
            return cls(directory, lock)
        except OSError as error:
            raise UsageError(f"journal directory {root} is not writable: {error.strerror}") from error

    def log(self) -> JournalLog:
        """The session's log, for appending."""
        return JournalLog(self.directory / LOG)

    def records(self) -> list[Record]:
        """All whole records of the log."""
        path = self.directory / LOG
        return scan_log(path).records if path.exists() else []

    def set_torn_aside(self) -> int:
        """Cut what is no record off the end of the log and keep it in a file of its own; the bytes cut off.

        Behind a damaged place there may be whole records. They are not replayed: what they build on is missing.
        """
        path = self.directory / LOG
        if not path.exists() or not (found := scan_log(path)).torn:
            return 0
        with path.open("r+b") as file:
            file.seek(found.whole)
            tail = file.read(limits.JOURNAL_TORN_MAX)
            if tail.strip(b"\0"):
                aside = self.directory / f"{TORN}{found.whole}"
                with aside.open("wb") as copy:
                    copy.write(tail)
                    copy.flush()
                    os.fsync(copy.fileno())
                sync_directory(self.directory)
            file.truncate(found.whole)
            os.fsync(file.fileno())
        return found.torn

    def torn(self) -> list[Path]:
        """What `set_torn_aside` has kept."""
        return sorted(self.directory.glob(f"{TORN}*"))

    def held(self) -> list[HeldFile]:
        """The staged files and what becomes of them."""
        return held_files(self.records(), self.stage)

    def leftovers(self) -> list[HeldFile]:
        """Staged files that no replay brings into the store."""
        return [held for held in self.held() if held.fate in (Fate.UNFINISHED, Fate.DAMAGED)]

    def note_failure(self, why: str) -> None:
        """Remember why the acknowledged changes could not be replayed."""
        with contextlib.suppress(OSError):  # a full disk: the log of the mount has it too
            (self.directory / FAILURE).write_text(json.dumps(asdict(Failure(why, time.time()))))

    def close(self, *, discard_log: bool) -> None:
        """Unlock. ``discard_log``: all acknowledged changes are in the store, so only what was never acknowledged, or
        was damaged, is kept; without such, the directory goes. OSError leaves everything as it is."""
        try:
            if discard_log:
                self._settle()
        finally:
            os.close(self._lock)

    def abandon(self) -> None:
        """In a forked child: the session is the parent's, and ends with the parent alone."""
        os.close(self._lock)

    def _settle(self) -> None:
        records = self.records()
        held = held_files(records, self.stage)
        kept = [one for one in held if one.fate in (Fate.UNFINISHED, Fate.DAMAGED) and one.file.exists()]
        if kept or self.torn():
            begin = next((record for record in reversed(records) if isinstance(record, Begin)), None)
            opened = [as_opened(one) for one in kept]
            # The log first: a staged file must not be missed by a record that still counts.
            journal = self.log()
            try:
                journal.restart([*([begin] if begin else []), *(one for one in opened if one is not None)])
            finally:
                journal.close()
            for one in held:
                if one not in kept:
                    one.file.unlink(missing_ok=True)
            (self.directory / FAILURE).unlink(missing_ok=True)
            return
        (self.directory / LOG).unlink(missing_ok=True)
        sync_directory(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)

    def drop(self, held: HeldFile | None = None) -> None:
        """Delete one unfinished or damaged file, or the whole session, and unlock. Nothing brings it back."""
        try:
            if held is not None:
                held.file.unlink(missing_ok=True)
                _, left = unfinished(self.records())
                if left or self.held() or self.torn():
                    return
            shutil.rmtree(self.directory)
        finally:
            os.close(self._lock)


def _locked(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def take_over(directory: Path) -> Session | None:
    """Lock a session whose daemon is gone; None when somebody holds it or it has gone away."""
    try:
        fd = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    if not os.fstat(fd).st_nlink:  # another mount has just tidied it up
        os.close(fd)
        return None
    return Session(directory, fd)


def dead_sessions(root: Path, branch: str) -> list[Session]:
    """Sessions of ``branch`` whose daemon is gone, locked for the caller, oldest first.

    A daemon that was killed holds its lock until its last thread has come back from the disk. A mount made right
    after the kill waits for that (at most `limits.DEAD_SESSION_WAIT` seconds): to skip the journal would hide changes
    that were acknowledged.
    """
    deadline = time.monotonic() + limits.DEAD_SESSION_WAIT
    found = []
    for lock in sorted(root.glob(f"{branch}/*/{LOCK}"), key=_modified):
        while (session := take_over(lock.parent)) is None:
            pid = owner(lock.parent)
            if pid is None or not ending(pid):
                break
            if time.monotonic() >= deadline:
                log.error("the journal %s is still held by process %d, which is ending: skipped", lock.parent, pid)
                break
            time.sleep(limits.DEAD_SESSION_POLL)
        if session is not None:
            found.append(session)
    return found


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def owner(directory: Path) -> int | None:
    """The process that began the session; None when it cannot be told, or is in another container."""
    try:
        pid, where = map(int, (directory / LOCK).read_bytes().split())
    except (FileNotFoundError, ValueError):
        return None
    return pid if where == namespace() else None
