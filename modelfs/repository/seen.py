"""What this machine has seen of a store: the newest commit of each branch, the newest revision of the keys.

A store that shows less than that has been rolled back: by its keeper, by a backup, by a mirror that lags. One small
file for each branch, in the state directory; `Commits` and `Access` ask and tell. A file that cannot be read or
written makes this machine trust the store as a new one would, and the log says so.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelfs.errors import UntrustedError
from modelfs.private import private_directory
from modelfs.repository.objects import CommitRecord

log = logging.getLogger(__name__)

_LINE: Final = re.compile(r"([0-9]{1,19}) ([0-9a-f]{64})\n")
_KEYS: Final = ".keys"  # no branch begins with a dot
_NO_ID: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Seen:
    """Number and id of a commit."""

    number: int
    id: bytes


class SeenHeads:
    """The memory for one store, in ``directory``; None remembers nothing. Safe to use from many threads."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._noted: dict[str, int] = {}
        self._complained = False

    def last(self, branch: str) -> Seen | None:
        """The newest commit of a branch that any process of this user here has seen. Ask before the store is asked:
        what somebody notes later, the store need not have shown us."""
        return self._read(branch)

    def note(self, record: CommitRecord) -> None:
        """The branch's head is this one. An older one than what is known changes nothing."""
        if self._noted.get(record.branch, 0) < record.number:
            self._write(record.branch, Seen(record.number, record.id))
            self._noted[record.branch] = record.number

    def check_revision(self, revision: int, url: str) -> None:
        """The keys of the store have this revision, 0 for a store without. UntrustedError when that is a step back."""
        seen = self._read(_KEYS)
        if seen is not None and revision < seen.number:
            what = f"revision {revision} of its keys, and {seen.number} was seen here" if revision else "no encryption"
            raise UntrustedError(
                f"{url} has been rolled back: it shows {what}. If that is meant, remove {self.where(_KEYS)}"
            )
        if revision:
            self._write(_KEYS, Seen(revision, _NO_ID))

    def where(self, branch: str) -> Path:
        """The file to remove in order to accept what the store shows."""
        return (self._directory or Path()) / branch

    def _read(self, name: str) -> Seen | None:
        if self._directory is None:
            return None
        try:
            found = _LINE.fullmatch((self._directory / name).read_text("ascii"))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            self._complain(error)
            return None
        if found is None:
            self._complain(ValueError("not a number and an id"))
            return None
        return Seen(int(found[1]), bytes.fromhex(found[2]))

    def _write(self, name: str, seen: Seen) -> None:
        if self._directory is None:
            return
        with self._lock:
            known = self._read(name)
            if known is not None and known.number >= seen.number:
                return
            partial = self._directory / f"{name}.{os.getpid()}~"
            try:
                private_directory(self._directory)
                partial.write_text(f"{seen.number} {seen.id.hex()}\n", "ascii")
                partial.replace(self._directory / name)
            except OSError as error:
                self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            log.warning("%s cannot be used, so a rolled-back store would not be noticed: %s", self._directory, error)
