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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from modelfs import limits
from modelfs.cache import ballast, lookups, names, pins, sparse
from modelfs.cache.directory import FILES, check_limit, open_directory
from modelfs.cache.fetching import Fetching
from modelfs.cache.files import CacheFile, read_exactly
from modelfs.cache.index import Index
from modelfs.cache.lookups import Lookups
from modelfs.cache.room import Room
from modelfs.errors import CacheError, UsageError
from modelfs.ids import PLAIN, ChunkId, Ids, ManifestId
from modelfs.repository.objects import Manifest

log = logging.getLogger(__name__)


Ranges = list[tuple[int, int]]  # (start, end)


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Sizes in bytes. ``pinned``: what pins keep room for; ``lookups``: of all processes that ever used the cache. The
    other counters are of this process. ``checked``: chunks whose hash was compared and right, ``borrowed``: found in
    another manifest's file, ``refused``: did not fit, ``damaged``: the hash was wrong."""

    bytes: int
    limit: int
    files: int
    chunks: int
    pinned: int
    lookups: Lookups
    checked: int
    borrowed: int
    refused: int
    damaged: int
    evicted_bytes: int


@dataclass(frozen=True, slots=True)
class CachedFile:
    """One file of the cache. ``resident``: bytes in its own cache file; ``last_use``: Unix seconds; ``paths``: under
    which it was seen, the newest first."""

    manifest: ManifestId
    size: int
    resident: int
    pinned: bool
    last_use: float
    paths: tuple[bytes, ...]


