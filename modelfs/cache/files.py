"""What a reader holds of the cache: one manifest, its own sparse file, and the files it borrows chunks from.

A place (descriptor, offset) is handed out only for bytes that are trusted: their hash was right in this session, or
their file is as an earlier session left it that had verified all of it (`Cache.trusts`). The lock on the file is held
until the CacheFile closes, so they cannot be punched out under the reader. All methods but `locate` may block and may
be called from many threads.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from modelfs import limits
from modelfs.cache import sparse
from modelfs.cache.index import Place
from modelfs.errors import CacheError
from modelfs.ids import ChunkId, ManifestId
from modelfs.repository.objects import Manifest

if TYPE_CHECKING:
    from modelfs.cache.cache import Cache

log = logging.getLogger(__name__)

Location = tuple[int, int]  # (file descriptor, offset of the chunk's first byte)


class CacheFile:
    """One manifest in the cache. Made by `Cache.open_file`, which also counts its users."""

    def __init__(self, cache: Cache, manifest_id: ManifestId, manifest: Manifest, path: bytes = b"") -> None:
        self.manifest_id = manifest_id
        self.manifest = manifest
        self.users = 1
        self.paths = {path}
        self._cache = cache
        self._starts = [0, *accumulate(extent.length for extent in manifest.chunks)]
        self._places: dict[int, Location] = {}
        self._lock = threading.Lock()
        self._borrowed: dict[ManifestId, tuple[int, bool]] = {}  # descriptor, and whether its file is trusted
        self._sought: set[int] = set()  # groups of chunks that were looked for in other files
        self._whole = False
        fd = sparse.open_shared(sparse.path_of(cache.files, manifest_id), create=True)
        assert fd is not None
        self.fd = fd
        try:
            trusted = cache.trusts(manifest_id, fd)
            if os.fstat(fd).st_size < manifest.size:
                os.ftruncate(fd, manifest.size)
            self._row = cache.index.opened(manifest_id, manifest.size, path)
            places = cache.index.places(self._row, manifest_id)  # a chunk may be there twice
            self._own = {chunk: (place.offset, place.length) for chunk, place in places}
        except BaseException:
            os.close(fd)
            raise
        # Places that are trusted and whose rows are still there need no second look.
        there = {place.offset for _, place in places}
        for offset in there if trusted else there & cache.verified_offsets(manifest_id):
            index = bisect_right(self._starts, offset) - 1
            if 0 <= index < len(manifest.chunks) and self._starts[index] == offset:
                self._places[index] = (fd, offset)

    def locate(self, index: int) -> Location | None:
        """Where chunk ``index`` lies if that is known and trusted; no I/O."""
        return self._places.get(index)

    def whole(self) -> int | None:
        """The own file's descriptor when every chunk lies in it, at its natural offset and trusted, and nothing behind
        the end; else None."""
        if not self._whole:
            self._whole = not self.astray() and os.fstat(self.fd).st_size == self.manifest.size
        return self.fd if self._whole else None

    def probe(self, index: int) -> Location | None:
        """Where chunk ``index`` lies on this disk, verified now unless it is trusted; None: it must be fetched."""
        if (found := self._places.get(index)) is not None:
            return found
        extent = self.manifest.chunks[index]
        chunk = ChunkId(extent.id)
        if (own := self._own.get(chunk)) is not None:
            place = Place(self.manifest_id, own[0], own[1])
            if self._verified(self.fd, place, chunk):
                return self._keep(index, (self.fd, own[0]))
            self._own.pop(chunk, None)
        try:
            return self._probe_index(index, chunk, extent.length)
        except (CacheError, OSError) as error:
            log.warning("the cache is passed over: %s", error)
            return None

    def _probe_index(self, index: int, chunk: ChunkId, length: int) -> Location | None:
        self._seek(index // limits.CACHE_LOOKUP_BATCH)
        if (found := self._places.get(index)) is not None:
            return found
        for seen in self._cache.index.find([chunk]).get(chunk, []):
            if seen.length != length:
                continue
            fd, trusted = (self.fd, False) if seen.manifest == self.manifest_id else self._borrow(seen.manifest)
            # The row counts only if it is there now that the lock on its file is held.
            if fd is None or seen not in self._cache.index.find([chunk]).get(chunk, []):
                continue
            if trusted or self._verified(fd, seen, chunk):
                if seen.manifest != self.manifest_id:
                    self._cache.count(borrowed=1)
                return self._keep(index, (fd, seen.offset))
        return None

    def _seek(self, group: int) -> None:
        """Find what trusted files hold of a group of chunks, once and all together: a file whose chunks lie in another
        one is read as quickly as one that has them itself."""
        if group in self._sought:
            return
        self._sought.add(group)
        first = group * limits.CACHE_LOOKUP_BATCH
        wanted = {
            index: ChunkId(extent.id)
            for index, extent in enumerate(self.manifest.chunks[first : first + limits.CACHE_LOOKUP_BATCH], first)
            if extent.id and index not in self._places
        }
        find = self._cache.index.find
        lenders: dict[ManifestId, int] = {}  # as few as will do: each is kept open, and from eviction
        for places in find(list(set(wanted.values()))).values():
            others = [place.manifest for place in places if place.manifest != self.manifest_id]
            if lenders.keys().isdisjoint(others):
                for other in others:
                    fd, trusted = self._borrow(other)
                    if fd is not None and trusted:
                        lenders[other] = fd
                        break
        if not lenders:
            return
        there = find(list(set(wanted.values())))  # rows count only now that the locks on their files are held
        for index, chunk in wanted.items():
            for place in there.get(chunk, []):
                if place.manifest in lenders and place.length == self.manifest.chunks[index].length:
                    self._cache.count(borrowed=1)
                    self._keep(index, (lenders[place.manifest], place.offset))
                    break

    def fill(self, index: int, plain: bytes | bytearray | memoryview) -> Location | None:
        """Put verified bytes into the cache: their place, or None when the cache cannot take them."""
        offset, length = self._starts[index], len(plain)
        try:
            for _ in range(2):
                if not self._cache.room.reserve(length):
                    self._cache.count(refused=1)
                    return None
                try:
                    sparse.write_all(self.fd, memoryview(plain), offset)
                    break
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    self._cache.room.evict(limits.CHUNK_MAX)
            else:
                self._cache.count(refused=1)
                return None
            chunk = ChunkId(self.manifest.chunks[index].id)
            self._cache.index.add(self._row, Place(self.manifest_id, offset, length), chunk)
        except (CacheError, OSError) as error:
            log.warning("the cache is passed over: %s", error)
            return None
        self._own[chunk] = (offset, length)
        return self._keep(index, (self.fd, offset))

    def astray(self) -> list[int]:
        """Chunks that are not, or not known to be, at their natural offsets in the own file."""
        return [
            index
            for index, extent in enumerate(self.manifest.chunks)
            if extent.id and self._places.get(index) != (self.fd, self._starts[index])
        ]

    def bring_home(self, index: int, plain: memoryview | None, budget: int) -> int | None:
        """Have a chunk that is elsewhere at its natural offset in the own file, verified: bytes of disk that took, at
        most ``budget``. None: there was no room. ``plain``: its bytes, if it may be in no file. CacheError, OSError."""
        home, length = (self.fd, self._starts[index]), self.manifest.chunks[index].length
        place = self._places.get(index)
        if place == home:
            return 0
        if length > budget:
            return None
        if place is None:
            return length if plain is not None and self.fill(index, plain) == home else None
        if not self._cache.room.reserve(length):
            return None
        shared = sparse.copy(*place, *home, length)
        chunk = ChunkId(self.manifest.chunks[index].id)
        self._cache.index.add(self._row, Place(self.manifest_id, home[1], length), chunk)
        self._keep(index, home)
        return 0 if shared else length

    def close(self) -> None:
        """One user less; with the last one the locks go."""
        self._cache.let_go(self)

    def shut(self) -> None:
        """Commit the index rows and release every lock. Called by the cache when no user is left."""
        self._cache.index.settle(self._row)
        if self._borrowed:
            try:
                self._cache.index.used(self._row, list(self._borrowed))
            except CacheError as error:
                log.warning("the use of the cache could not be noted: %s", error)
        os.close(self.fd)
        for fd, _ in self._borrowed.values():
            os.close(fd)

    def own_offsets(self) -> set[int]:
        """Offsets in the own file that were verified in this session."""
        return {offset for fd, offset in self._places.values() if fd == self.fd}

    def _keep(self, index: int, found: Location) -> Location:
        self._places[index] = found
        return found

    def _borrow(self, manifest: ManifestId) -> tuple[int | None, bool]:
        """A locked descriptor of another manifest's file, and whether what it holds is trusted."""
        with self._lock:
            if (found := self._borrowed.get(manifest)) is not None:
                return found
            if len(self._borrowed) >= limits.CACHE_BORROW_FILES:
                return None, False
            fd = sparse.open_shared(sparse.path_of(self._cache.files, manifest), create=False)
            if fd is None:
                return None, False
            self._borrowed[manifest] = fd, self._cache.trusts(manifest, fd)
            return self._borrowed[manifest]

    def _verified(self, fd: int, place: Place, chunk: ChunkId) -> bool:
        """Read a chunk and compare its hash; a wrong one is forgotten."""
        try:
            with self._cache.verifying:
                good = self._cache.ids.digest(read_exactly(fd, place.offset, place.length)) == chunk
        except OSError as error:
            log.warning("the cache file of %s cannot be read: %s", place.manifest.hex(), error.strerror)
            good = False
        if good:
            self._cache.count(checked=1)
            return True
        log.warning("chunk %s is damaged in the cache; it will be fetched again", chunk.hex())
        self._cache.count(damaged=1)
        try:
            self._cache.index.forget(place)
        except CacheError as error:
            log.warning("%s", error)
        return False


class Uncached:
    """Stands in for a CacheFile while the cache cannot be used: nothing is here, nothing can be kept."""

    def whole(self) -> int | None:
        """It is not."""
        return None

    def locate(self, index: int) -> Location | None:
        """Nowhere."""
        return None

    def probe(self, index: int) -> Location | None:
        """Nowhere."""
        return None

    def astray(self) -> list[int]:
        """None has a home."""
        return []

    def bring_home(self, index: int, plain: memoryview | None, budget: int) -> int | None:
        """There is no room."""
        return None

    def fill(self, index: int, plain: bytes | bytearray | memoryview) -> Location | None:
        """Not taken."""
        return None

    def close(self) -> None:
        """Nothing is held."""


def read_exactly(fd: int, offset: int, length: int) -> bytearray:
    """Exactly what is there; short at the end of the file."""
    out = bytearray(length)
    view, done = memoryview(out), 0
    while done < length and (n := os.preadv(fd, [view[done:]], offset + done)):
        done += n
    return out if done == length else out[:done]
