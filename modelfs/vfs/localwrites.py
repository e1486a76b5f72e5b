"""Bytes on their way to the local files of staged changes: written, synced, and room made for them on a full disk."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from modelfs import limits
from modelfs.cache.cache import Cache
from modelfs.journal.log import sync_directory
from modelfs.store.base import Buffer
from modelfs.vfs.nodes import Changes

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class LocalWrites:
    """Writes local files in the staging directory ``stage``. ``through``: what is written goes to the disk at once."""

    def __init__(self, stage: Path, cache: Cache, threads: trio.CapacityLimiter, *, through: bool) -> None:
        self._stage = stage
        self._cache = cache
        self._threads = threads
        self._through = through

    def write_now(self, state: Changes, offset: int, data: Buffer) -> bool:
        """Write a few bytes without a thread; False when there was no room, which `write` may make. OSError."""
        if len(data) > limits.INLINE_WRITE:
            return False
        state.staged.note_write(offset, offset + len(data))
        try:
            state.staged.pwrite(data, offset)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return False
        return True

    async def write(self, state: Changes, offset: int, data: Buffer) -> None:
        """Write all of ``data``. On a full disk the cache gives way first, if it lies there. OSError (ENOSPC, …)."""
        staged = state.staged
        pwrite = staged.pwrite_through if self._through else staged.pwrite

        def attempt() -> None:
            for _ in range(limits.MAKE_ROOM_ROUNDS):
                try:
                    return pwrite(data, offset)
                except OSError as error:
                    if error.errno not in _FULL or not self._cache.make_room(self._stage, len(data)):
                        raise
            return pwrite(data, offset)

        staged.begin_write(offset, offset + len(data))
        state.writing += 1
        try:
            await trio.to_thread.run_sync(attempt, limiter=self._threads)
        finally:
            state.writing -= 1
            state.quiet.set()
            state.quiet = trio.Event()
            staged.end_write(offset, offset + len(data))

    async def sync(self, state: Changes) -> None:
        """The local file and its name are on the disk when this returns. OSError, at every later call too: the kernel
        takes pages that it could not write for written, and a second fsync would find nothing wrong."""

        def work() -> None:
            state.staged.sync()
            if not state.named:
                sync_directory(self._stage)
                state.named = True

        if state.failed is not None:
            raise state.failed
        try:
            await trio.to_thread.run_sync(work, limiter=self._threads)
        except OSError as error:
            state.failed = error
            raise


@asynccontextmanager
async def sealed(state: Changes) -> AsyncIterator[None]:
    """No write of the local file is under way or begins meanwhile. Nobody may have sealed it already."""
    done = state.sealed = trio.Event()
    try:
        while state.writing:
            await state.quiet.wait()
        yield
    finally:
        state.sealed = None
        done.set()
