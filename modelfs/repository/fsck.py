"""Checking a whole store: what is missing, damaged or contradicts itself, and which paths of which commits it hurts.

`Fsck.run` reads the history, then every tree page, manifest and tensor table that it reaches, then looks the chunks
up in a listing or, with ``read_data``, reads and verifies each. Chunks that are links are read where they lead, or
their originals are looked at. Objects are listed after the history was read, so what a commit reaches was there before;
what somebody writes meanwhile at most counts as unused. With a `Repair`, intact copies are put in the place of what is
damaged. Called by the command line and by scrub.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from modelfs import limits
from modelfs.codecs import Link
from modelfs.errors import CorruptError, NotFoundError
from modelfs.ids import ChunkId
from modelfs.repository.chain import History, survey_history
from modelfs.repository.damage import Damage, Damages, Problem, Sort
from modelfs.repository.keys import (
    DATA,
    DELTAS,
    META,
    chunk_key,
    commit_key,
    meta_key,
    parse_base_key,
    parse_object_key,
)
from modelfs.repository.linked import damage_of, links_among, look
from modelfs.repository.linksums import LinkSums, WrongSum
from modelfs.repository.objects import CommitRecord
from modelfs.repository.originals import State
from modelfs.repository.repair import Repair
from modelfs.repository.repository import Repository
from modelfs.repository.survey import Survey
from modelfs.repository.trace import trace
from modelfs.repository.verify import ChunkCheck, chained_base

Advance = Callable[[int], None]
Stage = Callable[[str, int], Advance]  # (what is being done, units of it or 0) -> what to call with each advance


@dataclass(slots=True)
class Orphans:
    """Objects that nothing reaches: harmless, and gc's to collect. Sizes in bytes."""

    chunks: int = 0
    chunk_bytes: int = 0
    metadata: int = 0
    metadata_bytes: int = 0
    notes: int = 0


@dataclass(slots=True)
class LinkCount:
    """Chunks that are links to objects elsewhere, ``bytes`` of files in ``originals``; ``refused``: how many of them
    this process may not follow."""

    chunks: int = 0
    bytes: int = 0
    originals: int = 0
    refused: int = 0


@dataclass(slots=True)
class Findings:
    """What a check saw. ``orphans``: None when only a part of the store was looked at. ``read``: chunks and bytes.
    ``unvouched``: commits that no trusted key vouches for since what came after them was collected."""

    damages: Damages = field(default_factory=Damages)
    commits: int = 0
    unvouched: int = 0
    tags: int = 0
    pages: int = 0
    manifests: int = 0
    tables: int = 0
    chunks: int = 0
    read_chunks: int = 0
    read_bytes: int = 0
    links: LinkCount = field(default_factory=LinkCount)
    orphans: Orphans | None = None


def _silent(what: str, units: int) -> Advance:
    return lambda count: None


