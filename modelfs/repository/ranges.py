"""Byte ranges of stored files without a mount, for commands that look into files.

Blocking; one `Ranges` may serve many threads and keeps a few decoded chunks, because neighbouring ranges share them.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from modelfs.ids import ChunkId
from modelfs.repository.objects import Extent, Manifest
from modelfs.repository.repository import Repository

_KEPT: Final = 8  # decoded chunks: at most 256 MiB, usually 32

# A part of a range: chunk (b"" for zeros), offset in it, length.
Part = tuple[bytes, int, int]


class Ranges:
    """Reads ranges of one version of a file."""

    def __init__(self, repo: Repository, manifest: Manifest) -> None:
        self._repo = repo
        self._manifest = manifest
        self._starts = list(accumulate((extent.length for extent in manifest.chunks), initial=0))
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, bytes | bytearray | memoryview] = OrderedDict()

    def parts(self, offset: int, length: int) -> list[Part]:
        """What ``[offset, offset + length)`` consists of; nothing is read."""
        return [(e.id, start if e.id else 0, count) for e, start, count in self.extents(offset, length)]

    def extents(self, offset: int, length: int) -> Iterator[tuple[Extent, int, int]]:
        """As `parts`, with the whole extents: (extent, offset in it, length)."""
        end = min(offset + length, self._manifest.size)
        i = bisect_right(self._starts, offset) - 1
        while offset < end:
            extent, start = self._manifest.chunks[i], self._starts[i]
            stop = min(end, start + extent.length)
            yield extent, offset - start, stop - offset
            offset, i = stop, i + 1

    def read(self, offset: int, length: int) -> bytes:
        """The bytes, fewer at the end of the file. Errors as `Repository.read_chunk`."""
        out = []
        i = bisect_right(self._starts, offset) - 1
        for chunk, start, count in self.parts(offset, length):
            out.append(self._chunk(chunk, i)[start : start + count] if chunk else bytes(count))
            i += 1
        return b"".join(out)

    def _chunk(self, chunk: bytes, i: int) -> bytes | bytearray | memoryview:
        with self._lock:
            if (found := self._kept.get(chunk)) is not None:
                self._kept.move_to_end(chunk)
                return found
        plain = self._repo.read_chunk(ChunkId(chunk), self._manifest.chunks[i].length)
        with self._lock:
            self._kept[chunk] = plain
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return plain
