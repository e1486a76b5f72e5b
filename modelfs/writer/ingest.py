"""Files -> chunks -> manifests without a mount, for `modelfs put` and `modelfs import`.

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

import msgspec

from modelfs import limits
from modelfs.chunking.cutter import Cutter
from modelfs.chunking.zeros import is_zero
from modelfs.codecs import Link
from modelfs.errors import UsageError
from modelfs.formats import detect, tfbundle
from modelfs.formats.layout import Layout, read_all
from modelfs.repository.objects import Extent, Kind, Manifest
from modelfs.repository.repository import Repository, Tensor
from modelfs.writer.bases import Bases, Earlier, Origin

Progress = Callable[[int], None]  # called with the number of plain bytes that are done
Read = Callable[[int, int], bytes]  # (offset, length): those bytes, fewer at the end of the file


@dataclass(frozen=True, slots=True)
class Ingested:
    """What a tree entry says of the content; ``sent``: bytes that went to the store (0: it had all of them)."""

    kind: Kind
    content: bytes
    size: int
    sent: int


class Ingest:
    """Uploads files into one repository; a context manager that owns the threads. ``files``: how many at once."""

    def __init__(self, repo: Repository, files: int = 1) -> None:
        self._repo = repo
        self._ahead = max(2, 2 * limits.UPLOAD_THREADS // files)  # pieces of one file on their way
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
            fd = file.fileno()
            size = os.fstat(fd).st_size
            told = _bundle(path, size)
            return self.content(str(path), size, lambda at, length: os.pread(fd, length, at), progress, origin, told)

    def content(
        self,
        name: str,
        size: int,
        read: Read,
        progress: Progress,
        origin: Origin | None = None,
        told: Layout | None = None,
        link: Link | None = None,
    ) -> Ingested:
        """Bring ``size`` bytes into the store. ``name``: for errors, which are those of ``read``, and UsageError when
        there are fewer. ``told``: the layout of content that does not tell its own. ``link``: where the first byte
        lies, when chunks that the store lacks are to become links."""
        if size <= limits.INLINE_MAX:
            data = read(0, size) if size else b""
            if len(data) != size:
                raise UsageError(f"{name} became shorter while it was read")
            progress(size)
            return Ingested(Kind.INLINE, data, size, 0)
        layout = read_all(detect.parse(size), read) or told
        if layout is None and origin is not None:
            layout = self._bases.guess(origin, size)
        # A link is no delta, so nobody needs to know the earlier version.
        earlier = self._bases.earlier(layout, origin, None) if layout is not None and link is None else None
        cutter = Cutter(self._repo.format.chunking, layout)
        extents, sent = self._chunks(read, name, size, cutter, earlier, progress, link)
        tensors = self._repo.write_layout(layout) if layout is not None else b""
        manifest = Manifest(size, tuple(extents), tensors)
        self._bases.written(layout, manifest)
        return Ingested(Kind.FILE, self._repo.write_manifest(manifest), size, sent)

    def _chunks(
        self,
        read: Read,
        name: str,
        size: int,
        cutter: Cutter,
        earlier: Earlier | None,
        progress: Progress,
        link: Link | None,
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
            window = memoryview(read(position, min(self._window, size - position)))
            if not window:
                raise UsageError(f"{name} became shorter while it was read")
            at = 0
            for length in cutter.cut(window, position, position + len(window) == size):
                tensor = earlier.tensor(position + at, length) if earlier is not None else None
                here = msgspec.structs.replace(link, offset=position + at) if link is not None else None
                waiting.append(self._pool.submit(self._one, window[at : at + length], tensor, here))
                at += length
                while len(waiting) > self._ahead:
                    take()
            position += at
        while waiting:
            take()
        return extents, sent

    def _one(self, piece: memoryview, tensor: Tensor | None, link: Link | None) -> tuple[Extent, int]:
        if is_zero(piece):
            return Extent(b"", len(piece)), 0
        chunk, sent = self._repo.write_chunk(piece, tensor) if link is None else self._repo.link_chunk(piece, link)
        return Extent(chunk, len(piece)), sent


def _bundle(path: Path, size: int) -> Layout | None:
    """The layout of a data file of a TensorFlow bundle, by the index beside it."""
    shard = tfbundle.shard_of(os.fsencode(path.name))
    if shard is None:
        return None
    index = path.with_name(path.name.rpartition(".data-")[0] + os.fsdecode(tfbundle.INDEX_SUFFIX))
    try:
        if index.stat().st_size > tfbundle.INDEX_MAX:
            return None
        found = tfbundle.parse_index(index.read_bytes(), shard)
    except OSError:  # there is none
        return None
    return found if found is not None and found.size == size else None
