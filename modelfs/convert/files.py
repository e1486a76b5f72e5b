"""Files of a store as converters read them: ranges, and the chunks that they consist of."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from modelfs import limits
from modelfs.errors import UsageError
from modelfs.ids import ChunkId, ManifestId
from modelfs.repository.objects import Entry, Extent, Kind
from modelfs.repository.ranges import Ranges
from modelfs.repository.repository import Repository
from modelfs.store.base import Buffer

_STEP: Final = limits.CHUNK_AVG  # of zeros that are summed at once


class StoredFile:
    """One file, as one commit has it. ``path`` is for messages."""

    def __init__(self, repo: Repository, entry: Entry, path: str) -> None:
        """UsageError when it is no regular file."""
        if entry.kind not in (Kind.FILE, Kind.INLINE):
            raise UsageError(f"{path} is not a regular file")
        self.path = path
        self.entry = entry
        self.size = entry.size
        self._data = entry.content if entry.kind is Kind.INLINE else b""
        self._manifest = repo.read_manifest(ManifestId(entry.content)) if entry.kind is Kind.FILE else None
        self._ranges = Ranges(repo, self._manifest) if self._manifest is not None else None
        self._repo = repo

    def chunks(self) -> Iterator[ChunkId]:
        """All that it consists of."""
        if self._manifest is not None:
            yield from (ChunkId(extent.id) for extent in self._manifest.chunks if extent.id)

    def read(self, offset: int, length: int) -> bytes:
        """Those bytes, fewer at the end of the file."""
        if self._ranges is None:
            return self._data[offset : offset + length]
        return self._ranges.read(offset, length) if 0 <= offset < self.size else b""

    def extents(self, offset: int, length: int) -> Iterator[tuple[Extent, int, int]]:
        """(extent, offset in it, length) of what a range consists of; nothing for a file without chunks."""
        return self._ranges.extents(offset, length) if self._ranges is not None else iter(())

    def chunk(self, extent: Extent) -> Buffer:
        """The bytes of an extent that has a chunk."""
        return self._repo.read_chunk(ChunkId(extent.id), extent.length)


class SeekableFile(io.RawIOBase):
    """A stored file for libraries that read headers. It gives no more than ``longest`` bytes at once."""

    def __init__(self, file: StoredFile, longest: int = limits.PICKLE_SIZE_MAX) -> None:
        self._file = file
        self._longest = longest
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        if start + offset < 0:
            raise ValueError("before the beginning of the file")
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._file.size - self._at if size is None or size < 0 else size
        if min(wanted, self._file.size - self._at) > self._longest:
            raise ValueError("the headers of the file are too long")
        data = self._file.read(self._at, wanted)
        self._at += len(data)
        return data


Checksum = Callable[[Buffer, int], int]  # (data, sum so far) -> sum


@dataclass(frozen=True, slots=True)
class Summed:
    """A range of a file, and the sum of what stands before it."""

    file: StoredFile
    offset: int
    length: int
    before: int = 0


def checksums(ranges: Iterable[Summed], checksum: Checksum, progress: Callable[[int], None]) -> list[int]:
    """The sum of each range. Read as one stream, a few chunks ahead; neighbours in one chunk read it once."""
    found: list[int] = []
    # Whose sum, the chunk (None: zeros), the part of it.
    waiting: deque[tuple[int, Future[Buffer] | None, int, int]] = deque()

    def take() -> None:
        which, chunk, start, length = waiting.popleft()
        if chunk is not None:
            found[which] = checksum(memoryview(chunk.result())[start : start + length], found[which])
        else:
            for at in range(0, length, _STEP):
                found[which] = checksum(bytes(min(_STEP, length - at)), found[which])
        progress(length)

    with ThreadPoolExecutor(limits.MODEL_THREADS, "sum") as pool:
        last: tuple[bytes, Future[Buffer]] | None = None
        for which, wanted in enumerate(ranges):
            file = wanted.file
            found.append(wanted.before)
            if file.entry.kind is Kind.INLINE:
                waiting.append((which, pool.submit(file.read, 0, file.size), wanted.offset, wanted.length))
            for extent, start, length in file.extents(wanted.offset, wanted.length):
                if extent.id and (last is None or last[0] != extent.id):
                    last = extent.id, pool.submit(file.chunk, extent)
                waiting.append((which, last[1] if extent.id and last is not None else None, start, length))
                while len(waiting) > limits.MODEL_THREADS:
                    take()
        while waiting:
            take()
    return found
