"""Objects that the source has and the target lacks, between stores that name the same bytes by the same ids.

`Missing` finds them: of a history of which the target has the beginning, only what differs from commit to commit is
looked at. `ObjectCopy` moves them: every chunk is read, decoded and compared with its id on the way, then stored as it
was, without encoding it again; chunks first, then tensor tables, manifests, and tree pages from the leaves up, as the
format asks of writers. Memory: 36 bytes for each chunk that is missing, 32 for each object that was looked at.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from modelfs import codecs, limits
from modelfs.errors import CorruptError, NotFoundError
from modelfs.ids import ID_LENGTH, ChunkId, TreeId
from modelfs.repository.again import twice
from modelfs.repository.idset import IdSet
from modelfs.repository.intake import Intake
from modelfs.repository.keys import meta_key
from modelfs.repository.objects import EMPTY_TREE, Kind, PageRef
from modelfs.repository.reachable import Reachable, Reached, What
from modelfs.repository.repository import Repository
from modelfs.store.base import Buffer
from modelfs.sync.history import BranchPlan

T = TypeVar("T")
R = TypeVar("R")

Progress = Callable[[int], None]  # called with the number of plain bytes that are done


class ChunkList:
    """Ids and plain lengths of chunks, in little memory."""

    def __init__(self) -> None:
        self._ids = bytearray()
        self._lengths = array("I")
        self.bytes = 0

    def add(self, chunk: bytes, length: int) -> None:
        """One more."""
        self._ids += chunk
        self._lengths.append(length)
        self.bytes += length

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[tuple[ChunkId, int]]:
        for i, length in enumerate(self._lengths):
            yield ChunkId(bytes(self._ids[i * ID_LENGTH : (i + 1) * ID_LENGTH])), length


class Missing:
    """What the target lacks of some commits. ``has``: whether it has an object; ``present``: how many it had."""

    def __init__(self, source: Repository, has: Callable[[Reached], bool]) -> None:
        self._source = source
        self._has = has
        self._seen = {True: IdSet(), False: IdSet()}  # chunks, others: a chunk may hold the bytes of a manifest
        self.chunks = ChunkList()
        self.metas: dict[What, list[bytes]] = {What.TENSORS: [], What.MANIFEST: [], What.PAGE: []}
        self.present = 0

    @property
    def objects(self) -> int:
        """How many objects are missing."""
        return len(self.chunks) + sum(map(len, self.metas.values()))

    def find(self, plan: BranchPlan, tick: Callable[[], None] = lambda: None) -> None:
        """Add what is missing of one branch. Errors of the source as they come."""
        with ThreadPoolExecutor(limits.STORE_CONCURRENCY, "sync-ask") as pool:
            fresh = (found for found in self._new(plan) if self._seen[found.what is What.CHUNK].add(found.id))
            for found, there in windowed(pool, self._has, fresh, 4 * limits.STORE_CONCURRENCY):
                tick()
                if there:
                    self.present += 1
                elif found.what is What.CHUNK:
                    self.chunks.add(found.id, found.length)
                else:
                    self.metas[found.what].append(found.id)

    def _new(self, plan: BranchPlan) -> Iterator[Reached]:
        """What the commits reach and what the target has does not, as far as comparing neighbours tells."""
        if plan.whole:
            yield from Reachable(self._source).walk_all((b"", record.commit.root) for record in plan.commits)
            return
        assert plan.before is not None
        steps = zip([plan.before, *plan.commits], plan.commits, strict=False)
        pairs = ((TreeId(a.commit.root.content), TreeId(b.commit.root.content)) for a, b in steps)

        def compare(pair: tuple[TreeId, TreeId]) -> list[Reached]:
            return list(self._source.new_objects(*pair))

        with ThreadPoolExecutor(limits.SYNC_PLANNERS, "sync-plan") as pool:
            for _, found in windowed(pool, compare, pairs, limits.SYNC_PLANNERS):
                yield from found


class ObjectCopy:
    """Moves objects, and counts them: ``sent`` in bytes."""

    def __init__(self, source: Repository, intake: Intake) -> None:
        self._source = source
        self._intake = intake
        self._lock = threading.Lock()
        # A base that several deltas need comes once. By the chunk's first byte.
        self._turns = [threading.Lock() for _ in range(256)]
        self._bases = _Bases(source)
        self.chunks = self.metas = self.sent = 0

    def run(self, missing: Missing, progress: Progress) -> None:
        """Move what is missing. NotFoundError and CorruptError name what the source does not have as it should be."""
        with ThreadPoolExecutor(limits.SYNC_THREADS, "sync") as pool:
            for (_, length), _ in windowed(pool, self._chunk, missing.chunks, 2 * limits.SYNC_THREADS):
                progress(length)
            for what in (What.TENSORS, What.MANIFEST):
                self._move(pool, what, missing.metas[what])
            for level in _levels(self._source, missing.metas[What.PAGE]):
                self._move(pool, What.PAGE, level)

    def _move(self, pool: ThreadPoolExecutor, what: What, ids: Iterable[bytes]) -> None:
        def move(object_id: bytes) -> None:
            self._intake.take_meta(object_id, read_meta(self._source, what, object_id))

        for _ in windowed(pool, move, ids, 2 * limits.SYNC_THREADS):
            self.metas += 1

    def _chunk(self, item: tuple[ChunkId, int]) -> None:
        chunk, length = item
        encoded, plain = self._source.read_stored_chunk(chunk, length)
        head = codecs.delta_head(encoded)
        if head is not None:
            self._base(ChunkId(head.base), length)
        with self._turns[chunk[0]]:
            self._count(self._intake.take_chunk(chunk, encoded, plain))

    def _base(self, base: ChunkId, length: int) -> None:
        """A delta is about to follow: what it builds on must be there."""
        with self._turns[base[0]]:
            if not self._intake.has_chunk(base):
                self._count(self._intake.take_chunk(base, *self._source.read_stored_chunk(base, length)))

    def _count(self, sent: int) -> None:
        with self._lock:
            self.chunks += sent > 0
            self.sent += sent


class _Bases:
    """Chunks that deltas build on, kept for the next one; lent to the source for its reads."""

    def __init__(self, source: Repository) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._kept: OrderedDict[ChunkId, Buffer] = OrderedDict()
        self._thread = threading.local()
        source.use_local(self._read)

    def _read(self, chunk: ChunkId, length: int) -> Buffer | None:
        with self._lock:
            plain = self._kept.get(chunk)
            if plain is not None:
                self._kept.move_to_end(chunk)
                return plain if len(plain) == length else None
        if getattr(self._thread, "inside", False):  # a base that says it is a delta itself
            return None
        self._thread.inside = True
        try:
            plain = self._source.read_chunk(chunk, length)
        except (NotFoundError, CorruptError):
            return None  # who asked finds it out again, and says so
        finally:
            self._thread.inside = False
        with self._lock:
            self._kept[chunk] = plain
            while len(self._kept) > limits.SYNC_BASES:
                self._kept.popitem(last=False)
        return plain


def read_meta(source: Repository, what: What, object_id: bytes) -> bytes:
    """The verified plain bytes of a metadata object. NotFoundError, CorruptError."""
    key = meta_key(object_id)
    try:
        return twice(lambda: source.read_meta(what.value, object_id), key)
    except ValueError as error:
        raise CorruptError(f"{what.value} {object_id.hex()} in {source.store.url} is damaged: {error}", key) from error


def windowed(
    pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], window: int
) -> Iterator[tuple[T, R]]:
    """Items with what ``work`` makes of them, in order; no more than ``window`` of them are on their way."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= window:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def _levels(source: Repository, pages: Iterable[bytes]) -> list[list[bytes]]:
    """Pages in the order in which they may be written: what a page refers to is in a list before."""
    wanted = dict.fromkeys(pages)
    heights: dict[bytes, int] = {}
    stack: list[tuple[bytes, list[bytes] | None]] = [(page, None) for page in wanted]
    while stack:
        page, below = stack.pop()
        if below is not None:
            heights[page] = 1 + max((heights[p] for p in below), default=0)
        elif page not in heights:
            below = [p for p in _below(source, page) if p in wanted]
            stack.append((page, below))
            stack.extend((p, None) for p in below)
    levels: list[list[bytes]] = [[] for _ in range(max(heights.values(), default=0))]
    for page, height in heights.items():
        levels[height - 1].append(page)
    return levels


def _below(source: Repository, page: bytes) -> Iterator[bytes]:
    """Ids of the pages that a page refers to."""
    for item in source.read_page(TreeId(page)).items:
        if isinstance(item, PageRef):
            yield item.id
        elif item.kind is Kind.DIRECTORY and item.content != EMPTY_TREE:
            yield item.content
