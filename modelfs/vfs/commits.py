"""Group commits of one mount, and following the commits of others.

`Committer.publish` returns when everything finished so far is in the store; all callers that arrive while a commit
is under way share the next one. Namespace changes that nobody waits for are committed after `COMMIT_DELAY`.
`Committer.refresh` asks the store for a newer commit and moves the view to it. Both change the committed tree under
the view, so both hold one lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import trio

from modelfs import limits
from modelfs.errors import ModelfsError
from modelfs.ids import TreeId
from modelfs.repository.objects import CommitRecord
from modelfs.repository.repository import Repository
from modelfs.vfs.namespace import Invalidations, Namespace, Snapshot
from modelfs.vfs.rebase import Rebase

log = logging.getLogger(__name__)


class CommitObserver(Protocol):
    """Who keeps a journal wants to know when a commit begins, what it will be, and when it is there."""

    def snapshot_taken(self) -> None: ...

    def announce(self, tree: bytes) -> None:
        """Called from a worker thread."""

    async def committed(self, record: CommitRecord, change: int) -> None:
        """``change``: number of the newest change that it carries."""


class Committer:
    """Publishes and follows one branch."""

    def __init__(
        self,
        repo: Repository,
        branch: str,
        head: CommitRecord,
        names: Namespace,
        notify: Callable[[Invalidations], None],
    ) -> None:
        self.head = head
        self.observer: CommitObserver | None = None
        self.last_error = ""  # of a file or commit that did not reach the store
        self.follow_error = ""  # of the last question for newer commits
        self._ended = ""  # says so when the branch was deleted
        self._repo = repo
        self._branch = branch
        self._names = names
        self._notify = notify
        self._lock = trio.Lock()
        self._published = 0  # number of the newest change that is in the store
        self._wake = trio.Event()
        self._threads = trio.CapacityLimiter(2)
        self._refreshing: trio.Event | None = None

    def pending(self) -> bool:
        """True when finished or unfinished changes are not in the store."""
        return self._names.dirty()

    async def publish(self) -> None:
        """Return when every change finished before the call is in the store; raises what the store said."""
        target = self._names.change
        while self._published < target:
            async with self._lock:
                if self._published < target:
                    await self._commit()

    async def _commit(self) -> None:
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
                    raise
                self.last_error = ""
                await self._move_to(record, snap)
                if self.observer is not None:
                    await self.observer.committed(record, snap.change)
        self._published = max(self._published, change)

    def _write(self, snap: Snapshot) -> CommitRecord:
        assert snap.root is not None
        base = self.head.commit.root
        tree = self._repo.apply(TreeId(base.content), snap.delta)
        root = self._repo.directory(snap.root, tree)
        if root == base:
            return self.head
        if self.observer is not None:
            self.observer.announce(tree)
        return self._repo.commit(self._branch, self.head, root, message="", files=snap.files, size=snap.bytes)

    async def _move_to(self, record: CommitRecord, snap: Snapshot | None = None) -> None:
        self.head = record
        found = await Rebase(self._names, self._repo, record.commit.root, snap).run()
        self._notify(found)

    async def refresh(self) -> None:
        """Ask the store for a newer commit now; callers that come meanwhile share the answer."""
        if self._refreshing is not None:
            await self._refreshing.wait()
            return
        done = self._refreshing = trio.Event()
        try:
            async with self._lock:
                head = await trio.to_thread.run_sync(
                    lambda: self._repo.head(self._branch, after=self.head.number), limiter=self._threads
                )
                if head is None and not self._ended:
                    self._ended = self.last_error = f"the branch {self._branch} was deleted"
                    log.error("%s: what it held last can be read, nothing can be committed", self._ended)
                if head is not None and head.number > self.head.number:
                    with trio.CancelScope(shield=True):
                        await self._move_to(head)
        finally:
            self._refreshing = None
            done.set()

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
