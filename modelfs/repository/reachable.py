"""Everything that commits reach: every tree page, manifest, tensor table and chunk, each visited once.

Commits share most of their pages; what was visited below one root is passed over below the next. Pages and manifests
are read by a few threads at once; the order of what is yielded is not promised, except that a page comes before what
is below it. Memory: 32 bytes for each distinct object, and the entries of the pages on the way down. Collection marks
with it, fsck checks with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from modelfs import limits
from modelfs.errors import CorruptError, ModelfsError
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.repository.idset import IdSet
from modelfs.repository.keys import chunk_key, meta_key
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind, Manifest, PageRef
from modelfs.repository.pages import Page


class Reads(Protocol):
    """What the walk asks of a repository."""

    def read_page(self, tree: TreeId) -> Page: ...

    def read_manifest(self, manifest: ManifestId) -> Manifest: ...


class What(Enum):
    """The kinds of objects that a commit reaches."""

    PAGE = "tree page"
    MANIFEST = "manifest"
    TENSORS = "tensor table"
    CHUNK = "chunk"


@dataclass(frozen=True, slots=True)
class Reached:
    """One object. ``path``: the first path found that needs it; ``length``: plain bytes of a chunk, else 0."""

    what: What
    id: bytes
    path: bytes
    length: int = 0

    @property
    def key(self) -> str:
        """Its key in the store."""
        return chunk_key(ChunkId(self.id)) if self.what is What.CHUNK else meta_key(self.id)


Damage = Callable[[Reached, ModelfsError], None]


@dataclass(frozen=True, slots=True)
class _Task:
    """An object that has to be read. ``ref``: what the page above says of a page; ``depth``: directories above."""

    reached: Reached
    depth: int
    ref: PageRef | None = None
    level: int = 0


class Reachable:
    """Visits what commits reach. ``seen`` holds the ids that were visited, by kind.

    ``on_damage`` hears of a page or manifest that cannot be read, and the walk goes on without what is below it;
    without it the error is raised.
    """

    def __init__(self, repo: Reads, on_damage: Damage | None = None) -> None:
        self._repo = repo
        self._on_damage = on_damage
        self.seen: dict[What, IdSet] = {what: IdSet() for what in What}

    def walk(self, root: Entry, path: bytes = b"") -> Iterator[Reached]:
        """Objects that ``root`` (an entry of any kind, at ``path``) reaches and that were not visited before.

        NotFoundError and CorruptError as they come, unless ``on_damage`` takes them.
        """
        return self.walk_all([(path, root)])

    def walk_all(self, roots: Iterable[tuple[bytes, Entry]]) -> Iterator[Reached]:
        """As `walk`, for many (path, entry) whose objects are read together."""
        waiting: list[_Task] = []
        running: deque[tuple[_Task, Future[Page | Manifest]]] = deque()
        for path, root in roots:
            yield from self._entry(root, path, 0, waiting)
        with ThreadPoolExecutor(limits.STORE_CONCURRENCY, "reachable") as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < 2 * limits.STORE_CONCURRENCY:
                        task = waiting.pop()  # the deepest first: the list stays as short as the tree is deep
                        running.append((task, pool.submit(self._read, task)))
                    task, future = running.popleft()
                    try:
                        found = future.result()
                    except ModelfsError as error:
                        if self._on_damage is None:
                            raise
                        self._on_damage(task.reached, error)
                        continue
                    if isinstance(found, Page):
                        yield from self._page(found, task, waiting)
                    else:
                        yield from self._manifest(found, task.reached.path)
            finally:
                for _, future in running:
                    future.cancel()

    def _read(self, task: _Task) -> Page | Manifest:
        if task.reached.what is What.MANIFEST:
            return self._repo.read_manifest(ManifestId(task.reached.id))
        page, ref = self._repo.read_page(TreeId(task.reached.id)), task.ref
        if ref is not None and (
            page.level != task.level
            or (page.count, page.weight) != (ref.count, ref.weight)
            or page.items[0].name != ref.name
        ):
            message = f"tree page {ref.id.hex()} is not what its index says"
            raise CorruptError(message, task.reached.key)
        return page

    def _page(self, page: Page, task: _Task, waiting: list[_Task]) -> Iterator[Reached]:
        path = task.reached.path
        for item in page.items:
            if isinstance(item, PageRef):
                if self.seen[What.PAGE].add(item.id):
                    reached = Reached(What.PAGE, item.id, path)
                    yield reached
                    waiting.append(_Task(reached, task.depth, item, page.level - 1))
            else:
                below = path + b"/" + item.name if path else item.name
                yield from self._entry(item, below, task.depth + 1, waiting)

    def _entry(self, entry: Entry, path: bytes, depth: int, waiting: list[_Task]) -> Iterator[Reached]:
        if entry.kind is Kind.FILE:
            what = What.MANIFEST
        elif entry.kind is Kind.DIRECTORY and entry.content != EMPTY_TREE:
            what = What.PAGE
        else:
            return
        if not self.seen[what].add(entry.content):
            return
        reached = Reached(what, entry.content, path)
        yield reached
        if depth > limits.TREE_DEPTH_MAX:
            error = CorruptError(f"directories nested deeper than {limits.TREE_DEPTH_MAX} in the store", reached.key)
            if self._on_damage is None:
                raise error
            self._on_damage(reached, error)
            return
        waiting.append(_Task(reached, depth))

    def _manifest(self, manifest: Manifest, path: bytes) -> Iterator[Reached]:
        if manifest.tensors and self.seen[What.TENSORS].add(manifest.tensors):
            yield Reached(What.TENSORS, manifest.tensors, path)
        for extent in manifest.chunks:
            if extent.id and self.seen[What.CHUNK].add(extent.id):
                yield Reached(What.CHUNK, extent.id, path, extent.length)
