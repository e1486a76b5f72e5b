"""Which commits of a branch a copy lacks, and how they fit on what it has.

A branch of the source continues the one of the target when the newest commit there *is* a commit of the source: the
same object, or one that differs in its number and its parent only (and in ids, where the two stores have other ids).
Then what follows it is copied, oldest first. With the same objects the copy goes on with the same objects. It cannot
where a signature speaks of another store, where ids differ, or above a first commit that `init` made: there each commit
gets the next number, keeps time, author, text and tree, and is signed anew if there is a key.

A target that has commits of its own has gone another way and is refused: nothing is ever merged or taken back.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from modelfs import limits
from modelfs.errors import CollectedError, NotFoundError, UnknownRefError, UsageError
from modelfs.repository.keys import COMMITS, parse_commit_key
from modelfs.repository.objects import EMPTY_TREE, CommitRecord, Tag
from modelfs.repository.repository import Repository
from modelfs.repository.vouching import verified
from modelfs.sync.mark import read_mark


@dataclass(frozen=True, slots=True)
class Since:
    """Where history begins: a number on the branch that it was given for, a time (ns since the epoch) on others."""

    time_ns: int
    branch: str = ""
    number: int = 0

    def keeps(self, record: CommitRecord) -> bool:
        """True when a commit is not before that."""
        if record.branch == self.branch:
            return record.number >= self.number
        return record.commit.time_ns >= self.time_ns


@dataclass(slots=True)
class BranchPlan:
    """What a branch of the target lacks. ``head``: its last commit there, None when there is no such branch;
    ``follows``: the id of the source's commit that this is, b"" when it is none; ``before``: that commit, None when it
    was collected; ``commits``: what follows, oldest first; ``same``: they are copied as the objects that they are;
    ``ends``: why older ones are left out; ``ahead``: the target has all of it and more."""

    branch: str
    head: CommitRecord | None
    before: CommitRecord | None
    commits: list[CommitRecord]
    same: bool = False
    follows: bytes = b""
    ends: list[str] = field(default_factory=list)
    ahead: bool = False

    @property
    def whole(self) -> bool:
        """True when the target has nothing of it."""
        return self.before is None or self.before.commit.root.content == EMPTY_TREE

    def gaps(self) -> list[tuple[int, int]]:
        """First and last numbers that the copy will not have, where it keeps numbers."""
        found, expected = [], self.head.number + 1 if self.head is not None else 1
        for record in self.commits if self.same else ():
            if record.number > expected:
                found.append((expected, record.number - 1))
            expected = record.number + 1
        return found


@dataclass(slots=True)
class HistoryPlan:
    """Branches and tags that are to be copied."""

    branches: list[BranchPlan]
    tags: dict[str, Tag]


def parse_since(repo: Repository, text: str) -> Since:
    """``--since``: an ISO 8601 date or time (of UTC unless it says otherwise), else a commit. UsageError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        record = repo.resolve(text)
        return Since(record.commit.time_ns, record.branch, record.number)
    return Since(int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e9))


