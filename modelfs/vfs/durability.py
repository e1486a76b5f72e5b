"""When what was written is durable: at close and fsync at once, else in the background until the store has it.

Without write-back a file is durable when a commit holds it, with write-back when this machine's journal does; then the
upload follows. What fails is tried again until the store takes it. `Vfs` calls this when descriptors close, the daemon
when it ends.
"""

from __future__ import annotations

import logging
import time
from functools import partial

import trio

from modelfs import limits
from modelfs.errors import ModelfsError
from modelfs.vfs.commits import Committer
from modelfs.vfs.files import Files
from modelfs.vfs.journaling import Journal
from modelfs.vfs.ledger import acknowledge
from modelfs.vfs.namespace import Namespace
from modelfs.vfs.nodes import FileNode, path_of
from modelfs.writer.staging import StagedFile

log = logging.getLogger(__name__)


class Durability:
    """Of one mount. ``journal`` None: nothing can be written. ``nursery``: for uploads that nobody waits for."""

    def __init__(
        self,
        names: Namespace,
        files: Files,
        committer: Committer,
        journal: Journal | None,
        nursery: trio.Nursery,
        *,
        write_back: bool,
    ) -> None:
        self._names = names
        self._files = files
        self._committer = committer
        self._journal = journal
        self._nursery = nursery
        self._write_back = write_back
        self._jobs = trio.CapacityLimiter(limits.FINISH_JOBS)
        self._unhurried = trio.Lock()  # one at a time commits what nobody waits for

    # -- waited for ---------------------------------------------------------------------------------------------

    async def file(self, node: FileNode) -> None:
        """Return when what was written to a file is durable, and the name that it has."""
        if not self._write_back or self._journal is None or node.parent is None:
            await self._publish(node)
            return
        await self._files.keep(node, partial(self._journal.acknowledge, node))
        await self._journal.sync_acknowledged()
        self.later(node)

    async def everything(self) -> None:
        """Return when every finished change of the mount is durable."""
        if self._write_back and self._journal is not None:
            await self._journal.sync()
        else:
            await self._committer.publish()

    async def _publish(self, node: FileNode) -> None:
        if node.parent is None:
            return
        try:
            if node.modified:
                async with self._jobs:
                    await self._files.finish(node)
            await self._committer.publish()
        except (ModelfsError, OSError) as error:
            self._committer.last_error = str(error)
            raise

    # -- in the background --------------------------------------------------------------------------------------

    def later(self, node: FileNode) -> None:
        """Bring a file into the store while nobody waits for it."""
        self._nursery.start_soon(self._finish_quietly, node)

    async def run(self) -> None:
        """Finish closed files whose finish failed, or that were changed without being open (truncate)."""
        wait = limits.COMMIT_DELAY
        while True:
            await trio.sleep(wait)
            tried = [node for node in self._names.unfinished() if not node.writers and not node.finishing]
            done = True
            if tried:
                # One alone first: while the store is away, nothing is gained by asking for each of them.
                done = await self._finish_quietly(tried[0])
                if done:
                    async with trio.open_nursery() as nursery:
                        for node in tried[1:]:
                            nursery.start_soon(self._finish_quietly, node)
            wait = limits.COMMIT_DELAY if done else limits.COMMIT_RETRY

    async def _finish_quietly(self, node: FileNode) -> bool:
        """Bring a file into the store; False, and a line in the log, when that has to be tried again."""
        try:
            await self._finish_closed(node)
            await self._publish_soon()
            await self._files.release(node)
            self._names.forget_if_unused(node)
        except (ModelfsError, OSError) as error:
            if str(error) != self._committer.last_error:
                log.error("%r is not in the store yet, will be tried again: %s", path_of(node), error)
            self._committer.last_error = str(error)
            return False
        except Exception as error:
            # The mount serves others: what is staged stays, is tried again, and the log has the traceback.
            log.exception("%r: unexpected error while it was brought into the store", path_of(node))
            self._committer.last_error = repr(error)
            return False
        return True

    async def _finish_closed(self, node: FileNode) -> None:
        """The first half of `_publish`, for what nobody waits for: a content being written is left to its close."""
        if node.modified and self._is_closed(node, _generation_of(node)):
            async with self._jobs:
                await self._files.finish(node, partial(self._is_closed, node))

    async def _publish_soon(self) -> None:
        """The second half: what is finished within `COMMIT_DELAY` goes in one commit, which rewrites as many pages for
        one file as for a hundred."""
        change = self._names.change
        async with self._unhurried:
            if not self._committer.holds(change):
                await trio.sleep(limits.COMMIT_DELAY)
                await self._committer.publish()

    def _is_closed(self, node: FileNode, generation: int) -> bool:
        """True when nobody is in the middle of writing what the node has at that generation."""
        if not node.writers:
            return True
        content = self._journal.acknowledged(node) if self._journal is not None else None
        return content is not None and (content.staged, content.generation) == (_staged_of(node), generation)

    async def give_up(self, node: FileNode, why: OSError) -> bool:
        """The last writer of a file is gone, and what it wrote did not all reach this machine's disk: there is the
        version from before again. False when there was none, and the caller has to unlink it. A half save is never
        finished."""
        log.error("%r: what was written is given up, because a write failed: %s", path_of(node), why.strerror)
        content = self._journal.acknowledged(node) if self._journal is not None else None
        if content is None and not node.exists_finished:
            return False
        fresh = self._names.renew(node)
        if content is not None and self._journal is not None:
            await self._files.take_back(fresh, content, trim=True)
            self._journal.acknowledge(fresh, acknowledge(fresh))
            self.later(fresh)
        return True

    # -- the end ------------------------------------------------------------------------------------------------

    def pending(self) -> tuple[int, int]:
        """Files with unfinished changes and their bytes that are not in the store yet."""
        waiting = list(self._names.unfinished())
        return len(waiting), sum(node.size for node in waiting)

    def oldest(self) -> float | None:
        """Seconds since that one of the pending files was changed last which has waited longest; None: none waits."""
        changed = min((node.ctime_ns for node in self._names.unfinished()), default=None)
        return None if changed is None else max(0.0, time.time() - changed / 1e9)

    def settled(self) -> bool:
        """True when everything that was changed here is in the store."""
        return not self._committer.pending() and next(self._names.unfinished(), None) is None

    def being_written(self) -> int:
        """Files of `pending` that somebody is in the middle of writing."""
        return sum(not self._is_closed(node, _generation_of(node)) for node in self._names.unfinished())

    async def drain(self) -> None:
        """Bring everything into the store that is not being written; raises when the store does not take it."""
        for node in list(self._names.unfinished()):
            if node.state is None or node.state.failed is None:
                await self._finish_closed(node)
        await self._committer.publish()


def _staged_of(node: FileNode) -> StagedFile | None:
    return node.state.staged if node.state is not None else None


def _generation_of(node: FileNode) -> int:
    return node.state.staged.generation if node.state is not None else 0