class Fsck:
    """One check of one repository, which should be freshly opened: what it remembers is not read again."""

    def __init__(self, repo: Repository, repair: Repair | None = None, stage: Stage = _silent) -> None:
        self._repo = repo
        self._repair = repair
        self._stage = stage
        self.findings = Findings()
        self._damages = self.findings.damages
        self._sizes: dict[ChunkId, int] = {}  # stored bytes of every chunk in the listing
        self.notes: dict[ChunkId, set[ChunkId]] = {}  # base -> what may be stored as differences to it

    def run(self, ref: str | None = None, *, read_data: bool = False) -> Findings:
        """Check everything, or only what the commit ``ref`` reaches. UnknownRefError; StoreError when the store fails
        in another way than by missing objects."""
        history, survey = self.survey(ref)
        if survey.sums_differ:
            self._link_sums(history)
        check = ChunkCheck(self._repo, survey.lengths, self.notes)
        if read_data:
            self.read(check, check.ordered())
        else:
            self._look_up(check, survey)
        self.links(check, survey, look_at=not read_data)
        self.finish(history, check)
        if ref is None:
            self._count_orphans(survey, check)
        return self.findings

    def survey(self, ref: str | None = None) -> tuple[History, Survey]:
        """History and metadata, checked and mended, and the listings."""
        history = self._history() if ref is None else self._one(ref)
        self.findings.commits, self.findings.tags = len(history.commits), len(history.tags)
        self.findings.unvouched = len(history.unvouched & history.commits.keys())
        survey = Survey(self._repo, self._damages, self._repair.meta if self._repair is not None else None)
        advance = self._stage("reading metadata", 0)
        # The newest first: most of what is reached is in one of them.
        survey.walk(reversed(history.commits.values()), lambda: advance(1))
        found = self.findings
        found.pages, found.manifests, found.tables = survey.pages, survey.manifests, survey.tables
        self._list()
        found.chunks = len(survey.lengths)
        return history, survey

    def read(
        self,
        check: ChunkCheck,
        chunks: Sequence[ChunkId],
        threads: int = limits.STORE_CONCURRENCY,
        done: Callable[[ChunkId, int], None] = lambda chunk, length: None,
    ) -> None:
        """Read chunks and repair what is damaged. What builds on a repaired base is read once more."""
        advance = self._stage("reading chunks", sum(map(check.length, chunks)))

        def count(chunk: ChunkId, length: int) -> None:
            self.findings.read_chunks += 1
            self.findings.read_bytes += length
            advance(length)
            done(chunk, length)

        again: set[ChunkId] = set()
        for damage in check.check(chunks, threads, count):
            if self._note(damage) and damage.repaired and damage.id:
                again.add(ChunkId(damage.id))
        while again:
            unread = {delta for base in again for delta in check.dependents.get(base, ())}
            again = set()
            for damage in check.check(sorted(unread), threads):
                if self._note(damage) and damage.repaired and damage.id:
                    again.add(ChunkId(damage.id))

    def links(self, check: ChunkCheck, survey: Survey, *, look_at: bool) -> None:
        """Count the links. ``look_at``: look at their originals, which is for who has not read them."""
        found = self.linked(survey)
        count = self.findings.links
        count.chunks, count.originals = len(found), len({(link.source, link.key) for link in found.values()})
        count.bytes = sum(survey.lengths[chunk] for chunk in found)
        count.refused = len(check.refused)
        for chunk, seen in look(self._repo, found) if look_at else ():
            count.refused += seen.state is State.REFUSED
            if (damage := damage_of(self._repo, chunk, survey.lengths[chunk], seen)) is not None:
                self._note(damage)

    def linked(self, survey: Survey) -> dict[ChunkId, Link]:
        """The chunks that are links."""
        self._stage("looking for links", 0)
        return links_among(self._repo, survey.lengths, self._sizes.get)

    def finish(self, history: History, check: ChunkCheck) -> None:
        """Say whom the damage hurts."""
        if len(self._damages):
            self._stage("tracing damage", 0)
            trace(self._repo, history.commits.values(), self._damages, check.dependents)

    def _link_sums(self, history: History) -> None:
        """Find wrong sums of linked names in the newest commit of each branch (or in the one commit that is checked).
        Older ones cannot be put right, and each of their paths reads well."""
        sums = LinkSums(self._repo)
        heads = {record.branch: record for record in history.commits.values()}  # in order of their numbers
        for record in heads.values():
            if record.commit.ends:
                continue
            found = [_wrong_sum(wrong, record) for wrong in sums.wrong(record.commit.root)]
            fixed = self._repair.link_sums(record, sums) if found and self._repair is not None else ""
            for damage in found:
                damage.repaired = fixed
                self._damages.add(damage)

    # -- steps --------------------------------------------------------------------------------------------------

    def _history(self) -> History:
        self._stage("reading history", 0)
        witness = self._repair.witness if self._repair is not None else None
        history = survey_history(self._repo, self._damages, witness)
        if self._repair is not None:
            self._repair.history(history, self._damages)
        return history

    def _one(self, ref: str) -> History:
        record = self._repo.resolve(ref)
        history = History()
        history.commits[record.branch, record.number] = record
        return history

    def _list(self) -> None:
        self._stage("listing objects", 0)
        for info in self._repo.store.list(DELTAS):
            if (pair := parse_base_key(info.key)) is not None:
                self.notes.setdefault(pair[0], set()).add(pair[1])
        for info in self._repo.store.list(DATA):
            if (chunk := parse_object_key(info.key)) is not None:
                self._sizes[ChunkId(chunk)] = info.size

    def _note(self, damage: Damage) -> bool:
        """Note a damage of a chunk or a note, and repair it if that is wanted and possible."""
        if not self._damages.add(damage):
            return False
        if self._repair is not None:
            damage.repaired = self._repair.note(damage) if damage.sort is Sort.NOTE else self._repair.chunk(damage)
        return True

    # -- without reading the chunks -----------------------------------------------------------------------------

    def _look_up(self, check: ChunkCheck, survey: Survey) -> None:
        """Compare the chunks with the listing, and what looks wrong with the objects themselves."""
        odd = [chunk for chunk, length in survey.lengths.items() if not 0 < self._sizes.get(chunk, 0) <= length + 1]
        with ThreadPoolExecutor(limits.STORE_CONCURRENCY, "fsck") as pool:
            for chunk, size in zip(odd, pool.map(self._size, odd), strict=True):
                self._judge_size(chunk, size, survey.lengths[chunk])
        noted = {delta for deltas in self.notes.values() for delta in deltas}
        for base, deltas in self.notes.items():
            length = check.bases.get(base, 0)
            odd_size = bool(length) and not 0 < self._sizes.get(base, 0) <= length + 1
            if odd_size or base in noted or self._damages.get(chunk_key(base)) is not None:
                self._judge_base(check, base, {delta for delta in deltas if delta in survey.lengths})

    def _judge_base(self, check: ChunkCheck, base: ChunkId, deltas: set[ChunkId]) -> None:
        """Something is odd about a chunk that others are said to build on."""
        building = {delta for delta in deltas if self._base_of(delta) == base}
        if not building:
            return
        check.dependents[base] = building
        length = check.length(base)
        if base in check.bases:
            self._judge_size(base, self._size(base), length)
        if self._base_of(base) is not None:
            self._note(chained_base(base, length))

    def _size(self, chunk: ChunkId) -> int | None:
        """A listing may lag behind: ask for the object itself."""
        return self._repo.store.size(chunk_key(chunk))

    def _judge_size(self, chunk: ChunkId, size: int | None, length: int) -> None:
        name = f"chunk {chunk.hex()}"
        if size is None:
            problem, reason = Problem.MISSING, f"{name} is missing in {self._repo.store.url}"
        elif 0 < size <= length + 1:
            return
        else:
            problem, reason = Problem.DAMAGED, f"{name} has {size} bytes in {self._repo.store.url}, and {length} plain"
        self._note(Damage(Sort.CHUNK, chunk_key(chunk), problem, reason, chunk, length))

    def _base_of(self, chunk: ChunkId) -> bytes | None:
        """What a chunk builds on: a note may be about one that has become plain since. None also when it is gone."""
        try:
            head = self._repo.delta_head(chunk)
        except (NotFoundError, CorruptError):
            return None
        return None if head is None else head.base

    # -- what nothing reaches -----------------------------------------------------------------------------------

    def _count_orphans(self, survey: Survey, check: ChunkCheck) -> None:
        found = Orphans()
        needed = survey.lengths.keys() | check.bases.keys() | check.dependents.keys()
        for chunk, size in self._sizes.items():
            if chunk not in needed:
                found.chunks += 1
                found.chunk_bytes += size
        for info in self._repo.store.list(META):
            meta = parse_object_key(info.key)
            if meta is not None and meta not in survey.metas:
                found.metadata += 1
                found.metadata_bytes += info.size
        found.notes = sum(delta not in survey.lengths for deltas in self.notes.values() for delta in deltas)
        self.findings.orphans = found


def _wrong_sum(wrong: WrongSum, record: CommitRecord) -> Damage:
    where = f"/{wrong.path.decode(errors='replace')} of {record.branch}@{record.number}"
    reason = f"{where} is said to have {wrong.said} linked names below it, and has {wrong.found}"
    if not wrong.holder:
        return Damage(Sort.COMMIT, commit_key(record.branch, record.number), Problem.CONTRADICTORY, reason)
    return Damage(Sort.PAGE, meta_key(wrong.holder), Problem.CONTRADICTORY, reason, wrong.holder)
