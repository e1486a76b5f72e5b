"""Chunks of the store -> the cache of this machine, before anybody reads them: many at once, without a mount.

What is in the cache already is verified and left there, so a run that was stopped goes on where it was; a chunk that a
mount is fetching at that moment is waited for. Nothing is written that does not have its hash, and nothing beyond the
cache's limit. Blocking; `Warm` is a context manager that owns the threads. For `modelfs cache warm`.
"""

from __future__ import annotations

import fnmatch
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import accumulate

from modelfs import limits
from modelfs.cache.cache import Cache
from modelfs.cache.files import CacheFile
from modelfs.cache.pins import Wanted
from modelfs.errors import CorruptError, LinkError, LinkRefusedError, NotFoundError, UsageError
from modelfs.formats.layout import end_of, unique_names
from modelfs.ids import ChunkId
from modelfs.repository.objects import Extent, Manifest
from modelfs.repository.repository import Repository

Progress = Callable[[int], None]  # called with the number of bytes that are done


@dataclass(slots=True)
class Warmed:
    """What became of it; sizes in bytes. ``refused``: the cache had no room for it; ``failures``: what the store does
    not have as it should be, a line each."""

    files: int = 0
    bytes: int = 0
    present_chunks: int = 0
    present_bytes: int = 0
    fetched_chunks: int = 0
    fetched_bytes: int = 0
    refused_bytes: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Part:
    """The chunks of a file that are to be here, by their index."""

    file: Wanted
    chunks: tuple[int, ...]

    def extents(self) -> Iterator[Extent]:
        """What the manifest says of them."""
        return (self.file.manifest.chunks[i] for i in self.chunks)

    def bytes(self) -> int:
        """Logical bytes of them."""
        return sum(extent.length for extent in self.extents())


class _Outcome(Enum):
    PRESENT = auto()
    FETCHED = auto()
    REFUSED = auto()


@dataclass(slots=True)
class _Open:
    """A cache file that is being filled, and how many of its chunks are still to come."""

    part: Part
    file: CacheFile
    left: int


