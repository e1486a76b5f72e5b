"""Local files -> chunks -> manifests without a mount, for `modelfs put`.

A file is read window by window; its chunks are hashed, encoded and sent by a few threads, and never more windows
than those threads can hold are in memory. Blocking; one `Ingest` serves one command.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from modelfs import limits
from modelfs.chunking.cutter import Cutter
from modelfs.chunking.zeros import is_zero
from modelfs.errors import UsageError
from modelfs.formats import detect
from modelfs.formats.layout import read_all
from modelfs.repository.objects import Extent, Kind, Manifest
from modelfs.repository.repository import Repository, Tensor
from modelfs.writer.bases import Bases, Earlier, Origin

Progress = Callable[[int], None]  # called with the number of plain bytes that are done


@dataclass(frozen=True, slots=True)
class Ingested:
    """What a tree entry says of the content; ``sent``: bytes that went to the store (0: it had all of them)."""

    kind: Kind
    content: bytes
    size: int
    sent: int


class Ingest:
    """Uploads files into one repository; a context manager that owns the threads."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._window = 2 * repo.format.chunking.max_size
        self._bases = Bases(repo)
        self._pool = ThreadPoolExecutor(limits.UPLOAD_THREADS, "put")

    def __enter__(self) -> Ingest:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def file(self, path: Path, progress: Progress, origin: Origin | None = None) -> Ingested:
        """Bring one regular file into the store. ``origin``: where it goes, which tells what it is a new version of.
        OSError when it cannot be read, UsageError when it changes."""
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= limits.INLINE_MAX:
                data = os.pread(file.fileno(), size, 0)
                progress(len(data))
                return Ingested(Kind.INLINE, data, len(data), 0)
            fd = file.fileno()
            layout = read_all(detect.parse(size), lambda offset, length: os.pread(fd, length, offset))
            if layout is None and origin is not None:
                layout = self._bases.guess(origin, size)
            earlier = self._bases.earlier(layout, origin, None) if layout is not None else None
            cutter = Cutter(self._repo.format.chunking, layout)
            extents, sent = self._chunks(fd, path, size, cutter, earlier, progress)
        tensors = self._repo.write_layout(layout) if layout is not None else b""
        manifest = Manifest(size, tuple(extents), tensors)
        self._bases.written(layout, manifest)
        return Ingested(Kind.FILE, self._repo.write_manifest(manifest), size, sent)

    def _chunks(
        self, fd: int, path: Path, size: int, cutter: Cutter, earlier: Earlier | None, progress: Progress
    ) -> tuple[list[Extent], int]:
        waiting: deque[Future[tuple[Extent, int]]] = deque()
        extents: list[Extent] = []
        sent = 0

        def take() -> None:
            nonlocal sent
            extent, cost = waiting.popleft().result()
            progress(extent.length)
            sent += cost
            if not extent.id and extents and not extents[-1].id:
                extents[-1] = Extent(b"", extents[-1].length + extent.length)
            else:
                extents.append(extent)

        position = 0
        while position < size:
            window = memoryview(os.pread(fd, min(self._window, size - position), position))
            if not window:
                raise UsageError(f"{path} became shorter while it was read")
            at = 0
            for length in cutter.cut(window, position, position + len(window) == size):
                tensor = earlier.tensor(position + at, length) if earlier is not None else None
                waiting.append(self._pool.submit(self._one, window[at : at + length], tensor))
                at += length
                while len(waiting) > 2 * limits.UPLOAD_THREADS:
                    take()
            position += at
        while waiting:
            take()
        return extents, sent

    def _one(self, piece: memoryview, tensor: Tensor | None) -> tuple[Extent, int]:
        if is_zero(piece):
            return Extent(b"", len(piece)), 0
        chunk, sent = self._repo.write_chunk(piece, tensor)
        return Extent(chunk, len(piece)), sent
