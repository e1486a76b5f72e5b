"""The first half of a collection: what has to stay.

Roots are the newest commit of every branch, what the retention keeps, what a tag names, and every commit that was
written less than a grace period ago. Marking reads every page and manifest below them once. An object that cannot be
read ends the collection before anything is condemned, because nobody knows what lies below it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from modelfs import limits
from modelfs.errors import CorruptError, NotFoundError
from modelfs.repository.idset import IdSet
from modelfs.repository.keys import COMMITS, parse_commit_key
from modelfs.repository.objects import CommitRecord, Tag
from modelfs.repository.reachable import Reachable, What
from modelfs.repository.repository import Repository
from modelfs.repository.retention import Retention

Tick = Callable[[str, int], None]  # what is being done, and how much more of it is done


@dataclass(slots=True)
class Roots:
    """Commits by branch: ``kept`` are marked, ``dropped`` are not, with when they were written (store's clock)."""

    kept: dict[str, set[int]] = field(default_factory=dict)
    dropped: dict[str, dict[int, float]] = field(default_factory=dict)


def find_roots(repo: Repository, retention: Retention, now: float, grace: float, tick: Tick) -> Roots:
    """Look at every branch and tag. ``now`` by the store's clock, taken before. CorruptError, StoreError."""
    # Tags before commits: a tag made later is on a commit that its maker saw to it stays.
    tags = list(_tags(repo))
    written: dict[str, dict[int, float]] = {}
    for info in repo.store.list(COMMITS):
        if key := parse_commit_key(info.key):
            written.setdefault(key[0], {})[key[1]] = info.mtime
    named: dict[str, set[int]] = {}
    for name, tag in tags:
        if tag.number not in written.get(tag.branch, {}):
            raise CorruptError(f"the tag {name} of {repo.store.url} names {tag.branch}@{tag.number}, which is missing")
        named.setdefault(tag.branch, set()).add(tag.number)
    roots = Roots()
    for branch, listed in written.items():
        last = repo.last(branch)
        assert last is not None  # it was listed, and a head is never removed
        newest = max(last.number, *listed)
        # A store that lists late still tells of the head, which is looked for one by one.
        commits = dict.fromkeys(range(max(listed) + 1, newest + 1), now) | listed
        kept = {number for number, mtime in commits.items() if mtime > now - grace} | named.get(branch, set())
        if last.commit.ends:
            kept.add(newest)
        else:
            kept |= retention.kept(_dated(repo, branch, commits, retention, tick), now)
        roots.kept[branch] = kept
        roots.dropped[branch] = {number: mtime for number, mtime in commits.items() if number not in kept}
    return roots


def _tags(repo: Repository) -> Iterator[tuple[str, Tag]]:
    for name in repo.tags():
        with contextlib.suppress(NotFoundError):  # deleted in between
            yield name, repo.read_tag(name)


def _dated(
    repo: Repository, branch: str, commits: dict[int, float], retention: Retention, tick: Tick
) -> Iterator[tuple[int, float]]:
    if not retention.dated:
        yield from ((number, 0.0) for number in commits)
        return
    for record in _records(repo, branch, commits):
        tick("looking at commits", 1)
        yield record.number, record.commit.time_ns / 1e9


def _records(repo: Repository, branch: str, numbers: dict[int, float] | set[int]) -> Iterator[CommitRecord]:
    with ThreadPoolExecutor(limits.STORE_CONCURRENCY, "gc-commits") as pool:
        yield from pool.map(lambda number: repo.read_commit(branch, number), sorted(numbers))


@dataclass(frozen=True, slots=True)
class Marks:
    """Ids that have to stay."""

    chunks: IdSet
    meta: IdSet


def mark(repo: Repository, roots: Roots, tick: Tick) -> Marks:
    """Visit everything that the roots reach. NotFoundError and CorruptError say which object of what path."""
    reach = Reachable(repo)
    for branch, numbers in sorted(roots.kept.items()):
        for record in _records(repo, branch, numbers):
            try:
                for _ in reach.walk(record.commit.root):
                    tick("marking", 1)
            except (NotFoundError, CorruptError) as error:
                message = f"nothing was condemned or deleted, {branch}@{record.number} cannot be read: {error}"
                raise CorruptError(message) from error
    meta = reach.seen[What.PAGE]
    meta.update(reach.seen[What.MANIFEST])
    meta.update(reach.seen[What.TENSORS])
    return Marks(reach.seen[What.CHUNK], meta)
