"""Everything that commits reach, read and judged: the metadata half of fsck.

`Survey.walk` follows commits down through tree pages and manifests to the ids of chunks, each object once however many
commits share it. Damage stops nothing: what is below a damaged object stays unseen, everything else is seen. A
``mend`` function, given when repairing, is asked for the intact bytes of each damaged object, so that the walk goes on
below it. Memory: some 150 bytes for each distinct object.

It does more than `Reachable` (collection's walk): every object is judged, in every place where it is referred to, and
read again after it was mended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from modelfs import limits
from modelfs.errors import CorruptError, NotFoundError
from modelfs.formats.layout import Layout, end_of
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.repository.damage import Damage, Damages, Problem, Sort, problem_of
from modelfs.repository.idset import IdSet
from modelfs.repository.keys import meta_key
from modelfs.repository.objects import EMPTY_TREE, CommitRecord, Entry, Kind, Manifest, PageRef
from modelfs.repository.pages import Page
from modelfs.repository.repository import Repository

T = TypeVar("T")

# Stores the intact bytes of a damaged metadata object: where they came from, "" when nobody has them.
Mend = Callable[[Damage], str]


@dataclass(frozen=True, slots=True)
class _PageTask:
    """A page to look at: the root of a directory when ``ref`` is None. ``fresh``: what it holds was not seen yet."""

    id: bytes
    ref: PageRef | None
    level: int
    upper: bytes | None
    depth: int
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class _FileTask:
    """A manifest to look at."""

    id: ManifestId


@dataclass(frozen=True, slots=True)
class _TableTask:
    """The tensor table of a manifest to look at."""

    manifest: Manifest


_Task = _PageTask | _FileTask | _TableTask
_Found = Page | Manifest | Layout | None


class Survey:
    """What was reached so far. ``lengths``: plain bytes of every chunk; ``metas``: ids of all metadata objects."""

    def __init__(self, repo: Repository, damages: Damages, mend: Mend | None = None) -> None:
        self._repo = repo
        self._damages = damages
        self._mend = mend
        self.lengths: dict[ChunkId, int] = {}
        self.metas = IdSet()
        self.pages = self.manifests = self.tables = 0
        self._sizes: dict[bytes, int] = {}  # of files, by manifest: as the first entry says
        self._linked: dict[bytes, int] = {}  # linked names below directories, by tree: as the first entry says
        self.sums_differ = False  # some entry says another number of linked names than its directory has
        self._fitting: set[tuple[PageRef, int, bytes | None]] = set()  # pages seen where an index says they are
        self._stack: list[_Task] = []

    def walk(self, commits: Iterable[CommitRecord], progress: Callable[[], None] = lambda: None) -> None:
        """Reach everything below these commits; ``progress`` is called for each object. StoreError when the store
        fails in another way than by missing objects."""
        for record in commits:
            self._directory(record.commit.root, 0)
        with ThreadPoolExecutor(limits.STORE_CONCURRENCY, "fsck") as pool:
            running: dict[Future[_Found], _Task] = {}
            while self._stack or running:
                while self._stack and len(running) < 2 * limits.STORE_CONCURRENCY:
                    task = self._stack.pop()
                    running[pool.submit(self._load, task)] = task
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._take(running.pop(future), future.result())
                    progress()

    # -- in worker threads --------------------------------------------------------------------------------------

    def _load(self, task: _Task) -> _Found:
        """The object, mended if need be; None when it cannot be had."""
        if isinstance(task, _PageTask):
            ref = task.ref
            if ref is None:
                return self._read(Sort.PAGE, task.id, lambda: self._repo.read_page(TreeId(task.id)))
            return self._read(Sort.PAGE, task.id, lambda: self._repo.page_below(ref, task.level, task.upper))
        if isinstance(task, _FileTask):
            return self._read(Sort.MANIFEST, task.id, lambda: self._repo.read_manifest(task.id))
        manifest = task.manifest
        return self._read(Sort.TABLE, manifest.tensors, lambda: self._repo.read_layout(manifest))

    def _read(self, sort: Sort, object_id: bytes, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (NotFoundError, CorruptError) as error:
            damage = self._note(sort, object_id, problem_of(error), str(error))
        if damage is None or self._mend is None:
            return None
        damage.repaired = self._mend(damage)
        if not damage.repaired:
            return None
        try:
            return read()
        except (NotFoundError, CorruptError) as error:
            damage.repaired, damage.reason = "", str(error)
            return None

    def _note(self, sort: Sort, object_id: bytes, problem: Problem, reason: str) -> Damage | None:
        damage = Damage(sort, meta_key(object_id), problem, reason, object_id)
        return damage if self._damages.add(damage) else None

    # -- in the caller's thread ---------------------------------------------------------------------------------

    def _take(self, task: _Task, found: _Found) -> None:
        if isinstance(task, _PageTask) and isinstance(found, Page):
            if task.ref is None and found.linked != self._linked.get(task.id):
                self.sums_differ = True
            if task.fresh:
                self.pages += 1
                self._items(task, found)
        elif isinstance(task, _FileTask) and isinstance(found, Manifest):
            self._content(task.id, found)
        elif isinstance(task, _TableTask) and isinstance(found, Layout):
            self.tables += 1
            if found.spans and end_of(found.spans[-1]) > found.size:
                table = task.manifest.tensors
                reason = f"tensor table {table.hex()} speaks of bytes behind the end of its file"
                self._note(Sort.TABLE, table, Problem.CONTRADICTORY, reason)

    def _content(self, manifest_id: ManifestId, manifest: Manifest) -> None:
        self.manifests += 1
        if manifest.size != self._sizes[manifest_id]:
            self._contradiction(manifest_id, manifest.size)
        for extent in manifest.chunks:
            if extent.id:
                self._chunk(ChunkId(extent.id), extent.length, manifest_id)
        if manifest.tensors and self.metas.add(manifest.tensors):
            self._stack.append(_TableTask(manifest))

    def _items(self, task: _PageTask, page: Page) -> None:
        for i, item in enumerate(page.items):
            if isinstance(item, PageRef):
                upper = page.items[i + 1].name if i + 1 < len(page.items) else task.upper
                place = (item, page.level - 1, upper)
                if place not in self._fitting:
                    self._fitting.add(place)
                    self._stack.append(_PageTask(item.id, *place, task.depth, self.metas.add(item.id)))
            elif item.kind is Kind.DIRECTORY:
                self._directory(item, task.depth + 1)
            elif item.kind is Kind.FILE:
                self._file(item)

    def _directory(self, entry: Entry, depth: int) -> None:
        tree = entry.content
        if self._linked.setdefault(tree, 0 if tree == EMPTY_TREE else entry.linked) != entry.linked:
            self.sums_differ = True
        if tree == EMPTY_TREE or not self.metas.add(tree):
            return
        if depth > limits.TREE_DEPTH_MAX:
            reason = f"directories nested deeper than {limits.TREE_DEPTH_MAX} in the store"
            self._note(Sort.PAGE, tree, Problem.CONTRADICTORY, reason)
        else:
            self._stack.append(_PageTask(tree, None, 0, None, depth))

    def _file(self, entry: Entry) -> None:
        said = self._sizes.setdefault(entry.content, entry.size)
        if said != entry.size:
            self._contradiction(entry.content, entry.size)
        if self.metas.add(entry.content):
            self._stack.append(_FileTask(ManifestId(entry.content)))

    def _contradiction(self, manifest: bytes, size: int) -> None:
        reason = f"manifest {manifest.hex()}: directories say {self._sizes[manifest]} bytes, and also {size}"
        self._note(Sort.MANIFEST, manifest, Problem.CONTRADICTORY, reason)

    def _chunk(self, chunk: ChunkId, length: int, manifest: bytes) -> None:
        said = self.lengths.setdefault(chunk, length)
        if said != length:
            reason = f"manifest {manifest.hex()}: it says {length} bytes of chunk {chunk.hex()}, another says {said}"
            self._note(Sort.MANIFEST, manifest, Problem.CONTRADICTORY, reason)
