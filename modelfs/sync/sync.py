"""A store brought to where another one is: nothing is announced before all that it needs is there.

A run plans (what history is missing, what objects that needs), moves the objects, then writes the commits, oldest
first, then the tags. The target is written to as by any other writer: what a collection there has condemned is written
again, and each commit is made only when everything that it is the first to refer to is known to be there. So a run may
end anywhere; the next one finds what is there and goes on. The source is only read. When a collection there takes a
commit away meanwhile, the run begins anew without it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from modelfs import limits
from modelfs.errors import CollectedError, ConflictError, CorruptError, NotFoundError
from modelfs.ids import ChunkId
from modelfs.repository.gcowner import Ownership
from modelfs.repository.history import add_collected
from modelfs.repository.objects import CommitRecord, Entry
from modelfs.repository.reachable import Reached, What
from modelfs.repository.repository import Repository
from modelfs.store.base import Buffer
from modelfs.store.clock import store_time
from modelfs.sync.history import BranchPlan, HistoryPlan, HistoryPlanner, Since
from modelfs.sync.mark import Mark, write_mark
from modelfs.sync.objects import Missing, ObjectCopy, Progress
from modelfs.sync.rewrite import Rewrite

Bar = Callable[[int], AbstractContextManager[Progress]]  # shows how far one gets with so many plain bytes
Looking = Callable[[], AbstractContextManager[Callable[[], None]]]  # shows how many objects were looked at


@dataclass(slots=True)
class BranchReport:
    """What became of one branch: ``commits`` of it are new, ``number`` is its newest in the target; ``same``: they are
    the objects of the source; ``ahead``: the target had more; ``ends``: why older commits were left out."""

    branch: str
    commits: int
    number: int
    same: bool
    ahead: bool
    ends: list[str]


@dataclass(slots=True)
class Report:
    """What a run did, or would do. Sizes in bytes: ``bytes`` plain, ``sent`` as stored."""

    branches: list[BranchReport] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    tags_left_out: list[str] = field(default_factory=list)
    chunks: int = 0
    metadata: int = 0
    bytes: int = 0
    sent: int = 0
    present: int = 0


def same_ids(source: Repository, target: Repository) -> bool:
    """True when both stores name the same bytes by the same ids."""
    ours, theirs = source.keys, target.keys
    if ours is None or theirs is None:
        return ours is theirs
    return ours.keyring.id_key == theirs.keyring.id_key


class Sync:
    """Copies from ``source`` to ``target``. ``rewrite``: objects are written anew instead of copied, which they have to
    be where ids differ."""

    def __init__(self, source: Repository, target: Repository, *, rewrite: bool) -> None:
        self._source = source
        self._target = target
        self._same_ids = same_ids(source, target)
        self._rewrite = rewrite or not self._same_ids
        self._history = HistoryPlanner(source, target, same_ids=self._same_ids)
        if self._same_ids:
            target.use_local(self._from_source)

    def run(self, refs: tuple[str, ...], since: Since | None, *, dry_run: bool, bar: Bar, looking: Looking) -> Report:
        """Do it. UsageError for what cannot be, ConflictError when somebody else writes the branch; NotFoundError and
        CorruptError name what the source lacks."""
        failed = ""
        for rounds in range(limits.SYNC_ROUNDS, 0, -1):
            try:
                return self._round(refs, since, dry_run=dry_run, bar=bar, looking=looking)
            except (NotFoundError, CollectedError) as error:
                # A collection of either store may have taken it; then it is not needed any more, or comes again.
                key = error.key if isinstance(error, NotFoundError) else str(error)
                if rounds == 1 or key == failed:
                    raise
                failed = key
        raise AssertionError

    def _round(
        self, refs: tuple[str, ...], since: Since | None, *, dry_run: bool, bar: Bar, looking: Looking
    ) -> Report:
        plan = self._history.plan(refs, since)
        if self._rewrite:
            return self._write_anew(plan, dry_run=dry_run, bar=bar, looking=looking)
        intake = self._target.intake()
        if any(branch.whole and branch.commits for branch in plan.branches):
            intake.expect_many()

        def has(found: Reached) -> bool:
            return intake.has_chunk(ChunkId(found.id)) if found.what is What.CHUNK else intake.has_meta(found.id)

        missing = Missing(self._source, has)
        with looking() as tick:
            for branch in plan.branches:
                missing.find(branch, tick)
        report = Report(present=missing.present, bytes=missing.chunks.bytes)
        report.chunks, report.metadata = len(missing.chunks), missing.objects - len(missing.chunks)
        if not dry_run:
            copy = ObjectCopy(self._source, intake)
            with bar(missing.chunks.bytes) as progress:
                copy.run(missing, progress)
            report.chunks, report.metadata, report.sent = copy.chunks, copy.metas, copy.sent
        self._finish(plan, report, dry_run=dry_run, root=lambda before, there, record: record.commit.root)
        return report

    def _write_anew(self, plan: HistoryPlan, *, dry_run: bool, bar: Bar, looking: Looking) -> Report:
        shown: list[Progress] = []
        with Rewrite(self._source, self._target, lambda count: shown[0](count)) as rewrite:
            for branch in plan.branches:
                if branch.commits and branch.before is not None and branch.head is not None:
                    rewrite.learn(branch.before.commit.root, branch.head.commit.root)
            missing = Missing(self._source, lambda found: found.what is What.CHUNK and rewrite.knows(found.id))
            with looking() as tick:
                for branch in plan.branches:
                    missing.find(branch, tick)
            report = Report(bytes=missing.chunks.bytes, present=missing.present)
            report.chunks, report.metadata = len(missing.chunks), missing.objects - len(missing.chunks)

            def root(before: CommitRecord | None, there: CommitRecord | None, record: CommitRecord) -> Entry:
                old = before.commit.root if before is not None else None
                return rewrite.root(old, there.commit.root if there is not None else None, record.commit.root)

            with bar(missing.chunks.bytes) as progress:
                shown.append(progress)
                self._finish(plan, report, dry_run=dry_run, root=root)
            if not dry_run:
                report.chunks, report.metadata, report.sent = rewrite.chunks, rewrite.metas, rewrite.sent
            return report

    # -- history ------------------------------------------------------------------------------------------------

    def _finish(
        self,
        plan: HistoryPlan,
        report: Report,
        *,
        dry_run: bool,
        root: Callable[[CommitRecord | None, CommitRecord | None, CommitRecord], Entry],
    ) -> None:
        """Announce commits and tags. ``root`` sees to it that the root of a commit is in the target, given the commit
        before in both stores."""
        for branch in plan.branches:
            head = branch.head
            if not dry_run and branch.commits:
                head = self._announce(branch, root)
            number = head.number if head is not None else 0
            report.branches.append(
                BranchReport(branch.branch, len(branch.commits), number, branch.same, branch.ahead, branch.ends)
            )
        for name, tag in plan.tags.items():
            twin = None
            if not dry_run:
                twin = self._history.twin_of(self._source.read_commit(tag.branch, tag.number))
            if twin is None and not dry_run:
                report.tags_left_out.append(name)
                continue
            report.tags.append(name)
            if twin is not None:
                self._target.tag(name, twin, tag.time_ns)

    def _announce(
        self,
        branch: BranchPlan,
        root: Callable[[CommitRecord | None, CommitRecord | None, CommitRecord], Entry],
    ) -> CommitRecord | None:
        last = self._target.last(branch.branch)
        if (last.id if last is not None else b"") != (branch.head.id if branch.head is not None else b""):
            raise self._overtaken(branch)
        if gaps := branch.gaps():
            self._write_down(branch.branch, gaps)
        before, head = branch.before, branch.head
        for record in branch.commits:
            made_root = root(before, head, record)
            if branch.same:
                made = record if self._target.settle(record) else None
            else:
                made = self._target.append(branch.branch, head, record.commit, made_root)
            if made is None:
                raise self._overtaken(branch)
            before, head = record, made
        if before is not None and head is not None:
            mark = Mark(before.number, before.id, head.number, head.id)
            write_mark(self._target.store, self._source.format.id, branch.branch, mark)
        return head

    def _overtaken(self, branch: BranchPlan) -> ConflictError:
        return ConflictError(f"somebody else writes to {branch.branch} of {self._target.store.url} at the same time")

    def _write_down(self, branch: str, gaps: list[tuple[int, int]]) -> None:
        """Numbers that the target will not have count as collected; only who owns the collection may say so."""
        store, clock = self._target.store, self._target.clock
        owner = Ownership.take(store, limits.GC_GRACE_DEFAULT, store_time(store), exclusive=False, clock=clock)
        try:
            add_collected(store, branch, (number for first, last in gaps for number in range(first, last + 1)))
        finally:
            owner.end()

    def _from_source(self, chunk: ChunkId, length: int) -> Buffer | None:
        """What the target is asked to bring back, when a collection took it meanwhile."""
        try:
            return self._source.read_chunk(chunk, length)
        except (NotFoundError, CorruptError):
            return None