class HistoryPlanner:
    """Compares the histories of two stores. ``same_ids``: both name the same bytes by the same ids."""

    def __init__(self, source: Repository, target: Repository, *, same_ids: bool) -> None:
        self._source = source
        self._target = target
        self._same_ids = same_ids

    def plan(self, refs: tuple[str, ...], since: Since | None) -> HistoryPlan:
        """What is missing of ``refs`` (branches, tags, commits; empty: everything). UsageError for what does not
        exist, and where the target has gone another way."""
        tops: dict[str, CommitRecord] = {}
        tags = set(self._source.tags())
        wanted = tags if not refs else tags & set(refs)
        there = set(self._target.tags())
        with ThreadPoolExecutor(limits.META_THREADS, "sync-tags") as pool:
            found = list(pool.map(lambda name: self._new_tag(name, known=name in there), sorted(wanted)))
        new = {name: tag for name, tag in zip(sorted(wanted), found, strict=True) if tag is not None}
        named = [*(self._heads() if not refs else map(self._source.resolve, refs))]
        named += [self._source.read_commit(tag.branch, tag.number) for tag in new.values()]
        for record in named:
            if record.branch not in tops or tops[record.branch].number < record.number:
                tops[record.branch] = record
        return HistoryPlan([self._branch(record, since) for _, record in sorted(tops.items())], new)

    def twins(self, ours: CommitRecord, theirs: CommitRecord) -> bool:
        """True when a commit of the target is that of the source, whatever its number."""
        return self._facts(ours) == self._facts(theirs)

    def twin_of(self, record: CommitRecord) -> CommitRecord | None:
        """The commit of the target that is a copy of one of the source's; None: it has none."""
        try:
            found = self._target.read_commit(record.branch, record.number)
            if self.twins(record, found):
                return found
        except NotFoundError:
            pass
        last = self._target.last(record.branch)
        return next((c for c in self._target.log(last) if self.twins(record, c)), None) if last is not None else None

    def _facts(self, record: CommitRecord) -> bytes:
        commit = record.commit
        root = commit.root if self._same_ids else msgspec.structs.replace(commit.root, content=b"")
        return msgspec.msgpack.encode(msgspec.structs.replace(commit, number=0, parent=b"", root=root))

    def _heads(self) -> Iterator[CommitRecord]:
        """The newest commit of every branch that was not deleted."""
        newest: dict[str, int] = {}
        for info in self._source.store.list(COMMITS):
            if key := parse_commit_key(info.key):
                newest[key[0]] = max(key[1], newest.get(key[0], 0))
        for branch, number in newest.items():
            record = self._source.read_commit(branch, number)
            if not record.commit.ends:
                yield record

    def _new_tag(self, name: str, *, known: bool) -> Tag | None:
        """The tag when the target does not have it; UsageError when it has another one of that name."""
        tag = self._source.read_tag(name)
        if not known:
            return tag
        theirs = self._target.read_tag(name)
        if theirs.commit == tag.commit or (theirs.branch, theirs.time_ns) == (tag.branch, tag.time_ns):
            return None  # the same, or the copy of an earlier run
        try:
            ours, other = self._source.resolve(name), self._target.resolve(name)
        except (UnknownRefError, CollectedError):
            return None
        if not self.twins(ours, other):
            raise UsageError(
                f"the tag {name} names {tag.branch}@{tag.number} in {self._source.store.url} and another commit, "
                f"{theirs.branch}@{theirs.number}, in {self._target.store.url}: tags do not move"
            )
        return None

    def _branch(self, top: CommitRecord, since: Since | None) -> BranchPlan:
        head = self._target.last(top.branch)
        plan = BranchPlan(top.branch, head, None, [])
        fresh = head is None or _pristine(head)
        mark = read_mark(self._target.store, self._source.format.id, top.branch) if head is not None else None
        if mark is not None and head is not None and mark.id != head.id:
            mark = None  # others have written since
        for record in verified(self._source.log(top), plan.ends):
            if head is not None and (record.id == head.id or self.twins(record, head)):
                plan.before, plan.follows = record, record.id
                break
            if mark is not None and record.number <= mark.source_number:
                if record.number < mark.source_number:
                    plan.follows = mark.source_id
                break
            if since is not None and fresh and plan.commits and not since.keeps(record):
                break
            plan.commits.append(record)
        plan.commits.reverse()
        if head is not None and not plan.follows:
            self._check_fits(plan, top, head)
        plan.same = self._same_objects(plan)
        self._check_signatures(plan)
        return plan

    def _check_fits(self, plan: BranchPlan, top: CommitRecord, head: CommitRecord) -> None:
        """The target's head is no commit of the source: is it nothing yet, or ahead, or elsewhere?"""
        if _pristine(head):
            if plan.commits and _pristine(plan.commits[0]):
                plan.before = plan.commits.pop(0)
                plan.follows = plan.before.id
            return
        if any(self.twins(top, record) for record in self._target.log(head)):
            plan.commits, plan.ahead = [], True
            return
        made = datetime.fromtimestamp(head.commit.time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        what = (
            "was deleted there" if head.commit.ends else f"has gone another way: its {head.number} of {made} is not in"
        )
        raise UsageError(
            f"{plan.branch} of {self._target.store.url} {what} {'' if head.commit.ends else self._source.store.url}; "
            "sync only adds what follows, so name other branches with --ref, or give another store"
        )

    def _same_objects(self, plan: BranchPlan) -> bool:
        """True when the copy can have the very commits of the source."""
        if not self._same_ids or (plan.head is not None and plan.follows != plan.head.id):
            return False
        one_store = self._source.format.id == self._target.format.id
        return all((one_store or not c.signed_by) and self._target.trusts(c) for c in plan.commits)

    def _check_signatures(self, plan: BranchPlan) -> None:
        if not plan.same and self._target.access.signer is None and any(c.signed_by for c in plan.commits):
            raise UsageError(
                f"commits of {plan.branch} are signed, and a signature belongs to one store: --sign-with signs the "
                "copies, or --create makes a mirror, which is the same store in another place"
            )


def _pristine(record: CommitRecord) -> bool:
    """The first commit, as `modelfs init` makes it."""
    return record.number == 1 and record.commit.root.content == EMPTY_TREE and not record.commit.ends
