"""Group commits of one mount, and following the commits of others.

`Committer.publish` returns when everything finished so far is in the store; all callers that arrive while a commit
is under way share the next one. Namespace changes that nobody waits for are committed after `COMMIT_DELAY`.
`Committer.refresh` asks the store for a newer commit and moves the view to it. Both change the committed tree under
the view, so both hold one lock.

A commit that failed may be in the store all the same. So every commit is remembered, with what it carries, until its
fate is known and the view has moved to it; made anew, it would put the same changes into history twice, the second time
over what others have written since.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import trio

from modelfs import limits
from modelfs.errors import CollectedError, ModelfsError
from modelfs.ids import TreeId
from modelfs.repository.objects import CommitRecord
from modelfs.repository.repository import Repository
from modelfs.vfs.namespace import Namespace, Snapshot
from modelfs.vfs.rebase import Rebase

log = logging.getLogger(__name__)


class CommitObserver(Protocol):
    """Who keeps a journal wants to know when a commit begins, what it will be, and when it is there."""

    def snapshot_taken(self) -> None: ...

    def announce(self, record: CommitRecord) -> None:
        """Called from a worker thread, before each attempt to write it."""

    async def committed(self, record: CommitRecord, change: int) -> None:
        """``change``: number of the newest change that it carries."""

    def followed(self, record: CommitRecord) -> None:
        """The view stands on a commit of others now."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A commit that was begun, and what it carries."""

    record: CommitRecord
    snap: Snapshot


