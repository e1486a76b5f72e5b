"""The cache of one store on this machine, as one process uses it.

`open_file` gives a reader its `CacheFile`, shared by all readers of the manifest in this process; `adopt` turns a
finished staging file into a cache file without copying; the rest serves `modelfs cache` and `status`. A cache that
fails makes reads slower, never wrong.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from modelfs import limits
from modelfs.cache import ballast, sparse
from modelfs.cache.directory import FILES, open_directory
from modelfs.cache.files import CacheFile, read_exactly
from modelfs.cache.index import Index
from modelfs.cache.room import Room
from modelfs.errors import CacheError
from modelfs.ids import PLAIN, ChunkId, Ids, ManifestId
from modelfs.repository.objects import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Sizes in bytes; the counters are of this process. ``hits``: chunks found on disk, ``borrowed`` those of them
    in another manifest's file, ``refused``: chunks that did not fit, ``damaged``: chunks whose hash was wrong."""

    bytes: int
    limit: int
    files: int
    chunks: int
    hits: int
    borrowed: int
    refused: int
    damaged: int
    evicted_bytes: int


@dataclass(frozen=True, slots=True)
class CachedFile:
    """One file of the cache. ``last_use``: Unix seconds."""

    manifest: ManifestId
    size: int
    resident: int
    pinned: bool
    last_use: float


