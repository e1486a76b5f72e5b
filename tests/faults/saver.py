"""Threads that save, rename and delete on a mount that is killed under them, and know what must be there afterwards.

Each has a directory of its own. What it records, it records only when close, fsync, rename or unlink has returned: from
then on it must be there. What was under way at a kill may be there or not, whole.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from pathlib import Path

from history import ABSENT, fingerprint

GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENODEV)
NAMES = ("model", "optimizer", "state", "log")


class Saver(threading.Thread):
    """One thread of the workload, for one life of the daemon. ``must`` holds what is acknowledged: name -> fingerprint;
    ``may`` what an operation that the kill cut short would have made of names. Keep both for the next life."""

    def __init__(
        self, directory: Path, seed: str, must: dict[str, str], *, names_sync: bool, stop: threading.Event
    ) -> None:
        super().__init__(name=directory.name)
        self.directory = directory
        self.must = must
        self.may: list[dict[str, str]] = []
        self.acknowledged = 0
        self.failure = ""
        self._rng = random.Random(seed)
        self._names_sync = names_sync
        self._stop_now = stop
        self._number = 0

    def run(self) -> None:
        try:
            while not self._stop_now.is_set():
                self._number += 1
                self._step()
        except OSError as error:
            if error.errno not in GONE or not self._stop_now.wait(30):
                self.failure = f"{self.directory.name}: {error}, and nobody was killed"

    def _step(self) -> None:
        choice = self._rng.random()
        name = self._rng.choice(NAMES)
        if choice < 0.4:
            self._save(name)
        elif choice < 0.7:
            self._save_and_rename(name)
        elif choice < 0.8:
            self._append(name)
        elif choice < 0.9:
            self._rename(name, self._rng.choice(NAMES))
        else:
            self._unlink(name)

    def _data(self) -> bytes:
        size = self._rng.choice((100, 3000, 20_000, 300_000))
        head = f"{self.directory.name} {self._number} {self._rng.getrandbits(60)} ".encode()
        return (head * (size // len(head) + 1))[:size]

    def _begin(self, **effects: str) -> None:
        """From here on the effects may be there."""
        self.may = [{**self.must, **effects}]

    def _done(self) -> None:
        """The call has returned."""
        self.must = {name: value for name, value in self.may[-1].items() if value != ABSENT}
        self.may = []
        self.acknowledged += 1

    def _write(self, name: str, data: bytes, flags: int) -> None:
        fd = os.open(self.directory / name, os.O_WRONLY | os.O_CREAT | flags, 0o644)
        try:
            for start in range(0, len(data), 50_000):
                os.write(fd, data[start : start + 50_000])
            if self._rng.random() < 0.3:
                os.fsync(fd)
                self._done()
        finally:
            os.close(fd)

    def _save(self, name: str) -> None:
        data = self._data()
        self._begin(**{name: fingerprint(data)})
        self._write(name, data, os.O_TRUNC)
        if self.may:
            self._done()

    def _append(self, name: str) -> None:
        if name not in self.must:
            return
        before = (self.directory / name).read_bytes()
        if fingerprint(before) != self.must[name]:
            self.failure = f"{self.directory.name}/{name} does not hold what was just written to it"
        data = self._data()[:20_000]
        self._begin(**{name: fingerprint(before + data)})
        self._write(name, data, os.O_APPEND)
        if self.may:
            self._done()

    def _save_and_rename(self, name: str) -> None:
        data = self._data()
        self._begin(temporary=fingerprint(data))
        self._write("temporary", data, os.O_TRUNC)
        if self.may:
            self._done()
        self._rename("temporary", name)

    def _rename(self, old: str, new: str) -> None:
        if old not in self.must or old == new:
            return
        self._begin(**{old: ABSENT, new: self.must[old]})
        os.rename(self.directory / old, self.directory / new)
        self._done()
        self._sync_names()

    def _unlink(self, name: str) -> None:
        if name not in self.must:
            return
        self._begin(**{name: ABSENT})
        os.unlink(self.directory / name)
        self._done()
        self._sync_names()

    def _sync_names(self) -> None:
        if self._names_sync and self._rng.random() < 0.5:
            fd = os.open(self.directory, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def verify(self) -> str:
        """What is wrong with the directory as it is now ("" nothing), which becomes what must be there."""
        found = {name: fingerprint((self.directory / name).read_bytes()) for name in os.listdir(self.directory)}
        allowed = [self.must, *({k: v for k, v in state.items() if v != ABSENT} for state in self.may)]
        if found not in allowed:
            return f"{self.directory.name} holds {found}; must be one of {allowed}"
        self.must, self.may = found, []
        return ""
