"""Directories and files written anew in a store that names them by other ids, or packs them otherwise.

The tree of a commit is made from the tree of the commit before it in both stores: what did not change is not looked at.
A file is as many chunks of the same lengths as before, in its order, so the ids that the copy gave to the chunks of
earlier files are had from the manifests of both, and only chunks that no earlier file has are read. A chunk that was a
delta becomes one to the copy of what it built upon, if that pays there. Memory: one directory at each depth, the chunks
on their way, and `limits.SYNC_PAIRS` pairs of ids.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import msgspec

from modelfs import codecs, limits
from modelfs.errors import CorruptError
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.repository.objects import EMPTY_TREE, Entry, Extent, Kind, Manifest, TreeDelta
from modelfs.repository.repository import Repository, Tensor
from modelfs.sync.objects import Progress, windowed
from modelfs.writer.tensors import Tensors


class Rewrite:
    """Writes trees of one repository into another. A context manager that owns the threads; counts what was sent."""

    def __init__(self, source: Repository, target: Repository, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._lock = threading.Lock()
        self._pairs: dict[bytes, ChunkId] = {}  # chunks: id in the source -> id in the target
        self._manifests: dict[bytes, bytes] = {}
        self._trees: dict[bytes, TreeId] = {bytes(EMPTY_TREE): EMPTY_TREE}
        self._pool = ThreadPoolExecutor(limits.SYNC_THREADS, "sync")
        self._files = ThreadPoolExecutor(limits.IMPORT_FILES, "sync-files")
        self.chunks = self.metas = self.sent = 0

    def __enter__(self) -> Rewrite:
        return self

    def __exit__(self, *exc: object) -> None:
        self._files.shutdown(cancel_futures=True)
        self._pool.shutdown(cancel_futures=True)

    def knows(self, chunk: bytes) -> bool:
        """True when a chunk need not be read to know its id in the target."""
        return chunk in self._pairs

    def learn(self, ours: Entry, theirs: Entry) -> None:
        """Two trees are copies of each other: remember what their chunks are called in both."""
        names = zip(self._source.walk(TreeId(ours.content)), self._target.walk(TreeId(theirs.content)), strict=True)
        files = ((a, b) for (path, a), (other, b) in names if a.kind is b.kind is Kind.FILE and path == other)
        for a, b in files:
            if len(self._pairs) >= limits.SYNC_PAIRS:
                return
            self._learn_file(a, b)

    def _learn_file(self, ours: Entry, theirs: Entry) -> None:
        if ours.content in self._manifests:
            return
        a = self._source.read_manifest(ManifestId(ours.content))
        b = self._target.read_manifest(ManifestId(theirs.content))
        if [extent.length for extent in a.chunks] != [extent.length for extent in b.chunks]:
            return  # cut otherwise: somebody has written it anew
        self._manifests[ours.content] = theirs.content
        self._remember((x.id, ChunkId(y.id)) for x, y in zip(a.chunks, b.chunks, strict=True) if x.id and y.id)

    def _remember(self, pairs: Iterable[tuple[bytes, ChunkId]]) -> None:
        with self._lock:
            self._pairs.update(pairs)
            while len(self._pairs) > limits.SYNC_PAIRS:
                del self._pairs[next(iter(self._pairs))]

    def root(self, before: Entry | None, there: Entry | None, after: Entry) -> Entry:
        """The copy of the root ``after``. ``before``: a root of the source of which ``there`` is the copy. All that it
        refers to is in the target on return. NotFoundError and CorruptError name what the source lacks."""
        old, copied = (before.content, there.content) if before is not None and there is not None else (EMPTY_TREE,) * 2
        return self._directory(TreeId(old), TreeId(copied), after, 0)

    def _directory(self, before: TreeId, there: TreeId, after: Entry, depth: int) -> Entry:
        if depth > limits.TREE_DEPTH_MAX:
            raise CorruptError(f"directories nested deeper than {limits.TREE_DEPTH_MAX} in the store")
        made = self._trees.get(after.content)
        if made is None:
            delta = TreeDelta()
            files: list[Entry] = []
            for name, a, b in self._source.diff(before, TreeId(after.content)):
                if b is None:
                    delta.deletes.add(name)
                elif b.kind is Kind.DIRECTORY:
                    twin = self._target.lookup(there, name) if a is not None and a.kind is Kind.DIRECTORY else None
                    known = a is not None and twin is not None and twin.kind is Kind.DIRECTORY
                    pair = (TreeId(a.content), TreeId(twin.content)) if known and a and twin else (EMPTY_TREE,) * 2
                    delta.puts[name] = self._directory(*pair, b, depth + 1)
                elif b.kind is Kind.FILE:
                    files.append(b)
                else:
                    delta.puts[name] = b
            for entry, content in windowed(self._files, self._file, files, 2 * limits.IMPORT_FILES):
                delta.puts[entry.name] = msgspec.structs.replace(entry, content=content)
            made = self._target.apply(there, delta)
            self.metas += 1
            with self._lock:
                self._trees[after.content] = made
                if len(self._trees) > limits.SYNC_PAIRS:
                    del self._trees[next(iter(self._trees))]
        return self._target.directory(msgspec.structs.replace(after, content=EMPTY_TREE, linked=0), made)

    def _file(self, entry: Entry) -> bytes:
        """Id of the copy of a file's manifest."""
        if (known := self._manifests.get(entry.content)) is not None:
            return known
        manifest = self._source.read_manifest(ManifestId(entry.content))
        layout = self._source.read_layout(manifest)
        tensors = Tensors(layout) if layout is not None else None
        starts = accumulate((extent.length for extent in manifest.chunks), initial=0)

        def copy(item: tuple[int, Extent]) -> Extent:
            start, extent = item
            return Extent(self._chunk(extent, tensors, start), extent.length)

        extents = tuple(
            extent
            for _, extent in windowed(
                self._pool, copy, zip(starts, manifest.chunks, strict=False), 2 * limits.SYNC_THREADS
            )
        )
        table = self._target.write_layout(layout) if layout is not None else b""
        content = self._target.write_manifest(Manifest(manifest.size, extents, table))
        with self._lock:
            self.metas += 1
            self._manifests[entry.content] = content
            if len(self._manifests) > limits.SYNC_PAIRS:
                del self._manifests[next(iter(self._manifests))]
        return content

    def _chunk(self, extent: Extent, tensors: Tensors | None, start: int) -> bytes:
        if not extent.id:
            return b""
        if (known := self._pairs.get(extent.id)) is not None:
            return known
        encoded, plain = self._source.read_stored_chunk(ChunkId(extent.id), extent.length)
        head = codecs.delta_head(encoded)
        element = tensors.at(start, extent.length)[1] if tensors is not None else None
        earlier = self._pairs.get(head.base) if head is not None else None
        tensor = Tensor(head.element if head else element, (earlier,) if earlier is not None else ())
        chunk, sent = self._target.write_chunk(plain, tensor)
        self._remember(((extent.id, chunk),))
        with self._lock:
            self.chunks += sent > 0
            self.sent += sent
        self._progress(extent.length)
        return chunk
