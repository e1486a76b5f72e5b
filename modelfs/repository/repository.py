"""A modelfs store as its users see it: chunks, manifests, directories, history.

`Repository` composes the modules around it and adds nothing of its own; each of its methods is one of theirs. All of
it is plain blocking code, safe to call from many threads; the mount runs it in worker threads, the command line as
it is. Order of writing is the caller's promise: chunks, then manifests, then trees, then the commit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from modelfs.codecs import Compression, DeltaHead
from modelfs.errors import UsageError
from modelfs.formats.layout import Layout
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.repository.chunks import Chunks, Local, Tensor, Trial
from modelfs.repository.commits import Commits
from modelfs.repository.format import Format, read_format, write_format
from modelfs.repository.keys import FORMAT_KEY
from modelfs.repository.manifests import Manifests
from modelfs.repository.merge import Merge
from modelfs.repository.meta import MetaObjects, MetaStatistics
from modelfs.repository.objects import EMPTY_TREE, CommitRecord, Entry, Kind, Manifest, Tag, TreeDelta
from modelfs.repository.refs import Refs
from modelfs.repository.trees import Difference, Trees
from modelfs.store.base import Buffer, Store

__all__ = ["EMPTY_TREE", "MAIN", "CommitRecord", "Format", "Repository", "RepositoryStatistics", "Tensor", "Trial"]

MAIN: Final = "main"


@dataclass(frozen=True, slots=True)
class RepositoryStatistics:
    """What this process holds and knows of a store."""

    meta: MetaStatistics
    known_chunks: int
    bad_chunks: int


class Repository:
    """One store, opened. Make one with `create` or `open`."""

    def __init__(self, store: Store, made: Format) -> None:
        self.store = store
        self.format = made
        self._chunks = Chunks(store, made.compression)
        self._meta = MetaObjects(store)
        self._manifests = Manifests(self._meta)
        self._trees = Trees(self._meta)
        self._merge = Merge(self._trees)
        self._commits = Commits(store, self._merge)
        self._refs = Refs(store, self._commits)

    @classmethod
    def create(cls, store: Store, made: Format | None = None) -> Repository:
        """Make a store: an empty first commit of "main", then format.json, so that a store that opens is whole.
        UsageError when there is one already."""
        if store.size(FORMAT_KEY) is not None:
            raise UsageError(f"there is a modelfs store at {store.url} already")
        made = made or Format()
        repo = cls(store, made)
        root = Entry(b"", Kind.DIRECTORY, 0o755, os.getuid(), os.getgid(), time.time_ns(), 0, EMPTY_TREE)
        # A creation that was cut short may have left its first commit. It is as good as ours while it is empty.
        first = repo.head(MAIN) or repo.commit(MAIN, None, root, "")
        if first.commit.root.content != EMPTY_TREE:
            raise UsageError(f"{store.url} holds commits but no {FORMAT_KEY}: it is damaged, or not modelfs's")
        write_format(store, made)
        return repo

    @classmethod
    def open(cls, store: Store) -> Repository:
        """Open a store: NotAStoreError, FormatVersionError."""
        return cls(store, read_format(store))

    # -- chunks and manifests -----------------------------------------------------------------------------------

    def read_chunk(self, chunk: ChunkId, length: int) -> Buffer:
        """The ``length`` plain bytes of a chunk, verified. NotFoundError and CorruptError name it."""
        return self._chunks.read(chunk, length)

    def write_chunk(self, plain: Buffer, tensor: Tensor | None = None) -> tuple[ChunkId, int]:
        """Make sure that the store has these bytes: their id, and the bytes sent for it (0: it had them).
        ``tensor``: what is known of them when they are a piece of one."""
        return self._chunks.write(plain, tensor)

    def delta_head(self, chunk: ChunkId) -> DeltaHead | None:
        """What a chunk that is stored as a delta says of itself; None for others. NotFoundError, CorruptError."""
        return self._chunks.head(chunk)

    @property
    def compression(self) -> Compression:
        """What new chunks are packed for: the store's own choice until it is set."""
        return self._chunks.compression

    @compression.setter
    def compression(self, chosen: Compression) -> None:
        self._chunks.compression = chosen

    def use_local(self, local: Local) -> None:
        """Where to look for the bases of deltas before the store is asked."""
        self._chunks.local = local

    def known(self, chunks: Iterable[ChunkId]) -> None:
        """Chunks of a manifest that a branch head reaches: in the store, unless seen damaged or missing here."""
        self._chunks.vouch(chunks)

    def read_manifest(self, manifest: ManifestId) -> Manifest:
        """A manifest, verified."""
        return self._manifests.read(manifest)

    def write_manifest(self, manifest: Manifest) -> ManifestId:
        """Store a manifest."""
        return self._manifests.write(manifest)

    def read_layout(self, manifest: Manifest) -> Layout | None:
        """Where the tensors of a file lie, as its writer found out; None when it did not."""
        return self._manifests.read_layout(manifest)

    def write_layout(self, layout: Layout) -> bytes:
        """Store where the tensors of a file lie: what its manifest says in ``tensors``."""
        return self._manifests.write_layout(layout)

    # -- directories --------------------------------------------------------------------------------------------

    def lookup(self, tree: TreeId, name: bytes) -> Entry | None:
        """The entry of that name in one directory."""
        return self._trees.lookup(tree, name)

    def list(self, tree: TreeId) -> Iterator[Entry]:
        """All entries of one directory, sorted by name."""
        return self._trees.entries(tree)

    def diff(self, before: TreeId, after: TreeId) -> Iterator[Difference]:
        """(name, entry before, entry after) for what differs between two directories, not below them."""
        return self._trees.diff(before, after)

    def apply(self, tree: TreeId, delta: TreeDelta) -> TreeId:
        """Id of the directory with the changes made to it and below it; the same id when nothing changed."""
        return self._trees.apply(tree, delta)

    def merge(self, base: TreeId, ours: TreeId, theirs: TreeId) -> TreeId:
        """Our changes since ``base`` laid over ``theirs``."""
        return self._merge.trees(base, ours, theirs)

    def walk(self, tree: TreeId, path: bytes = b"") -> Iterator[tuple[bytes, Entry]]:
        """Every path below a directory with its entry, depth first, a directory before what is in it."""
        return self._trees.walk(tree, path)

    def find(self, root: Entry, path: bytes) -> Entry | None:
        """The entry at a path below ``root``."""
        return self._trees.find(root, path)

    # -- history ------------------------------------------------------------------------------------------------

    def head(self, branch: str = MAIN, after: int = 0) -> CommitRecord | None:
        """The newest commit, or None when there is no such branch. ``after``: a number known to exist."""
        return self._commits.head(branch, after)

    def read_commit(self, branch: str, number: int) -> CommitRecord:
        """One commit."""
        return self._commits.read(branch, number)

    def commit(
        self,
        branch: str,
        base: CommitRecord | None,
        root: Entry,
        message: str,
        files: int = 0,
        size: int = 0,
        announce: Callable[[CommitRecord], None] = lambda record: None,
    ) -> CommitRecord:
        """Add our changes from ``base`` to ``root`` on top of whatever the branch holds by then. ``files`` and
        ``size``: how many files and logical bytes they are. ``announce`` is told of every attempt beforehand: after an
        error the last one may be in the store all the same, which `settle` finds out."""
        return self._commits.commit(branch, base, root, message, files, size, announce)

    def settle(self, record: CommitRecord) -> bool:
        """True when an announced commit is in its place in the end, False when another one is."""
        return self._commits.settle(record)

    def log(self, start: str | CommitRecord = MAIN) -> Iterator[CommitRecord]:
        """Commits of a branch, or from one commit on, newest first, their chain verified."""
        return self._commits.log(self.resolve(start) if isinstance(start, str) else start)

    def branches(self) -> tuple[str, ...]:
        """Names of all branches, sorted."""
        return self._commits.branches()

    def tags(self) -> tuple[str, ...]:
        """Names of all tags, sorted."""
        return self._refs.tags()

    def read_tag(self, name: str) -> Tag:
        """What a tag names."""
        return self._refs.read(name)

    def tag(self, name: str, record: CommitRecord) -> Tag:
        """Name a commit, for good. UsageError when the name is taken."""
        return self._refs.create(name, record)

    def resolve(self, ref: str | None, branch: str = MAIN) -> CommitRecord:
        """The commit that TAG, BRANCH, BRANCH@NUMBER or a prefix of a commit id means; None: newest of ``branch``."""
        return self._refs.resolve(ref, branch)

    def statistics(self) -> RepositoryStatistics:
        """What is held in memory."""
        return RepositoryStatistics(self._meta.statistics(), *self._chunks.sizes())