class Cache:
    """See the module's text. Raises UsageError as `directory.open_directory`. ``limit``: in bytes, for all processes
    from now on; None leaves it as it is. ``ids``: those of the store; who reads chunks from the cache of an encrypted
    store must give them."""

    def __init__(self, directory: Path, store_id: str, limit: int | None = None, ids: Ids = PLAIN) -> None:
        self.directory = directory
        self.ids = ids
        self.files = directory / FILES
        try:
            self.index, self._lock_fd, self._session, self.fetching = self._begin(store_id, limit)
        except CacheError:
            if not ballast.drop(directory):
                raise
            self.index, self._lock_fd, self._session, self.fetching = self._begin(store_id, limit)
        ballast.take(directory)
        self.room = Room(directory, self.index)
        self.lookups = Lookups()  # of this process
        self._summed_up = Lookups()
        self.verifying = threading.BoundedSemaphore(limits.CACHE_VERIFY_BUFFERS)
        self._lock = threading.Lock()
        self._summing = threading.Lock()
        self._open: dict[ManifestId, CacheFile] = {}
        self._verified: OrderedDict[ManifestId, set[int]] = OrderedDict()
        self._counters: dict[str, int] = dict.fromkeys(("checked", "borrowed", "refused", "damaged"), 0)

    def _begin(self, store_id: str, limit: int | None) -> tuple[Index, int, int, Fetching]:
        index, lock = open_directory(self.directory, store_id, limit, keyed=self.ids.keyed)
        try:
            if limit is not None:
                index.set_limit(limit)
            return index, lock, index.begin(), Fetching(self.directory, index)
        except CacheError:
            os.close(lock)
            raise

    # -- readers ------------------------------------------------------------------------------------------------

    def open_file(self, manifest_id: ManifestId, manifest: Manifest, path: bytes = b"") -> CacheFile:
        """The cache's view of one manifest; close it when done. ``path``: where in the store it was found. CacheError
        when the cache cannot be used."""
        with self._lock:
            found = self._open.get(manifest_id)
            if found is not None:
                if path and path not in found.paths:
                    names.note(self.index, manifest_id, path)
                    found.paths.add(path)
                found.users += 1
                return found
            try:
                made = self._open[manifest_id] = CacheFile(self, manifest_id, manifest, path)
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

    def count(self, *, checked: int = 0, borrowed: int = 0, refused: int = 0, damaged: int = 0) -> None:
        """Add to the counters. A lost update under contention would only blur a statistic."""
        counters = self._counters
        counters["checked"] += checked
        counters["borrowed"] += borrowed
        counters["refused"] += refused
        counters["damaged"] += damaged

    # -- operators ----------------------------------------------------------------------------------------------

    def statistics(self) -> CacheStatistics:
        """What the cache holds. Raises CacheError."""
        self.sum_up()
        files, chunks = self.index.counts()
        return CacheStatistics(
            self.index.bytes(),
            self.room.limit,
            files,
            chunks,
            pins.reserved(self.index),
            lookups.read(self.index),
            evicted_bytes=self.room.evicted_bytes,
            **self._counters,
        )

    def unsettled(self) -> bool:
        """True when `settle` has something to do; asks nobody."""
        return self.index.waiting() or self.lookups != self._summed_up

    def settle(self) -> None:
        """Have other processes, and later ones, know what this one has done. CacheError."""
        self.index.flush()
        self.sum_up()

    def sum_up(self) -> None:
        """Bring what this process looked up since the last time into the index. CacheError."""
        with self._summing:
            now = replace(self.lookups)
            more = now.since(self._summed_up)
            if more.hits or more.misses:
                lookups.add(self.index, more)
                self._summed_up = now

    def list(self) -> list[CachedFile]:
        """Every file, least recently used first."""
        self.index.flush()
        known = names.of_all(self.index)
        return [
            CachedFile(row.manifest, row.size, row.resident, row.pinned, row.last_use, known.get(row.manifest, ()))
            for row in self.index.files()
        ]

    def resident(self, manifest: Manifest) -> int:
        """How many bytes of ``manifest`` are on this disk, in whichever file."""
        return sum(end - start for start, end in self.ranges(manifest))

    def ranges(self, manifest: Manifest) -> Ranges:
        """Which bytes of ``manifest`` are on this disk, in whichever file, and which are zeros: (start, end), in order,
        neighbours joined. CacheError."""
        found = self.index.find([*{ChunkId(extent.id) for extent in manifest.chunks if extent.id}])
        starts = accumulate((extent.length for extent in manifest.chunks), initial=0)
        here = [
            (start, extent.length)
            for extent, start in zip(manifest.chunks, starts, strict=False)
            if not extent.id or ChunkId(extent.id) in found
        ]
        return [(start, start + length) for start, length in sparse.merged(here)]

    def clear(self) -> int:
        """Evict everything that no mount is using, pinned files included; the bytes freed."""
        return self.room.evict(self.index.bytes() + 1, even_pinned=True)

    def evict_to(self, target: int) -> int:
        """Evict what nobody uses until ``target`` bytes are left; the bytes freed."""
        return self.room.evict(self.index.bytes() - target)

    def evict_files(self, manifests: Iterable[ManifestId]) -> int:
        """Evict what these files hold, unless somebody uses them or they are pinned; the bytes freed."""
        return self.room.evict_files(manifests)

    def resize(self, limit: int) -> int:
        """Say how many bytes the cache may hold, here and in every process that uses it, and evict what is too much;
        the bytes freed. UsageError when that is less than a chunk or than what is pinned."""
        check_limit(limit)
        if limit < (held := pins.reserved(self.index)):
            raise UsageError(f"{held} bytes are pinned in {self.directory}: a limit of {limit} would not hold them")
        self.index.set_limit(limit)
        return self.evict_to(limit)

    def copy_budget(self) -> int:
        """Bytes of chunks that may be kept a second time now, to make files whole: in room that is free, and all of
        them no more than a share of the limit. CacheError."""
        share = int(self.room.limit * limits.CACHE_DOUBLED_SHARE) - self.index.doubled()
        return max(0, min(share, self.room.spare()))

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

    def pin(self, files: Sequence[pins.Wanted]) -> None:
        """Keep files from eviction, all or, when they do not fit (UsageError), none of them."""
        pins.pin(self.index, files)
        for file in files:
            names.note(self.index, file.id, file.path)

    def unpin(self, manifests: Sequence[ManifestId]) -> int:
        """Let files be evicted again; how many were pinned."""
        return pins.unpin(self.index, manifests)

    def reserved(self, besides: Sequence[ManifestId] = ()) -> int:
        """Bytes that the pins keep room for, those of some files left out."""
        return pins.reserved(self.index, besides)

    def close(self) -> None:
        """Write the index and release every lock."""
        with self._lock:
            for file in self._open.values():
                self._remember(file.manifest_id, file.own_offsets())
                file.shut()
            self._open.clear()
            try:
                self.sum_up()
                for manifest_id in self._verified:
                    self._seal(manifest_id)
            except (OSError, CacheError) as error:
                log.warning("the next mount will verify what the cache holds: %s", error)
        self.fetching.close()
        self.index.end(self._session)
        os.close(self._lock_fd)