class Warm:
    """Brings chunks of one repository into its cache."""

    def __init__(self, repo: Repository, cache: Cache) -> None:
        self._repo = repo
        self._cache = cache
        self._pool = ThreadPoolExecutor(limits.WARM_THREADS, "warm")
        # Two files with the same chunk: one fetches it, the other finds it. By the chunk's first byte.
        self._turns = [threading.Lock() for _ in range(256)]
        repo.use_local(cache.read_chunk)

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def plan(self, files: Iterable[Wanted], tensors: Sequence[str]) -> list[Part]:
        """Which chunks of the files are wanted: all, or those that tensors lie in whose names match one of the patterns
        (of fnmatch), and those in front of the first tensor and behind the last, where readers look for the others.
        UsageError when no tensor matches, or all of it is more than the cache may hold."""
        parts = []
        for file in files:
            chunks = _all(file.manifest) if not tensors else self._of_tensors(file.manifest, tensors)
            if chunks:
                parts.append(Part(file, chunks))
        if tensors and not parts:
            raise UsageError(f"no tensor is named like {' or '.join(tensors)}")
        self._check_room(parts)
        return parts

    def _of_tensors(self, manifest: Manifest, patterns: Sequence[str]) -> tuple[int, ...]:
        layout = self._repo.read_layout(manifest)
        if layout is None or not layout.spans:
            return ()
        wanted = [
            (span.offset, end_of(span))
            for name, span in zip(unique_names(layout), layout.spans, strict=True)
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        ]
        if not wanted:
            return ()
        around = [(0, layout.spans[0].offset), (end_of(layout.spans[-1]), manifest.size)]
        ranges = sorted(r for r in [*wanted, *around] if r[0] < r[1])
        chosen, at, ends = [], 0, list(accumulate(extent.length for extent in manifest.chunks))
        for i in _all(manifest):
            start, end = ends[i] - manifest.chunks[i].length, ends[i]
            while at < len(ranges) and ranges[at][1] <= start:
                at += 1
            if at < len(ranges) and ranges[at][0] < end:
                chosen.append(i)
        return tuple(chosen)

    def _check_room(self, parts: Sequence[Part]) -> None:
        distinct = {extent.id: extent.length for part in parts for extent in part.extents()}
        total, limit = sum(distinct.values()), self._cache.room.limit
        held = self._cache.reserved([part.file.id for part in parts])
        if total > limit - held:
            raise UsageError(
                f"this takes {total} bytes, and the cache is limited to {limit}"
                + (f", of which {held} are pinned" if held else "")
                + "; `modelfs cache resize` changes that"
            )

    def run(self, parts: Sequence[Part], advance: Progress) -> Warmed:
        """Have all of it here. Raises what the store says when it fails as a whole, CacheError when the cache does."""
        done = Warmed(len(parts), sum(part.bytes() for part in parts))
        if self._cache.index.sessions() > 1:
            time.sleep(limits.CACHE_SETTLE)  # what others have fetched by now is in the index then
        waiting: dict[Future[_Outcome], tuple[_Open, int]] = {}
        try:
            for opened, i in self._each(parts):
                waiting[self._pool.submit(self._bring, opened, i)] = opened, i
                if len(waiting) >= 4 * limits.WARM_THREADS:
                    self._collect(waiting, done, advance)
            while waiting:
                self._collect(waiting, done, advance)
        finally:
            for future in waiting:
                future.cancel()
            wait(waiting)
            for opened in {id(opened): opened for opened, _ in waiting.values()}.values():
                opened.file.close()
        return done

    def _each(self, parts: Sequence[Part]) -> Iterator[tuple[_Open, int]]:
        for part in parts:
            opened = _Open(part, self._cache.open_file(part.file.id, part.file.manifest, part.file.path), 0)
            opened.left = len(part.chunks)
            for i in part.chunks:
                yield opened, i

    def _bring(self, opened: _Open, i: int) -> _Outcome:
        chunk, length = ChunkId(opened.part.file.manifest.chunks[i].id), opened.part.file.manifest.chunks[i].length
        with self._turns[chunk[0]]:
            if opened.file.probe(i) is not None:
                return _Outcome.PRESENT
            with self._cache.fetching.turn(chunk):
                if opened.file.probe(i) is not None:
                    return _Outcome.PRESENT
                plain = self._repo.read_chunk(chunk, length)
                return _Outcome.FETCHED if opened.file.fill(i, plain) is not None else _Outcome.REFUSED

    def _collect(self, waiting: dict[Future[_Outcome], tuple[_Open, int]], done: Warmed, advance: Progress) -> None:
        """Account for what has been done."""
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            opened, i = waiting[future]
            length = opened.part.file.manifest.chunks[i].length
            try:
                outcome = future.result()
            except (NotFoundError, CorruptError, LinkError, LinkRefusedError) as error:
                done.failures.append(f"{os.fsdecode(opened.part.file.path)}: {error}")
            else:
                done.present_chunks += outcome is _Outcome.PRESENT
                done.present_bytes += length * (outcome is _Outcome.PRESENT)
                done.fetched_chunks += outcome is not _Outcome.PRESENT
                done.fetched_bytes += length * (outcome is not _Outcome.PRESENT)
                done.refused_bytes += length * (outcome is _Outcome.REFUSED)
            del waiting[future]
            advance(length)
            opened.left -= 1
            if not opened.left:
                opened.file.close()

    def left_out(self, parts: Sequence[Part]) -> int:
        """Bytes of the parts that are not here after all: refused, damaged in the store, or evicted since."""
        found = self._cache.index.find(list({ChunkId(extent.id) for part in parts for extent in part.extents()}))
        return sum(extent.length for part in parts for extent in part.extents() if ChunkId(extent.id) not in found)


def _all(manifest: Manifest) -> tuple[int, ...]:
    return tuple(i for i, extent in enumerate(manifest.chunks) if extent.id)
