"""Verifying all chunks of a store, a little at a time: where the last run stopped, the next one goes on.

A round goes over the chunks in the order of their ids. Where it stands lies in a small file on this machine, which is
written every few seconds and replaced atomically, so a scrub may be stopped at any moment. What a manifest says of a
chunk is needed to decode it, so every run begins with the metadata, as fsck does.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from modelfs import limits
from modelfs.errors import UsageError
from modelfs.ids import ChunkId
from modelfs.private import private_directory
from modelfs.repository.fsck import Findings, Fsck, Stage
from modelfs.repository.repository import Repository
from modelfs.repository.verify import ChunkCheck


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a round stands. ``last``: the id of the chunk that was verified last, "" at the beginning of a round;
    ``rounds`` that were finished, the last one at ``finished`` (RFC 3339); ``checked``: chunks of this round."""

    store: str
    last: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    rounds: int = 0
    finished: str = ""
    checked: int = 0


class Pace:
    """Keeps an average of ``rate`` bytes a second; 0: as fast as it goes."""

    def __init__(
        self, rate: int, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    def spend(self, count: int) -> None:
        """Wait until ``count`` more bytes may be read. Time that was not used is not made up for."""
        if self._rate:
            now = self._clock()
            if self._due > now:
                self._sleep(self._due - now)
            self._due = max(self._due, now) + count / self._rate


def read_progress(path: Path, store_id: str) -> Progress:
    """Where the last run stopped; the beginning when there was none. UsageError for a file that is not ours."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Progress)
    except FileNotFoundError:
        return Progress(store_id)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not the state of a scrub: {error}") from error
    if found.store != store_id:
        raise UsageError(f"{path} is the state of another store's scrub ({found.store[:64]})")
    return found


def write_progress(path: Path, progress: Progress) -> None:
    """Replace the state atomically. UsageError when it cannot be written."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        private_directory(path.parent)
        with partial.open("wb") as file:
            file.write(msgspec.json.encode(progress))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"the state {path} cannot be written: {error.strerror}") from error


class Scrub:
    """One run. ``stop_after``: plain bytes to read in it, 0 for the rest of the round."""

    def __init__(self, repo: Repository, state: Path, pace: Pace, stop_after: int, stage: Stage) -> None:
        self._repo = repo
        self._state = state
        self._pace = pace
        self._stop_after = stop_after
        self._fsck = Fsck(repo, stage=stage)
        self.progress = read_progress(state, repo.format.id)

    def run(self) -> tuple[Findings, Progress]:
        """Verify from where the last run stopped: what was found, and where the round stands now."""
        write_progress(self._state, self.progress)  # before hours of work, not after
        history, survey = self._fsck.survey()
        check = ChunkCheck(self._repo, survey.lengths, self._fsck.notes)
        ids = sorted(survey.lengths)
        begin = bisect_right(ids, ChunkId(bytes.fromhex(self.progress.last)))
        chunks = self._share(ids[begin:], check)
        saved = time.monotonic()

        def done(chunk: ChunkId, length: int) -> None:
            nonlocal saved
            self.progress = msgspec.structs.replace(self.progress, last=chunk.hex(), checked=self.progress.checked + 1)
            if time.monotonic() - saved >= limits.SCRUB_SAVE:
                write_progress(self._state, self.progress)
                saved = time.monotonic()
            self._pace.spend(length)

        try:
            self._fsck.read(check, chunks, limits.SCRUB_THREADS, done)
            if begin + len(chunks) == len(ids):
                moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                self.progress = Progress(self.progress.store, rounds=self.progress.rounds + 1, finished=moment)
        finally:
            write_progress(self._state, self.progress)
        self._fsck.links(check, survey, look_at=False)
        self._fsck.finish(history, check)
        return self._fsck.findings, self.progress

    def _share(self, ids: list[ChunkId], check: ChunkCheck) -> list[ChunkId]:
        """What this run is to verify, at least one chunk."""
        total = 0
        for i, chunk in enumerate(ids):
            if self._stop_after and total >= self._stop_after:
                return ids[:i]
            total += check.length(chunk)
        return ids