class Cache:
    """See the module's text. Raises UsageError as `directory.open_directory`. ``ids``: those of the store; who reads
    chunks from the cache of an encrypted store must give them."""

    def __init__(
        self, directory: Path, store_id: str, limit: int = limits.CACHE_SIZE_DEFAULT, ids: Ids = PLAIN
    ) -> None:
        self.directory = directory
        self.ids = ids
        self.files = directory / FILES
        try:
            self.index, self._lock_fd, self._session = self._begin(store_id, limit)
        except CacheError:
            if not ballast.drop(directory):
                raise
            self.index, self._lock_fd, self._session = self._begin(store_id, limit)
        ballast.take(directory)
        self.room = Room(directory, self.index, limit)
        self.verifying = threading.BoundedSemaphore(limits.CACHE_VERIFY_BUFFERS)
        self._lock = threading.Lock()
        self._open: dict[ManifestId, CacheFile] = {}
        self._verified: OrderedDict[ManifestId, set[int]] = OrderedDict()
        self._counters: dict[str, int] = dict.fromkeys(("hits", "borrowed", "refused", "damaged"), 0)

    def _begin(self, store_id: str, limit: int) -> tuple[Index, int, int]:
        index, lock = open_directory(self.directory, store_id, limit, keyed=self.ids.keyed)
        try:
            return index, lock, index.begin()
        except CacheError:
            os.close(lock)
            raise

    # -- readers ------------------------------------------------------------------------------------------------

    def open_file(self, manifest_id: ManifestId, manifest: Manifest) -> CacheFile:
        """The cache's view of one manifest; close it when done. CacheError when the cache cannot be used."""
        with self._lock:
            found = self._open.get(manifest_id)
            if found is not None:
                found.users += 1
                return found
            try:
                made = self._open[manifest_id] = CacheFile(self, manifest_id, manifest)
            except OSError as error:
                raise CacheError(f"the cache {self.directory} failed: {error.strerror}") from error
            return made

    def read_chunk(self, chunk: ChunkId, length: int) -> bytearray | None:
        """The bytes of a chunk that some cached file has, verified; None when none has it."""
        try:
            for seen in self.index.find([chunk]).get(chunk, []):
                if seen.length != length:
                    continue
                fd = sparse.open_shared(sparse.path_of(self.files, seen.manifest), create=False)
                if fd is None:
                    continue
                try:
                    # The row counts only if it is there now that the lock on its file is held.
                    if seen in self.index.find([chunk]).get(chunk, []):
                        data = read_exactly(fd, seen.offset, length)
                        if self.ids.digest(data) == chunk:
                            return data
                finally:
                    os.close(fd)
        except (CacheError, OSError) as error:
            log.warning("the cache is passed over: %s", error)
        return None

    def let_go(self, file: CacheFile) -> None:
        """One user of ``file`` less."""
        with self._lock:
            file.users -= 1
            if file.users:
                return
            del self._open[file.manifest_id]
            self._remember(file.manifest_id, file.own_offsets())
            file.shut()

    def trusts(self, manifest_id: ManifestId, fd: int) -> bool:
        """True when the file was sealed and nobody has touched it since. ``fd``: the file, locked."""
        return os.fstat(fd).st_ctime_ns == self.index.sealed(manifest_id)

    def _seal(self, manifest_id: ManifestId) -> None:
        """Have the next session trust the file, if all that it holds is verified: bring it to the disk and note its
        change time, which every later write moves."""
        fd = sparse.open_shared(sparse.path_of(self.files, manifest_id), create=False)
        if fd is None:
            return
        try:
            if self.trusts(manifest_id, fd):
                return
            if self.index.offsets(manifest_id) <= self.verified_offsets(manifest_id):
                os.fdatasync(fd)
                self.index.seal(manifest_id, os.fstat(fd).st_ctime_ns)
        finally:
            os.close(fd)

    def verified_offsets(self, manifest_id: ManifestId) -> set[int]:
        """Offsets in the file of ``manifest_id`` whose chunks were verified in this session."""
        return self._verified.get(manifest_id, set())

    def _remember(self, manifest_id: ManifestId, offsets: set[int]) -> None:
        self._verified[manifest_id] = self._verified.pop(manifest_id, set()) | offsets
        while len(self._verified) > limits.CACHE_VERIFIED_FILES:
            self._verified.popitem(last=False)

    def adopt(self, manifest_id: ManifestId, manifest: Manifest, path: Path, *, keep: bool = False) -> bool:
        """Make the complete local copy at ``path``, which nobody changes any more, the cache file of ``manifest``.

        It is moved, or with ``keep`` linked, so that ``path`` stays as well. False, with ``path`` left where it is,
        when it does not fit, lies on another disk, or the manifest is in use.
        """
        with self._lock:
            if manifest_id in self._open:
                return False
            starts = [0, *accumulate(extent.length for extent in manifest.chunks)]
            places = [
                (ChunkId(extent.id), start, extent.length)
                for extent, start in zip(manifest.chunks, starts, strict=False)
                if extent.id
            ]
            target = sparse.path_of(self.files, manifest_id)
            try:
                facts = path.stat()
                there = facts.st_blocks * 512 if facts.st_dev == self.files.stat().st_dev else 0
                if not self.room.reserve(sum(length for *_, length in places), there=there):
                    return False
                fd = sparse.open_exclusive(target)
                if fd is None:
                    return False
                try:
                    if keep:
                        linked = target.with_name(f"{target.name}.new")
                        linked.unlink(missing_ok=True)
                        linked.hardlink_to(path)
                        sparse.put_in_place(linked, target)
                    else:
                        sparse.put_in_place(path, target)
                    self.index.replace(manifest_id, manifest.size, places)
                finally:
                    os.close(fd)
            except (OSError, CacheError) as error:
                log.info("a finished save did not go into the cache: %s", error)
                return False
            self._remember(manifest_id, {start for _, start, _ in places})
            return True

    def count(self, *, hits: int = 0, borrowed: int = 0, refused: int = 0, damaged: int = 0) -> None:
        """Add to the counters. A lost update under contention would only blur a statistic."""
        counters = self._counters
        counters["hits"] += hits
        counters["borrowed"] += borrowed
        counters["refused"] += refused
        counters["damaged"] += damaged

    # -- operators ----------------------------------------------------------------------------------------------

    def statistics(self) -> CacheStatistics:
        """What the cache holds. Raises CacheError."""
        files, chunks = self.index.counts()
        return CacheStatistics(
            self.index.bytes(), self.room.limit, files, chunks, evicted_bytes=self.room.evicted_bytes, **self._counters
        )

    def list(self) -> list[CachedFile]:
        """Every file, least recently used first."""
        self.index.flush()
        return [
            CachedFile(row.manifest, row.size, row.resident, row.pinned, row.last_use) for row in self.index.files()
        ]

    def resident(self, manifest: Manifest) -> int:
        """How many bytes of ``manifest`` are on this disk, in whichever file."""
        ids = list({ChunkId(extent.id) for extent in manifest.chunks if extent.id})
        found = self.index.find(ids)
        return sum(extent.length for extent in manifest.chunks if not extent.id or ChunkId(extent.id) in found)

    def clear(self) -> int:
        """Evict everything that no mount is using, pinned files included; the bytes freed."""
        return self.room.evict(self.index.bytes() + 1, even_pinned=True)

    def evict_to(self, target: int) -> int:
        """Evict what nobody uses until ``target`` bytes are left; the bytes freed."""
        return self.room.evict(self.index.bytes() - target)

    def make_room(self, directory: Path, length: int) -> bool:
        """Give something back to the disk of ``directory``, which had no room for ``length`` bytes and is the cache's
        own. False when there was nothing to give, and nobody else made room meanwhile."""
        try:
            if directory.stat().st_dev != self.files.stat().st_dev:
                return False
            try:
                freed = self.room.evict(max(length, limits.CACHE_MAKE_ROOM))
            except CacheError:
                if not ballast.drop(self.directory):
                    raise
                freed = self.room.evict(max(length, limits.CACHE_MAKE_ROOM))
                ballast.take(self.directory)
            if freed:
                return True
            disk = os.statvfs(directory)
        except (OSError, CacheError) as error:
            log.warning("the cache cannot make room: %s", error)
            return False
        return disk.f_bavail * disk.f_frsize > length

    def pin(self, manifest_id: ManifestId) -> None:
        """Keep the file of a manifest from eviction."""
        self.index.opened(manifest_id)
        self.index.set_pinned(manifest_id, True)

    def unpin(self, manifest_id: ManifestId) -> None:
        """Let the file be evicted again."""
        self.index.set_pinned(manifest_id, False)

    def close(self) -> None:
        """Write the index and release every lock."""
        with self._lock:
            for file in self._open.values():
                self._remember(file.manifest_id, file.own_offsets())
                file.shut()
            self._open.clear()
            try:
                for manifest_id in self._verified:
                    self._seal(manifest_id)
            except (OSError, CacheError) as error:
                log.warning("the next mount will verify what the cache holds: %s", error)
        self.index.end(self._session)
        os.close(self._lock_fd)