class Committer:
    """Publishes and follows one branch."""

    def __init__(
        self,
        repo: Repository,
        branch: str,
        head: CommitRecord,
        names: Namespace,
    ) -> None:
        self.head = head
        self.observer: CommitObserver | None = None
        self.last_error = ""  # of a file or commit that did not reach the store
        self.follow_error = ""  # of the last question for newer commits
        self.asked_at = time.monotonic()  # when the store last said what the newest commit is
        self._ended = ""  # says so when the branch was deleted
        self._repo = repo
        self._branch = branch
        self._names = names
        self._lock = trio.Lock()
        self._published = 0  # number of the newest change that is in the store
        self._wake = trio.Event()
        self._threads = trio.CapacityLimiter(2)
        self._attempt: _Attempt | None = None  # not known to have failed, and the view has not moved to it
        self._asking = trio.Lock()
        self._questions = 0  # put to the store so far
        self._answer: tuple[int, ModelfsError | None] = (0, None)  # the last question that was answered, and how

    def pending(self) -> bool:
        """True when finished or unfinished changes are not in the store."""
        return self._names.dirty()

    def holds(self, change: int) -> bool:
        """True when the store has everything up to the change of that number."""
        return self._published >= change

    async def publish(self) -> None:
        """Return when every change finished before the call is in the store; raises what the store said."""
        target = self._names.change
        while self._published < target:
            async with self._lock:
                if self._published < target:
                    await self._commit()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """No commit begins meanwhile: what is finished and renamed in here goes into one."""
        async with self._lock:
            yield

    async def _commit(self) -> None:
        if self._attempt is not None:
            await self._settle(self._attempt)
        if self._names.links.any() and not self._names.links.complete():
            await self._names.links.load()  # a linked file is committed under all of its names
        change = self._names.change
        snap = self._names.snapshot()
        if snap is not None:
            if self.observer is not None:
                self.observer.snapshot_taken()
            # A commit that was begun is brought to its end even when the one who waits for it gives up:
            # otherwise the view would not know what it committed.
            with trio.CancelScope(shield=True):
                try:
                    record = await trio.to_thread.run_sync(self._write, snap, limiter=self._threads)
                except ModelfsError as error:
                    self.last_error = str(error)
                    self.poke()  # what stays behind goes up by itself when the store is back
                    raise
                self.last_error = ""
                await self._carried(record, snap)
        self._published = max(self._published, change)

    async def _carried(self, record: CommitRecord, snap: Snapshot) -> None:
        """A commit of ours is in the store, and ``record`` is it or a later one."""
        await self._move_to(record, snap)
        self._attempt = None
        if self.observer is not None:
            await self.observer.committed(record, snap.change)
        self._published = max(self._published, snap.change)

    async def _settle(self, attempt: _Attempt) -> None:
        """Bring a commit to its end, one way or the other; raises what the store said."""
        with trio.CancelScope(shield=True):
            try:
                landed = await self._ask(partial(self._repo.settle, attempt.record))
                await self._known(attempt, attempt.record, landed=landed)
            except ModelfsError as error:
                self.last_error = str(error)
                self.poke()
                raise

    async def _ask(self, question: Callable[[], bool | None]) -> bool:
        """What became of a commit: True when it was made."""
        try:
            return await trio.to_thread.run_sync(question, limiter=self._threads) is True
        except CollectedError as error:
            # Made again it goes over what came since, and history has both; passed over it could be lost.
            log.warning("%s: they are committed again", error)
            return False

    async def _known(self, attempt: _Attempt, head: CommitRecord, *, landed: bool) -> None:
        """``head``: the newest commit that is known, which is the attempt's or a later one if it was made."""
        log.info("commit %d was %s after all", attempt.record.number, "made" if landed else "not made")
        if landed:
            await self._carried(head, attempt.snap)
        else:
            self._attempt = None

    def _write(self, snap: Snapshot) -> CommitRecord:
        assert snap.root is not None
        base = self.head.commit.root
        tree = self._repo.apply(TreeId(base.content), snap.delta)
        root = self._repo.directory(snap.root, tree)
        if root == base:
            return self.head

        def announce(record: CommitRecord) -> None:
            if self.observer is not None:
                self.observer.announce(record)
            self._attempt = _Attempt(record, snap)

        return self._repo.commit(
            self._branch, self.head, root, message="", files=snap.files, size=snap.bytes, announce=announce
        )

    async def _move_to(self, record: CommitRecord, snap: Snapshot | None = None) -> None:
        await Rebase(self._names, self._repo, record.commit.root, snap).run()
        self.head = record  # not before: a move that failed must be made again

    async def refresh(self) -> None:
        """Ask the store for a newer commit. The answer is of a moment after the call: callers that come while a
        question is under way share the next one, and its failure."""
        wanted = self._questions + 1
        async with self._asking:
            if self._answer[0] < wanted:
                self._questions += 1
                failure: ModelfsError | None = None
                try:
                    began = time.monotonic()
                    async with self._lock:
                        await self._follow()
                    self.asked_at = began
                except ModelfsError as error:
                    failure = error
                self._answer = (self._questions, failure)
            if self._answer[1] is not None:
                raise self._answer[1]

    async def _follow(self) -> None:
        head = await trio.to_thread.run_sync(
            lambda: self._repo.head(self._branch, after=self.head.number), limiter=self._threads
        )
        if head is None and not self._ended:
            self._ended = self.last_error = f"the branch {self._branch} was deleted"
            log.error("%s: what it held last can be read, nothing can be committed", self._ended)
        if head is None or head.number <= self.head.number:
            return
        if self._attempt is not None and head.number >= (mine := self._attempt.record).number:
            landed = await self._ask(partial(self._repo.made, self._branch, mine.number, mine.id))
            with trio.CancelScope(shield=True):
                await self._known(self._attempt, head, landed=landed)
        if head.number > self.head.number:
            with trio.CancelScope(shield=True):
                await self._move_to(head)
            if self.observer is not None:
                self.observer.followed(head)

    def poke(self) -> None:
        """A namespace change wants to be in the store within a second."""
        self._wake.set()

    async def run_commits(self) -> None:
        """Commit namespace changes that nobody waits for, until cancelled."""
        said = ""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await trio.sleep(limits.COMMIT_DELAY)
            try:
                await self.publish()
            except (ModelfsError, OSError) as error:
                if str(error) != said:
                    log.error("commit failed, will be tried again: %s", error)
                said = str(error)
                await trio.sleep(limits.COMMIT_RETRY)
                self._wake.set()
            else:
                said = ""

    async def run_informed(self) -> None:
        """Keep up with what collections condemn, until cancelled: a mount that was idle need not ask for all again."""
        while True:
            await trio.sleep(self._repo.patience / 2)
            try:
                await trio.to_thread.run_sync(self._repo.stay_informed, limiter=self._threads)
            except ModelfsError as error:
                log.info("cannot learn what is condemned, a commit will ask again: %s", error)

    async def run_refresh(self, interval: float) -> None:
        """Follow the branch every ``interval`` seconds, until cancelled."""
        while True:
            await trio.sleep(interval)
            try:
                await self.refresh()
                self.follow_error = self._ended
            except ModelfsError as error:
                if not self.follow_error:
                    log.warning("cannot ask the store for newer commits: %s", error)
                self.follow_error = str(error)
