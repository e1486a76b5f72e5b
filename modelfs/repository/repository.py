"""A modelfs store as its users see it: chunks, manifests, directories, history.

`Repository` composes the modules around it and adds nothing of its own; each of its methods is one of theirs. All of
it is plain blocking code, safe to call from many threads; the mount runs it in worker threads, the command line as
it is. Order of writing is the caller's promise: chunks, then manifests, then trees, then the commit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from modelfs.codecs import Compression, DeltaHead, Link
from modelfs.errors import CollectedError, CorruptError, NotFoundError, UsageError
from modelfs.formats.layout import Layout
from modelfs.ids import ChunkId, Ids, ManifestId, TreeId
from modelfs.repository.access import Access
from modelfs.repository.assurance import Assurance
from modelfs.repository.chunks import Chunks, Local, Tensor, Trial
from modelfs.repository.commitobjects import CommitObjects
from modelfs.repository.commits import Commits
from modelfs.repository.condemned import Condemned
from modelfs.repository.format import Format, read_format, write_format
from modelfs.repository.gcformat import Collected
from modelfs.repository.intake import Intake
from modelfs.repository.keys import FORMAT_KEY
from modelfs.repository.keyslots import Unlocked, reopen, replace_format
from modelfs.repository.manifests import Manifests
from modelfs.repository.merge import Merge
from modelfs.repository.meta import MetaObjects, MetaStatistics
from modelfs.repository.objects import (
    EMPTY_TREE,
    Commit,
    CommitRecord,
    Entry,
    Kind,
    Manifest,
    PageRef,
    Tag,
    TreeDelta,
)
from modelfs.repository.originals import Originals, Seen
from modelfs.repository.pages import Page
from modelfs.repository.places import Place
from modelfs.repository.reachable import Reached
from modelfs.repository.refs import Refs
from modelfs.repository.sealed import SealedStore
from modelfs.repository.sources import Sources
from modelfs.repository.trees import Difference, Trees
from modelfs.repository.vouching import vouched_log
from modelfs.store.base import Buffer, Store
from modelfs.store.clock import Clock

__all__ = ["EMPTY_TREE", "MAIN", "CommitRecord", "Format", "Repository", "RepositoryStatistics", "Tensor", "Trial"]

MAIN: Final = "main"


@dataclass(frozen=True, slots=True)
class RepositoryStatistics:
    """What this process holds and knows of a store."""

    meta: MetaStatistics
    known_chunks: int
    bad_chunks: int


class Repository:
    """One store, opened. Make one with `create` or `open`. ``store`` shows plain objects, of an encrypted store too;
    ``raw``: the objects as their keeper has them."""

    def __init__(
        self,
        store: Store,
        made: Format,
        keys: Unlocked | None = None,
        access: Access | None = None,
        clock: Clock = Clock(),
    ) -> None:
        self.access = access = replace(access or Access(), secret=None, ask=None)  # they are not needed any more
        self.keys = keys
        self.raw = store
        self.store: Store = store if keys is None else SealedStore(store, made.id, keys, self._reopen)
        self.format = made
        self.clock = clock
        self.ids = Ids(keys.keyring.id_key if keys is not None else None)
        self._seen = access.memory(made)
        self._condemned = Condemned(self.store, clock)
        self._sources = Sources(self.store, self.ids)
        self._originals = Originals(self._sources, access.sources, access.timeout)
        self._chunks = Chunks(self.store, self.ids, made.compression, self._condemned, self._sources, self._originals)
        self._meta = MetaObjects(self.store, self.ids, presence=self._condemned.meta)
        self._manifests = Manifests(self._meta)
        self._trees = Trees(self._meta)
        self._merge = Merge(self._trees)
        self._assurance = Assurance(self._condemned, self._chunks, self._meta, self._manifests, self._trees)
        objects = CommitObjects(self.ids, made.id, access)
        self._commits = Commits(
            self.store, self._merge, objects, self._seen, self._condemned, self._assurance.commit, clock
        )
        self._refs = Refs(self.store, self._commits)

    @classmethod
    def create(
        cls, store: Store, made: Format | None = None, keys: Unlocked | None = None, access: Access | None = None
    ) -> Repository:
        """Make a store: an empty first commit of "main", then format.json, so that a store that opens is whole.
        ``made`` and ``keys`` are those of `keyslots.encrypted` for an encrypted one. UsageError when there is a store
        already."""
        if store.size(FORMAT_KEY) is not None:
            raise UsageError(f"there is a modelfs store at {store.url} already")
        made = made or Format()
        repo = cls(store, made, keys, access)
        root = Entry(b"", Kind.DIRECTORY, 0o755, os.getuid(), os.getgid(), time.time_ns(), 0, EMPTY_TREE)
        # A creation that was cut short may have left its first commit. It is as good as ours while it is empty.
        try:
            head = repo.head(MAIN)
        except CorruptError as error:
            raise UsageError(f"a creation of {store.url} was cut short; remove what it left: {error}") from error
        first = head or repo.commit(MAIN, None, root, "")
        if first.commit.root.content != EMPTY_TREE:
            raise UsageError(f"{store.url} holds commits but no {FORMAT_KEY}: it is damaged, or not modelfs's")
        write_format(store, made)
        repo._note_keys(made)
        return repo

    @classmethod
    def open(cls, store: Store, access: Access | None = None, clock: Clock = Clock()) -> Repository:
        """Open a store: NotAStoreError, FormatVersionError, LockedError, UntrustedError."""
        access = access or Access()
        made = read_format(store)
        keys = access.unlock(made, store.url)
        repo = cls(store, made, keys, access, clock)
        repo._note_keys(made)
        return repo

    def close(self) -> None:
        """Let go of what links lead to. The store is its opener's."""
        self._originals.close()

    def _reopen(self) -> Unlocked:
        """The keys as they are now: somebody has rotated them."""
        assert self.keys is not None
        made = read_format(self.store)
        self.keys = reopen(made, self.keys, self.store.url)
        self._note_keys(made)
        return self.keys

    def _note_keys(self, made: Format) -> None:
        self._seen.check_revision(made.encryption.revision if made.encryption is not None else 0, self.store.url)

    def change_keys(self, after: Format, *, break_lock: bool = False) -> None:
        """Put a format.json with other key slots, as `keyslots` makes it, in the place of the one that was read."""
        replace_format(self.store, self.format, after, break_lock=break_lock)
        self.format = after
        self._note_keys(after)

    # -- chunks and manifests -----------------------------------------------------------------------------------

    def read_chunk(self, chunk: ChunkId, length: int) -> Buffer:
        """The ``length`` plain bytes of a chunk, verified. NotFoundError and CorruptError name it."""
        return self._chunks.read(chunk, length)

    def write_chunk(self, plain: Buffer, tensor: Tensor | None = None) -> tuple[ChunkId, int]:
        """Make sure that the store has these bytes: their id, and the bytes sent for it (0: it had them).
        ``tensor``: what is known of them when they are a piece of one."""
        return self._chunks.write(plain, tensor)

    def read_stored_chunk(self, chunk: ChunkId, length: int) -> tuple[Buffer, Buffer]:
        """A chunk as it is stored, and its plain bytes; as `read_chunk`."""
        return self._chunks.read_stored(chunk, length)

    # -- links --------------------------------------------------------------------------------------------------

    def link_chunk(self, plain: Buffer, link: Link) -> tuple[ChunkId, int]:
        """As `write_chunk`, but what the store lacks becomes a link to where the bytes were read."""
        return self._chunks.link(plain, link)

    def stored_link(self, chunk: ChunkId) -> Link | None:
        """The link that the store has in the place of a chunk's bytes, None for others. CorruptError."""
        return self._chunks.stored_link(chunk)

    def add_source(self, url: str) -> bytes:
        """The id of the source with this canonical URL, which is in the store from then on."""
        return self._sources.add(url)

    def allow_source(self, url: str) -> None:
        """Follow links to what lies below this path or URL, too. UsageError."""
        self._originals.allow(url)

    def place_of(self, link: Link) -> Place:
        """Where a link leads. CorruptError when nobody can tell."""
        return self._originals.place(link)

    def sources(self) -> list[Place]:
        """All sources of links. Without any, no chunk is a link."""
        return self._sources.all()

    def look_at_original(self, link: Link) -> Seen:
        """Compare an original with what a link says of it, without reading it."""
        return self._originals.look(link)

    def intake(self) -> Intake:
        """What fills this store from another one that has the same ids."""
        return Intake(self.store, self._condemned, self._chunks, self._meta)

    def new_objects(self, before: TreeId, after: TreeId) -> Iterator[Reached]:
        """Objects below ``after`` that ``before`` does not reach, as far as comparing the two tells."""
        return self._assurance.first_to_refer(before, after, ())

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

    def distrust_chunk(self, chunk: ChunkId) -> None:
        """Have the next `write_chunk` of these bytes store them anew, whatever the store has."""
        self._chunks.distrust(chunk)

    def use_local(self, local: Local) -> None:
        """Where to look for the bases of deltas before the store is asked."""
        self._chunks.local = local

    def known(self, chunks: Iterable[ChunkId]) -> None:
        """Chunks of a manifest that a branch head reaches: in the store, unless seen damaged or missing here."""
        self._chunks.vouch(chunks)

    def recall_manifest(self, manifest_id: ManifestId) -> Manifest | None:
        """A manifest that is in memory; asks nobody, and may be called where nothing may block."""
        return self._manifests.recall(manifest_id)

    def recalls(self, tree: TreeId) -> bool:
        """True when a directory was looked at and is still in memory, so that `lookup` and `list` need not wait."""
        return self._trees.recall(tree)

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

    def read_meta(self, what: str, object_id: bytes) -> bytes:
        """The verified msgpack bytes of a manifest, tensor table or tree page. NotFoundError, ValueError."""
        return self._meta.fetch(what, object_id)

    def write_meta(self, object_id: bytes, plain: bytes) -> None:
        """Store a metadata object that was seen damaged or missing here; ``plain`` as `read_meta` gave it."""
        self._meta.save(object_id, plain)

    # -- directories --------------------------------------------------------------------------------------------

    def lookup(self, tree: TreeId, name: bytes) -> Entry | None:
        """The entry of that name in one directory."""
        return self._trees.lookup(tree, name)

    def list(self, tree: TreeId) -> Iterator[Entry]:
        """All entries of one directory, sorted by name."""
        return self._trees.entries(tree)

    def read_page(self, tree: TreeId) -> Page:
        """One page of a directory as it is stored, for who visits every object; its id need not be a directory's."""
        return self._trees.page(tree)

    def page_below(self, ref: PageRef, level: int, upper: bytes | None) -> Page:
        """The page that an index page refers to."""
        return self._trees.page_below(ref, level, upper)

    def linked_entries(self, tree: TreeId) -> Iterator[Entry]:
        """Entries of one directory that have a link group, and subdirectories with such entries below them."""
        return self._trees.linked_entries(tree)

    def directory(self, entry: Entry, tree: TreeId) -> Entry:
        """The directory ``entry`` with another content."""
        return self._trees.directory(entry, tree)

    def diff(self, before: TreeId, after: TreeId) -> Iterator[Difference]:
        """(name, entry before, entry after) for what differs between two directories, not below them."""
        return self._trees.diff(before, after)

    def apply(self, tree: TreeId, delta: TreeDelta) -> TreeId:
        """Id of the directory with the changes made to it and below it; the same id when nothing changed."""
        return self._trees.apply(tree, delta)

    def merge(self, base: TreeId, ours: TreeId, theirs: TreeId) -> TreeId:
        """Our changes since ``base`` laid over ``theirs``."""
        return self._merge.trees(base, ours, theirs)

    def walk(self, tree: TreeId, path: bytes = b"", *, linked: bool = False) -> Iterator[tuple[bytes, Entry]]:
        """Every path below a directory with its entry, depth first, a directory before what is in it. ``linked``: only
        entries with a link group, and the directories on the way to them."""
        return self._trees.walk(tree, path, linked=linked)

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

    def load_commit(self, branch: str, number: int) -> CommitRecord:
        """One commit, not compared with its neighbours."""
        return self._commits.load(branch, number)

    def trusts(self, record: CommitRecord) -> bool:
        """True when a commit is signed by one whom this process trusts, or it was not told to ask for that."""
        return self._commits.trusts(record)

    def commit(
        self,
        branch: str,
        base: CommitRecord | None,
        root: Entry,
        message: str,
        files: int = 0,
        size: int = 0,
        *,
        reached: Collection[bytes] = (),
        revive: bool = False,
        announce: Callable[[CommitRecord], None] = lambda record: None,
    ) -> CommitRecord:
        """Add our changes from ``base`` to ``root`` on top of whatever the branch holds by then. ``files`` and
        ``size``: how many files and logical bytes they are. ``reached``: what `adopt` gave; ``revive``: a deleted
        branch may begin again. ``announce`` is told of every attempt beforehand: after an error the last one may be in
        the store all the same, which `settle` finds out."""
        return self._commits.commit(
            branch, base, root, message, files, size, reached=reached, revive=revive, announce=announce
        )

    def append(self, branch: str, head: CommitRecord | None, like: Commit, root: Entry) -> CommitRecord | None:
        """Write the commit after ``head`` with the time, author and text of another one; None when somebody else was
        first."""
        return self._commits.append(branch, head, like, root)

    def made(self, branch: str, number: int, commit: bytes) -> bool | None:
        """True when the commit of that number is or was the one with the id ``commit``, False when it is another one,
        None when there is none yet. CollectedError when nobody can tell any more."""
        return self._commits.made(branch, number, commit)

    def settle(self, record: CommitRecord) -> bool:
        """True when an announced commit is in its place in the end, False when another one is. CollectedError when
        nobody can tell any more."""
        return self._commits.settle(record)

    def begin_writing(self) -> None:
        """Learn what collections have condemned, and whether there may be links. Writers do it when they open the
        store; it is kept fresh later."""
        self._condemned.refresh()
        self._chunks.keep_fresh()

    @property
    def patience(self) -> float:
        """Seconds for which that knowledge is good enough to commit by."""
        return self._condemned.patience

    def stay_informed(self) -> None:
        """Learn it again when it was long ago, so that a writer that was idle need not ask for every chunk."""
        self._chunks.keep_fresh()

    def adopt(self, record: CommitRecord, entry: Entry) -> frozenset[bytes]:
        """Make sure that ``entry``, which ``record`` reaches, can be taken into another commit: what a collection has
        condemned is written again. What `commit` is told as ``reached``. CollectedError when it is too late."""
        self._condemned.keep_fresh()
        try:
            if self._condemned.commit(record.branch, record.number):
                self._assurance.adopt(entry)
            self._commits.read(record.branch, record.number)  # still there, so nothing of it was deleted
        except NotFoundError as error:
            raise CollectedError(f"{record.branch}@{record.number} was collected: {error}") from error
        return frozenset((entry.content,)) if entry.kind in (Kind.FILE, Kind.DIRECTORY) else frozenset()

    def end_branch(self, branch: str) -> CommitRecord:
        """Delete a branch. UnknownRefError when there is none."""
        return self._commits.end(branch)

    def collected(self, branch: str) -> Collected:
        """Numbers of the commits of a branch that were collected."""
        return self._commits.collected(branch)

    def last(self, branch: str) -> CommitRecord | None:
        """As `head`, but of a deleted branch it is the commit that says so."""
        return self._commits.last(branch)

    def log(self, start: str | CommitRecord = MAIN) -> Iterator[CommitRecord]:
        """Commits of a branch, or from one commit on, newest first, their chain verified. UnvouchedError: see
        `vouching`."""
        return vouched_log(self._commits, self.resolve(start) if isinstance(start, str) else start)

    def branches(self) -> tuple[str, ...]:
        """Names of all branches, sorted."""
        return self._commits.branches()

    def tags(self) -> tuple[str, ...]:
        """Names of all tags, sorted."""
        return self._refs.tags()

    def read_tag(self, name: str) -> Tag:
        """What a tag names."""
        return self._refs.read(name)

    def tag(self, name: str, record: CommitRecord, time_ns: int | None = None) -> Tag:
        """Name a commit, for good. UsageError when the name is taken, CollectedError when the commit goes.
        ``time_ns``: when that was, now by default."""
        self.adopt(record, record.commit.root)
        self._commits.hold(record)
        return self._refs.create(name, record, time_ns)

    def delete_tag(self, name: str) -> Tag:
        """Take a name away again; what it named. UnknownRefError."""
        return self._refs.delete(name)

    def resolve(self, ref: str | None, branch: str = MAIN) -> CommitRecord:
        """The commit that TAG, BRANCH, BRANCH@NUMBER or a prefix of a commit id means; None: newest of ``branch``."""
        return self._refs.resolve(ref, branch)

    def statistics(self) -> RepositoryStatistics:
        """What is held in memory."""
        return RepositoryStatistics(self._meta.statistics(), *self._chunks.sizes())
