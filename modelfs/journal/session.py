"""The journal directory of one writing mount, locked while its daemon lives.

Layout: ``<journal directory>/<branch>/<random hex>/{lock,log,stage/}``. The lock (flock) tells a running mount from
one that died. `dead_sessions` takes over what the dead left: changes that were acknowledged are replayed by the next
mount (`modelfs.vfs.recovery`), files that were still open are kept and reported, nothing is dropped silently.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from modelfs import limits
from modelfs.errors import UsageError
from modelfs.journal.log import JournalLog, Staged, read_log, unfinished
from modelfs.process import ending, namespace

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A staged file of a mount that died before it was closed. ``size`` in bytes."""

    path: Path
    size: int


class Session:
    """A locked directory with a log and staged files."""

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        self.stage = directory / "stage"
        self._lock = lock

    @classmethod
    def begin(cls, root: Path, branch: str) -> Session:
        """A new session under ``root``. UsageError when that is not possible."""
        directory = root / branch / uuid.uuid4().hex
        try:
            (directory / "stage").mkdir(parents=True, mode=0o700)
            lock = _locked(directory / "lock")
            os.write(lock, b"%d %d\n" % (os.getpid(), namespace()))
            return cls(directory, lock)
        except OSError as error:
            raise UsageError(f"journal directory {root} is not writable: {error.strerror}") from error

    def log(self) -> JournalLog:
        """The session's log, for appending."""
        return JournalLog(self.directory / "log")

    def leftovers(self) -> list[Leftover]:
        """Staged files that no acknowledged change speaks of."""
        _, changes = unfinished(read_log(self.directory / "log")) if (self.directory / "log").exists() else (None, [])
        wanted = {change.file for change in changes if isinstance(change, Staged)}
        return [Leftover(p, p.stat().st_size) for p in sorted(self.stage.iterdir()) if p.name not in wanted]

    def close(self, *, discard_log: bool) -> None:
        """Unlock; remove the directory when nothing in it is needed any more."""
        if discard_log:
            log = self.directory / "log"
            for record in read_log(log) if log.exists() else []:
                if isinstance(record, Staged) and record.file:
                    (self.stage / record.file).unlink(missing_ok=True)
            log.unlink(missing_ok=True)
            if not any(self.stage.iterdir()):
                shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self._lock)


def _locked(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def dead_sessions(root: Path, branch: str) -> list[Session]:
    """Sessions of ``branch`` whose daemon is gone, locked for the caller, oldest first.

    A daemon that was killed holds its lock until its last thread has come back from the disk. A mount made right
    after the kill waits for that (at most `limits.DEAD_SESSION_WAIT` seconds): to skip the journal would hide changes
    that were acknowledged.
    """
    deadline = time.monotonic() + limits.DEAD_SESSION_WAIT
    found = []
    for lock in sorted(root.glob(f"{branch}/*/lock"), key=_modified):
        while True:
            try:
                found.append(Session(lock.parent, _locked(lock)))
            except FileNotFoundError:
                pass  # another mount has just tidied it up
            except BlockingIOError:
                pid = _owner(lock)
                if pid is not None and ending(pid):
                    if time.monotonic() < deadline:
                        time.sleep(limits.DEAD_SESSION_POLL)
                        continue
                    log.error("the journal %s is still held by process %d, which is ending: skipped", lock.parent, pid)
            break
    return found


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _owner(lock: Path) -> int | None:
    """The process that began the session; None when it cannot be told, or is in another container."""
    try:
        pid, where = map(int, lock.read_bytes().split())
    except (FileNotFoundError, ValueError):
        return None
    return pid if where == namespace() else None
