"""What a mount does before its first request, and beside its requests until it is cancelled."""

from __future__ import annotations

import logging

import trio

from modelfs import config, limits
from modelfs.assembly.stack import Stack
from modelfs.errors import CacheError, ModelfsError
from modelfs.journal.session import dead_sessions
from modelfs.reader.source import ChunkSource
from modelfs.vfs.recovery import replay
from modelfs.writer.uploader import Uploader

log = logging.getLogger(__name__)


async def recover(branch: str, stack: Stack, source: ChunkSource, uploader: Uploader) -> None:
    """Finish what dead mounts of this branch had acknowledged; report what they had not."""
    root = config.journal_directory(stack.repo.format.id)
    sessions = await trio.to_thread.run_sync(dead_sessions, root, branch)
    for done in await replay(sessions, source, uploader, branch):
        if done.away:
            # A mount without them would show, and let others overwrite, what is older than what was acknowledged.
            raise ModelfsError(
                f"a mount that died had acknowledged changes, and the store does not take them now ({done.failure}); "
                f"they are kept: see `modelfs journal ls`"
            )
        if done.record is not None and done.record.number > stack.head.number:
            stack.head = done.record


async def settle(stack: Stack) -> None:
    """Have others who use the cache know of what this mount put there, and of its hits, also should it be killed."""
    while True:
        await trio.sleep(limits.CACHE_SETTLE)
        if stack.cache.unsettled():
            try:
                await trio.to_thread.run_sync(stack.cache.settle)
            except CacheError as error:
                log.debug("what is in the cache is told later: %s", error)


async def keep_lease(stack: Stack) -> None:
    """Renew the lease of a single writer, if there is one."""
    while stack.lease is not None:
        await trio.sleep(limits.LEASE_TTL / 3)
        try:
            await trio.to_thread.run_sync(stack.lease.renew)
        except ModelfsError as error:
            log.error("the single-writer lease could not be renewed: %s", error)
