"""Chunks, read and judged: the data half of fsck, and what scrub does all day.

`ChunkCheck.check` reads chunks as a reader does, several at once, and says which are damaged. A chunk that is stored
as a delta is read together with its base; when it is the base that cannot be had, the damage is the base's, and the
delta is among those that `dependents` names. Chunks that build on one base are checked right after it, while it is
in memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from modelfs import limits
from modelfs.errors import BrokenLinkError, CorruptError, LinkError, LinkRefusedError, NotFoundError
from modelfs.ids import ChunkId
from modelfs.repository.damage import Damage, Problem, Sort, culprit, problem_of
from modelfs.repository.keys import base_key, chunk_key, parse_object_key
from modelfs.repository.repository import Repository
from modelfs.store.base import Buffer

Notes = Mapping[ChunkId, set[ChunkId]]  # base -> chunks that may be stored as differences to it


class ChunkCheck:
    """Checks chunks of one repository. ``lengths``: plain bytes of each that a manifest refers to.

    ``bases``: the chunks that those build on, as the notes say, and that no manifest refers to, with their lengths. A
    note may be out of date: a base counts as damaged only when something that is stored does build on it.
    """

    def __init__(self, repo: Repository, lengths: Mapping[ChunkId, int], notes: Notes) -> None:
        self._repo = repo
        self._lengths = lengths
        self._notes = notes
        self._lock = threading.Lock()
        self._bases: OrderedDict[ChunkId, Buffer] = OrderedDict()
        self._coming: dict[ChunkId, threading.Event] = {}  # bases that are being read for themselves
        self._thread = threading.local()
        self.dependents: dict[ChunkId, set[ChunkId]] = {}  # deltas that were met, by base
        self.refused: set[ChunkId] = set()  # links that may not be followed here, which says nothing about them
        self.bases = {
            base: length
            for base, deltas in notes.items()
            if base not in lengths and (length := next((lengths[d] for d in deltas if d in lengths), 0))
        }
        repo.use_local(self._kept)

    def ordered(self) -> list[ChunkId]:
        """All chunks, those that build on a base right behind it."""
        noted = {delta for deltas in self._notes.values() for delta in deltas}
        found: dict[ChunkId, None] = {}
        for chunk in sorted(self._lengths.keys() | self.bases.keys()):
            if chunk not in noted:
                found[chunk] = None
                found.update(dict.fromkeys(sorted(d for d in self._notes.get(chunk, ()) if d in self._lengths)))
        found.update(dict.fromkeys(sorted(self._lengths)))  # what builds on something that is said to be a delta
        return list(found)

    def length(self, chunk: ChunkId) -> int:
        """Plain bytes of a chunk."""
        return self._lengths.get(chunk) or self.bases[chunk]

    def check(
        self, chunks: Iterable[ChunkId], threads: int, done: Callable[[ChunkId, int], None] = lambda chunk, length: None
    ) -> Iterator[Damage]:
        """The damage of the chunks, as it is met. ``done`` hears of each chunk, in order, with its plain length.
        StoreError when the store fails in another way than by missing objects."""
        with ThreadPoolExecutor(threads, "fsck") as pool:
            running: deque[tuple[ChunkId, Future[list[Damage]]]] = deque()
            for chunk in chunks:
                if chunk in self._notes:
                    self._coming[chunk] = threading.Event()
                running.append((chunk, pool.submit(self._check, chunk)))
                if len(running) >= 2 * threads:
                    yield from self._finish(*running.popleft(), done)
            while running:
                yield from self._finish(*running.popleft(), done)

    def _finish(
        self, chunk: ChunkId, future: Future[list[Damage]], done: Callable[[ChunkId, int], None]
    ) -> Iterator[Damage]:
        yield from future.result()
        done(chunk, self.length(chunk))

    def _check(self, chunk: ChunkId) -> list[Damage]:
        # Who is waited for does not wait: two chunks that claim to build on each other must not stop everything.
        coming = self._coming.get(chunk)
        self._thread.waits = coming is None
        try:
            return self._judge(chunk)
        finally:
            if coming is not None:
                coming.set()
                del self._coming[chunk]

    def _judge(self, chunk: ChunkId) -> list[Damage]:
        length = self.length(chunk)
        try:
            plain = self._repo.read_chunk(chunk, length)
        except LinkRefusedError:
            with self._lock:
                self.refused.add(chunk)
            return []
        except LinkError as error:
            return [_damage(chunk, length, error)]
        except (NotFoundError, CorruptError) as error:
            if chunk in self.bases:
                return []  # what builds on it, if anything, will say so
            return self._blame(chunk, length, error)
        head = self._repo.delta_head(chunk)
        if head is None:
            if chunk in self._notes:
                self._keep(chunk, plain)
            return []
        base = ChunkId(head.base)
        self._depends(base, chunk)
        return [] if chunk in self._notes.get(base, ()) else [missing_note(base, chunk)]

    def _blame(self, chunk: ChunkId, length: int, error: NotFoundError | CorruptError) -> list[Damage]:
        """Whose damage the failure of a read is: the chunk's own, or that of the base it builds upon."""
        base = ChunkId(parse_object_key(culprit(error) or "") or chunk)
        # What has no note is no delta, and what has another length is no base: then the chunk is not what it was.
        if chunk in self._notes.get(base, ()) and self.length(base) == length:
            self._depends(base, chunk)
            if (damage := self._unfit(base, length)) is not None:
                return [damage]
            try:  # the base has been repaired since
                self._repo.read_chunk(chunk, length)
            except (NotFoundError, CorruptError) as second:
                error = second
            else:
                return []
        return [_damage(chunk, length, error)]

    def _unfit(self, base: ChunkId, length: int) -> Damage | None:
        """What keeps others from building on a chunk."""
        try:
            self._repo.read_chunk(base, length)
            chained = self._repo.delta_head(base) is not None
        except (NotFoundError, CorruptError) as error:
            return _damage(base, length, error)
        return chained_base(base, length) if chained else None

    def _depends(self, base: ChunkId, chunk: ChunkId) -> None:
        with self._lock:
            self.dependents.setdefault(base, set()).add(chunk)

    def _keep(self, chunk: ChunkId, plain: Buffer) -> None:
        with self._lock:
            self._bases[chunk] = plain
            while len(self._bases) > limits.FSCK_BASES:
                self._bases.popitem(last=False)

    def _kept(self, chunk: ChunkId, length: int) -> Buffer | None:
        coming = self._coming.get(chunk)
        if coming is not None and self._thread.waits:
            coming.wait()  # it was begun earlier, so it is running
        with self._lock:
            plain = self._bases.get(chunk)
        return plain if plain is not None and len(plain) == length else None


def _damage(chunk: ChunkId, length: int, error: NotFoundError | CorruptError | LinkError) -> Damage:
    """What a failed read of a chunk is."""
    original = error.original if isinstance(error, BrokenLinkError | LinkError) else ""
    return Damage(Sort.CHUNK, chunk_key(chunk), problem_of(error), str(error), chunk, length, original=original)


def missing_note(base: ChunkId, delta: ChunkId) -> Damage:
    """A delta that a listing of notes does not show: collection would take its base away."""
    reason = f"chunk {delta.hex()} builds on {base.hex()} and no note says so"
    return Damage(Sort.NOTE, base_key(base, delta), Problem.MISSING, reason)


def chained_base(base: ChunkId, length: int) -> Damage:
    """A base that is a delta itself: what builds on it cannot be read."""
    reason = f"chunk {base.hex()} is a delta, and others build on it"
    return Damage(Sort.CHUNK, chunk_key(base), Problem.CONTRADICTORY, reason, base, length)
