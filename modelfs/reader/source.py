"""Chunks of one mount: local cache first, else the store, one fetch per chunk however many readers wait.

`ChunkSource` owns the worker limiter of all readers, the table of fetches in flight, and the bounded memory that
holds the chunks that came last, from which readers are served before they are served from the disk cache (or, when
that could not take them, instead). `FileReader` (file.py) asks it for one chunk at a time.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass

import trio

from modelfs import limits
from modelfs.cache.cache import Cache
from modelfs.cache.files import CacheFile, Uncached
from modelfs.cache.lookups import Lookups
from modelfs.errors import CacheError, CorruptError, StoreError
from modelfs.ids import ChunkId, ManifestId
from modelfs.repository.objects import Manifest
from modelfs.repository.repository import Repository

log = logging.getLogger(__name__)

Location = tuple[int, int]  # (file descriptor, offset of the chunk's first byte)


@dataclass(frozen=True, slots=True)
class SourceStatistics:
    """Counters since the mount began; sizes in bytes. ``lookups`` as `cache.lookups` says."""

    fetches: int
    fetched_bytes: int
    in_flight: int
    memory_bytes: int
    lookups: Lookups


class ChunkSource:
    """Brings chunks to this machine, verified."""

    def __init__(self, repo: Repository, cache: Cache) -> None:
        self.repo = repo
        self.cache = cache
        self.threads = trio.CapacityLimiter(limits.READ_THREADS)  # may wait for the store
        self.local = trio.CapacityLimiter(limits.LOCAL_IO_THREADS)  # never do: what is here is read while it is away
        self._in_flight: dict[ChunkId, trio.Event] = {}
        self._memory: OrderedDict[ChunkId, memoryview] = OrderedDict()
        self._memory_bytes = 0
        self._fetches = 0
        self._fetched_bytes = 0
        self._fresh: OrderedDict[ChunkId, None] = OrderedDict()  # fetched, and nobody has read in them yet
        repo.use_local(cache.read_chunk)

    def open_file(self, manifest_id: ManifestId, manifest: Manifest, path: bytes = b"") -> CacheFile | Uncached:
        """The cache's view of a manifest that was found at ``path``; reads go on without the cache when it fails.
        Blocking."""
        try:
            return self.cache.open_file(manifest_id, manifest, path)
        except CacheError as error:
            log.warning("the cache is passed over: %s", error)
            return Uncached()

    def in_memory(self, chunk: ChunkId) -> memoryview | None:
        """A chunk that came a moment ago, if it is still held."""
        data = self._memory.get(chunk)
        if data is not None:
            self._memory.move_to_end(chunk)
        return data

    def busy(self, chunk: ChunkId) -> bool:
        """True while the chunk is being fetched."""
        return chunk in self._in_flight

    def looked_up(self, chunk: ChunkId, length: int) -> None:
        """An open file is being read in this chunk for the first time, and has it."""
        counters = self.cache.lookups
        if chunk in self._fresh:
            del self._fresh[chunk]
            counters.misses += 1
            counters.miss_bytes += length
        else:
            counters.hits += 1
            counters.hit_bytes += length

    async def bring(self, file: CacheFile | Uncached, manifest: Manifest, index: int) -> Location | memoryview:
        """Make chunk ``index`` of ``manifest`` readable here: its place on local disk, or its bytes.

        Raises NotFoundError, CorruptError (both name the object) or what the store said after its retries.
        A cancelled caller lets the fetch end, so others that wait for it are served.
        """
        extent = manifest.chunks[index]
        chunk = ChunkId(extent.id)
        while True:
            if (data := self.in_memory(chunk)) is not None:
                return data
            if (place := file.locate(index)) is not None:
                return place
            if (waiting := self._in_flight.get(chunk)) is None:
                break
            await waiting.wait()
        done = self._in_flight[chunk] = trio.Event()
        try:
            place = await trio.to_thread.run_sync(file.probe, index, limiter=self.local)
            if place is not None:
                return place
            return await self._fetch(file, chunk, extent.length, index)
        except (StoreError, CorruptError) as error:
            log.error("chunk %s could not be read: %s", chunk.hex(), error)
            raise
        finally:
            del self._in_flight[chunk]
            done.set()

    async def _fetch(
        self, file: CacheFile | Uncached, chunk: ChunkId, length: int, index: int
    ) -> Location | memoryview:
        self._fresh[chunk] = None  # before a reader can find it
        fetched = False
        try:
            result = await trio.to_thread.run_sync(self._load, file, chunk, length, index, limiter=self.threads)
            fetched = isinstance(result, memoryview)
        finally:
            if not fetched:
                self._fresh.pop(chunk, None)
        if isinstance(result, memoryview):
            self._remember(chunk, result)
        return result

    def _load(self, file: CacheFile | Uncached, chunk: ChunkId, length: int, index: int) -> Location | memoryview:
        with self.cache.fetching.turn(chunk):
            if (place := file.probe(index)) is not None:
                return place  # another process brought it
            plain = memoryview(self.repo.read_chunk(chunk, length))
            file.fill(index, plain)
            return plain

    def _remember(self, chunk: ChunkId, data: memoryview) -> None:
        self._fetches += 1
        self._fetched_bytes += len(data)
        if len(self._fresh) > limits.KNOWN_FRESH:
            self._fresh.popitem(last=False)
        if chunk in self._memory:
            return
        self._memory[chunk] = data
        self._memory_bytes += len(data)
        while self._memory_bytes > limits.CHUNK_MEMORY:
            _, old = self._memory.popitem(last=False)
            self._memory_bytes -= len(old)

    def statistics(self) -> SourceStatistics:
        """What has been fetched from the store so far."""
        return SourceStatistics(
            self._fetches, self._fetched_bytes, len(self._in_flight), self._memory_bytes, self.cache.lookups
        )
