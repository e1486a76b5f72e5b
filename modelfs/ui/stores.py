"""Stores that pages are about: opened when the first page needs one, with few threads for each.

A store that does not answer holds up to `limits.UI_STORE_THREADS` threads, its own, and pages about it say so after
`limits.UI_TIMEOUT`; pages about other stores do not wait. One that could not be opened is left alone for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import trio

from modelfs import config, limits
from modelfs.concurrency import together
from modelfs.errors import ModelfsError, UnknownRefError, UsageError
from modelfs.ids import ChunkId
from modelfs.repository.access import Access
from modelfs.repository.keys import chunk_key
from modelfs.repository.objects import CommitRecord
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store
from modelfs.ui.history import History
from modelfs.ui.remembered import Remembered
from modelfs.ui.savings import Savings, draft

T = TypeVar("T")


class OpenStore:
    """One store. ``cache``: where a mount of it said that its cache is."""

    def __init__(self, store_id: str, url: str, access: Access, repo: Repository | None = None) -> None:
        self.id = store_id
        self.url = url
        self.cache = config.cache_directory(store_id)
        self.threads = trio.CapacityLimiter(limits.UI_STORE_THREADS)
        self.savings: Remembered[bytes, Savings] = Remembered(limits.UI_KNOWN_COMMITS)
        self.sizes: Remembered[ChunkId, int] = Remembered(limits.UI_CHUNK_SIZES)
        self._access = access
        self._repo = repo
        self._history = History(repo) if repo is not None else None
        self._opening = threading.Lock()
        self._failed: tuple[float, ModelfsError] | None = None

    async def ask(self, question: Callable[[Repository, History], T]) -> T:
        """Have a blocking question answered in one of the store's threads. TooSlowError; what the question raises."""

        def answer() -> T:
            return question(*self._opened())

        with trio.fail_after(limits.UI_TIMEOUT):
            return await trio.to_thread.run_sync(answer, limiter=self.threads, abandon_on_cancel=True)

    async def brought(self, record: CommitRecord, before: CommitRecord | None) -> Savings:
        """What a commit brought. TooSlowError; what is known by then makes the next question quicker."""
        if (known := self.savings.get(record.id)) is not None:
            return known
        made = await self.ask(lambda repo, _: draft(repo, before, record))
        unknown = [chunk for chunk in made.chunks if self.sizes.get(chunk) is None]
        batches = iter([unknown[i : i + limits.UI_SIZES_BATCH] for i in range(0, len(unknown), limits.UI_SIZES_BATCH)])

        async def measure() -> None:
            for batch in batches:
                await self.ask(lambda repo, _, batch=batch: self._measure(repo, batch))  # type: ignore[misc]

        async with together() as nursery:
            for _ in range(limits.UI_STORE_THREADS):
                nursery.start_soon(measure)
        stored = sum(self.sizes.get(chunk) or 0 for chunk in made.chunks)
        new = sum(made.chunks.values())
        found = Savings(made.paths, made.logical, new + made.inline, stored + made.inline, made.exact)
        self.savings.put(record.id, found)
        return found

    def _measure(self, repo: Repository, chunks: list[ChunkId]) -> None:
        for chunk in chunks:
            if (size := repo.store.size(chunk_key(chunk))) is not None:
                self.sizes.put(chunk, size)

    def _opened(self) -> tuple[Repository, History]:
        with self._opening:
            if self._repo is None or self._history is None:
                if self._failed is not None and time.monotonic() - self._failed[0] < limits.UI_OPEN_AGAIN:
                    raise self._failed[1]
                try:
                    self._repo = open_repository(self.url, self._access)
                except ModelfsError as error:
                    self._failed = (time.monotonic(), error)
                    raise
                self._history = History(self._repo)
                if self._repo.format.id != self.id:
                    raise UsageError(f"{self.url} is another store than the one that is mounted")
            return self._repo, self._history

    def close(self) -> None:
        """Blocking."""
        with suppress(ModelfsError):
            if self._repo is not None:
                self._repo.store.close()


class Stores:
    """By id. ``access``: what opens them."""

    def __init__(self, access: Access) -> None:
        self._access = replace(access, ask=None)  # nobody is at the terminal when a page is asked for
        self._stores: dict[str, OpenStore] = {}

    def add(self, repo: Repository) -> OpenStore:
        """One that is open already."""
        made = OpenStore(repo.format.id, repo.store.url, self._access, repo)
        self._stores[made.id] = made
        return made

    def mounted(self, store_id: str, url: str, cache: Path) -> None:
        """A mount speaks of a store. Beyond `limits.UI_STORES` they are not looked at."""
        found = self._stores.get(store_id)
        if found is None and len(self._stores) < limits.UI_STORES:
            found = self._stores[store_id] = OpenStore(store_id, url, self._access)
        if found is not None:
            found.cache = cache

    def get(self, store_id: str) -> OpenStore:
        """UnknownRefError."""
        if store_id not in self._stores:
            raise UnknownRefError("this page knows of no such store: none of its mounts is of it")
        return self._stores[store_id]

    def all(self) -> list[OpenStore]:
        """Sorted by URL."""
        return sorted(self._stores.values(), key=lambda store: store.url)

    async def close(self) -> None:
        """What hangs is left behind."""
        with trio.move_on_after(limits.UI_END) as scope:
            scope.shield = True
            async with trio.open_nursery() as nursery:
                for store in self._stores.values():
                    nursery.start_soon(lambda s: trio.to_thread.run_sync(s.close, abandon_on_cancel=True), store)


def open_repository(url: str, access: Access) -> Repository:
    """Blocking. Errors as of `open_store` and `Repository.open`."""
    store = open_store(url, timeout=limits.UI_STORE_TIMEOUT)
    try:
        return Repository.open(store, access)
    except BaseException:
        store.close()
        raise
