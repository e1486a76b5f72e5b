"""Collection: what nothing reaches is condemned, and deleted by a later run if still nothing reaches it.

A run marks (`gcmark`), lists what is not marked (`gcsweep`), executes the sentences of earlier runs that are older
than the grace period, and condemns the rest. It may be cut off between any two requests: what it did not get to is done
by the next one. docs/store-format.md, "Collection", says why this is safe beside writers and readers; the order of
the requests here is part of that argument. The command line is the caller.

Memory: about 100 bytes for each distinct object, and a few thousand listed ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from modelfs import limits
from modelfs.errors import ConflictError, NotFoundError, StoreError
from modelfs.ids import ChunkId
from modelfs.repository import gcformat as gc
from modelfs.repository.condemned import read_sentence
from modelfs.repository.gcformat import Sentence
from modelfs.repository.gcmark import Marks, Roots, Tick, find_roots, mark
from modelfs.repository.gcowner import Ownership
from modelfs.repository.gcsweep import Garbage, Notes, listed, object_key, parse_object_key, read_notes, sweep
from modelfs.repository.history import add_collected
from modelfs.repository.idset import IdSet
from modelfs.repository.keys import base_key, commit_key, commits_prefix, parse_base_key, parse_commit_key
from modelfs.repository.repository import Repository
from modelfs.repository.retention import Retention
from modelfs.store import lease
from modelfs.store.base import ObjectInfo, Store
from modelfs.store.clock import check_skew, store_time


@dataclass(slots=True)
class Report:
    """What a run found and did; of a dry run, what it would have done. Sizes in bytes."""

    commits_kept: int = 0
    commits_dropped: int = 0
    objects: int = 0
    unreached: int = 0
    unreached_bytes: int = 0
    young: int = 0
    condemned: int = 0
    waiting: int = 0  # condemned by earlier runs, whose grace period is not over
    deleted: int = 0
    deleted_bytes: int = 0
    commits_deleted: int = 0
    spared: int = 0  # condemned once, and reached or written again since
    tidied: int = 0


@dataclass(slots=True)
class _Sentences:
    """Sentences of earlier runs, by name: ``ripe`` ones, whose grace period is over, and the others."""

    ripe: dict[str, Sentence] = field(default_factory=dict)
    waiting: dict[str, Sentence] = field(default_factory=dict)

    def ids(self, area: str, *, ripe_only: bool = False) -> Iterator[bytes]:
        """All ids of an area that are condemned."""
        chosen = [*self.ripe.values(), *(() if ripe_only else self.waiting.values())]
        return (i for found in chosen if found.area == area for i in found)


class Collection:
    """One run over one repository.

    ``grace`` in seconds; ``exclusive``: nobody else writes, so it may be shorter than `limits.GC_GRACE_MIN`; ``dry``:
    nothing is written. ``tick`` hears of progress.
    """

    def __init__(
        self,
        repo: Repository,
        retention: Retention,
        grace: float = limits.GC_GRACE_DEFAULT,
        *,
        exclusive: bool = False,
        dry: bool = False,
        tick: Tick = lambda what, count: None,
    ) -> None:
        self._repo = repo
        self._store: Store = repo.store
        self._retention = retention
        self._grace = grace
        self._exclusive = exclusive
        self._dry = dry
        self._tick = tick
        self._clock = repo.clock
        self._report = Report()
        self._owner: Ownership | None = None

    def run(self) -> Report:
        """Collect. UsageError when another run is at work, ConflictError when one took over, CorruptError when what
        is reachable cannot be told; then nothing was condemned or deleted."""
        # A dry run may not ask the store for the time, which takes a write. It deletes nothing by what it believes.
        now = self._clock.wall_ns() / 1e9 if self._dry else store_time(self._store)
        if not self._dry:
            check_skew(self._store, now, self._clock.wall_ns() / 1e9)
            self._owner = Ownership.take(self._store, self._grace, now, exclusive=self._exclusive, clock=self._clock)
        try:
            self._collect(now)
        finally:
            # No request is under way any more. Whatever stopped us, the next run need not wait until we seem dead.
            if self._owner is not None:
                with contextlib.suppress(StoreError, ConflictError):
                    self._owner.end()
        return self._report

    def _collect(self, now: float) -> None:
        before = now - self._grace
        sentences = self._sentences(before)
        roots = find_roots(self._repo, self._retention, now, self._grace, self._ticked)
        marks = mark(self._repo, roots, self._ticked)
        chunks = sweep(self._store, gc.DATA, marks.chunks, before, self._ticked)
        meta = sweep(self._store, gc.META, marks.meta, before, self._ticked)
        notes = read_notes(
            self._store, marks, chunks, IdSet(sentences.ids(gc.DATA, ripe_only=True)), before, self._ticked
        )
        self._count(roots, chunks, meta)
        self._execute(sentences, roots, marks, notes)
        self._condemn(sentences, roots, chunks, meta, notes, before)
        self._tidy(now)

    def _ticked(self, what: str, count: int) -> None:
        if self._owner is not None:
            self._owner.check()
        self._tick(what, count)

    def _count(self, roots: Roots, chunks: Garbage, meta: Garbage) -> None:
        report = self._report
        report.commits_kept = sum(map(len, roots.kept.values()))
        report.commits_dropped = sum(map(len, roots.dropped.values()))
        report.objects = chunks.objects + meta.objects
        report.unreached = len(chunks.old) + len(meta.old)
        report.unreached_bytes = chunks.old_bytes + meta.old_bytes
        report.young = len(chunks.young) + len(meta.young)

    def _sentences(self, before: float) -> _Sentences:
        found = _Sentences()
        for info in sorted(self._store.list(gc.CONDEMNED), key=lambda info: info.key):
            name = gc.parse_sentence_key(info.key)
            if name is not None:
                with contextlib.suppress(NotFoundError):  # then another run has taken over, and we will notice
                    sentence = read_sentence(self._store, name)
                    (found.ripe if info.mtime <= before else found.waiting)[name] = sentence
        self._report.waiting = sum(map(len, found.waiting.values()))
        return found

    # -- executing ----------------------------------------------------------------------------------------------

    def _execute(self, sentences: _Sentences, roots: Roots, marks: Marks, notes: Notes) -> None:
        """Execute sentences: of commits first, so that a commit that can be read is whole; deltas before bases,
        because they were condemned in that order."""
        for name, sentence in sorted(sentences.ripe.items(), key=lambda item: (not item[1].branch, item[0])):
            with self._flagged(name):
                if sentence.branch:
                    self._execute_commits(sentence, roots.kept.get(sentence.branch, set()))
                elif sentence.area == gc.DELTAS:
                    self._execute_notes(sentence)
                elif sentence.area == gc.META:
                    self._execute_objects(sentence, [i for i in sentence if i not in marks.meta], {})
                else:
                    doomed = [i for i in sentence if i not in marks.chunks and i not in notes.hold]
                    self._execute_objects(sentence, doomed, notes.of)

    @contextlib.contextmanager
    def _flagged(self, name: str) -> Iterator[None]:
        """Around the execution of a sentence. Writers ask for the flag after they have written something again, so it
        stands before we look at what they wrote, and falls after the sentence."""
        if self._owner is None:
            yield
            return
        flag = gc.flag_key(name, self._owner.token)
        self._owner.check()
        self._store.put(flag, b"")
        yield
        self._store.delete(gc.sentence_key(name))
        self._store.delete(flag)

    def _execute_commits(self, sentence: Sentence, kept: set[int]) -> None:
        branch = sentence.branch
        wanted = {int.from_bytes(i, "big") for i in sentence}
        doomed = [
            key[1]
            for info in self._store.list(commits_prefix(branch))
            if (key := parse_commit_key(info.key)) and key[1] in wanted - kept and info.mtime <= sentence.before
        ]
        self._report.spared += len(wanted) - len(doomed)
        if doomed and not self._dry:
            add_collected(self._store, branch, doomed)
        self._delete(commit_key(branch, number) for number in doomed)
        self._report.commits_deleted += len(doomed)

    def _execute_objects(self, sentence: Sentence, doomed: list[bytes], notes: dict[bytes, list[bytes]]) -> None:
        written = self._written(sentence.area, doomed)
        dead = [i for i in doomed if i in written and written[i].mtime <= sentence.before]
        self._report.spared += len(sentence) - len(dead)
        self._delete(object_key(sentence.area, i) for i in dead)
        self._report.deleted += len(dead)
        self._report.deleted_bytes += sum(written[i].size for i in dead)
        pairs = [(ChunkId(base), ChunkId(i)) for i in dead for base in notes.get(i, ())]
        self._delete(base_key(base, delta) for base, delta in pairs)

    def _execute_notes(self, sentence: Sentence) -> None:
        """Notes of deltas that did not exist when they were condemned. Nobody may have made one since."""
        there = self._written(gc.DATA, [pair[32:] for pair in sentence])
        parts = sorted({f"{pair[0]:02x}" for pair in sentence})
        old = {
            pair[0] + pair[1]
            for info in listed(self._store, gc.DELTAS, parts)
            if (pair := parse_base_key(info.key)) and info.mtime <= sentence.before
        }
        dead = [pair for pair in sentence if pair in old and pair[32:] not in there]
        self._delete(base_key(ChunkId(pair[:32]), ChunkId(pair[32:])) for pair in dead)
        self._report.tidied += len(dead)

    def _written(self, area: str, ids: Iterable[bytes]) -> dict[bytes, ObjectInfo]:
        """What the store says now of some objects of an area."""
        wanted = set(ids)
        parts = sorted({f"{i[0]:02x}" for i in wanted})
        found = ((parse_object_key(info.key), info) for info in listed(self._store, area, parts))
        return {i: info for i, info in found if i is not None and i in wanted}

    def _delete(self, keys: Iterable[str]) -> None:
        """Delete objects, several at once. Each is deleted under a fresh sign of life of this run."""
        if self._owner is None:
            return
        owner = self._owner

        def delete(key: str) -> None:
            owner.insist()
            self._store.delete(key)

        with ThreadPoolExecutor(limits.STORE_CONCURRENCY, "gc-delete") as pool:
            batch: list[str] = []
            for key in keys:
                batch.append(key)
                if len(batch) >= 4 * limits.STORE_CONCURRENCY:
                    self._ticked("deleting", sum(1 for _ in pool.map(delete, batch)))
                    batch = []
            self._ticked("deleting", sum(1 for _ in pool.map(delete, batch)))

    # -- condemning ---------------------------------------------------------------------------------------------

    def _condemn(
        self, sentences: _Sentences, roots: Roots, chunks: Garbage, meta: Garbage, notes: Notes, before: float
    ) -> None:
        """Write down what is to be deleted by a later run. Commits come first, deltas before what they build on:
        who sees a base condemned can be sure that its deltas are."""
        areas: list[tuple[str, Iterable[bytes]]] = []
        for branch, dropped in sorted(roots.dropped.items()):
            old = (number.to_bytes(8, "big") for number, mtime in sorted(dropped.items()) if mtime <= before)
            areas.append((gc.commits_area(branch), list(old)))
        areas.append((gc.META, meta.old))
        free = [i for i in chunks.old if i not in notes.keep]
        areas.append((gc.DATA, [i for i in free if i not in notes.bases]))
        areas.append((gc.DATA, [i for i in free if i in notes.bases]))
        areas.append((gc.DELTAS, sorted(notes.dead)))
        count = 0
        for area, ids in areas:
            condemned = sentences.ids(area)
            known: Container[bytes] = IdSet(condemned) if area in (gc.DATA, gc.META) else set(condemned)
            batch: list[bytes] = []
            for i in ids:
                if i in known:
                    continue
                batch.append(i)
                if len(batch) == limits.GC_SENTENCE_IDS:
                    count = self._sentence(area, before, batch, count)
                    batch = []
            count = self._sentence(area, before, batch, count)

    def _sentence(self, area: str, before: float, ids: list[bytes], count: int) -> int:
        if not ids:
            return count
        self._report.condemned += len(ids)
        if self._owner is not None:
            self._owner.check()
            name = gc.sentence_name(self._owner.number, count)
            self._store.put(gc.sentence_key(name), gc.pack(Sentence(area, before, b"".join(ids))))
        self._tick("condemning", len(ids))
        return count + 1

    # -- what others left ---------------------------------------------------------------------------------------

    def _tidy(self, now: float) -> None:
        """Remove what has no owner any more: probes, an ended lease, flags of runs that died."""
        old = now - limits.GC_LEFT_OVER
        left = [info.key for info in self._store.list("probe/") if info.mtime < old]
        left += [lease.KEY] if lease.ended(self._store, now) else []
        left += [info.key for info in self._store.list(gc.EXECUTING) if gc.parse_flag_key(info.key)]
        self._delete(left)
        self._report.tidied += len(left)
