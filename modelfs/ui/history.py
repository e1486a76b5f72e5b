"""Pages of a history that are not walked to: each begins at a number and reads only its own commits.

What is before a commit never changes, so it is remembered, and pages that are looked at again ask the store for the
newest commit only. Branches and tags, for which the store is listed, are remembered for a minute. Blocking; safe to
use from many threads.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from modelfs import limits
from modelfs.errors import NotFoundError, UnknownRefError
from modelfs.ids import CommitId
from modelfs.repository.objects import CommitRecord
from modelfs.repository.repository import Repository
from modelfs.repository.vouching import verified
from modelfs.ui.remembered import Remembered


@dataclass(frozen=True, slots=True)
class Page:
    """Commits, newest first, each with the one before it that is still there (None: it is the first). ``newer`` and
    ``older``: numbers at which the pages beside this one begin; ``ends``: why the history ends here before it is
    over."""

    branch: str
    head: int
    rows: tuple[tuple[CommitRecord, CommitRecord | None], ...]
    newer: int | None
    older: int | None
    ends: str


@dataclass(frozen=True, slots=True)
class Names:
    """Branches and tags of a store, as many as are shown."""

    branches: tuple[str, ...]
    tags: tuple[str, ...]
    more: int


class History:
    """Of one store."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._before: Remembered[CommitId, CommitRecord] = Remembered(limits.UI_KNOWN_COMMITS)
        self._records: Remembered[tuple[str, int], CommitRecord] = Remembered(limits.UI_KNOWN_COMMITS)
        self._heads: Remembered[str, int] = Remembered(limits.UI_NAMES_SHOWN)
        self._names: tuple[float, Names] | None = None

    def names(self, clock: Callable[[], float] = time.monotonic) -> Names:
        """Branches and tags, at most a minute old."""
        if self._names is None or clock() - self._names[0] > limits.UI_NAMES_FRESH:
            branches, tags = self._repo.branches(), self._repo.tags()
            shown = limits.UI_NAMES_SHOWN
            more = max(0, len(branches) - shown) + max(0, len(tags) - shown)
            self._names = (clock(), Names(branches[:shown], tags[-shown:], more))
        return self._names[1]

    def head(self, branch: str) -> CommitRecord:
        """The newest commit. UnknownRefError."""
        found = self._repo.head(branch, self._heads.get(branch) or 0)
        if found is None:
            raise UnknownRefError(f"{self._repo.store.url} has no branch {branch!r}")
        self._heads.put(branch, found.number)
        return found

    def page(self, branch: str, start: int | None = None, count: int = limits.UI_COMMITS) -> Page:
        """``count`` commits from number ``start`` on downwards, or from the newest. UnknownRefError."""
        head = self.head(branch)
        begin = head if start is None or start >= head.number else self._at(branch, max(start, 1))
        rows: list[tuple[CommitRecord, CommitRecord | None]] = []
        ends: list[str] = []
        record: CommitRecord | None = begin
        while record is not None and len(rows) < count:
            before = self.before(record, ends)
            rows.append((record, before))
            record = before
        top = begin.number if begin is not None else 0
        return Page(
            branch,
            head.number,
            tuple(rows),
            min(head.number, top + count) if top < head.number else None,
            record.number if record is not None else None,
            ends[0] if ends else "",
        )

    def before(self, record: CommitRecord, ends: list[str] | None = None) -> CommitRecord | None:
        """The newest commit before one that is still there and can be verified; None when there is none."""
        found = self._before.get(record.id)
        if found is None and record.number > 1:
            log = verified(self._repo.log(record), [] if ends is None else ends)
            found = next(itertools.islice(log, 1, None), None)
            if found is not None and len(record.plain) + len(found.plain) <= limits.UI_KNOWN_COMMIT_MAX:
                self._before.put(record.id, found)
                self._records.put((found.branch, found.number), found)
        return found

    def _at(self, branch: str, number: int) -> CommitRecord | None:
        """The commit of that number, or the newest before it that was not collected."""
        if (known := self._records.get((branch, number))) is not None:
            return known
        try:
            return self._repo.read_commit(branch, number)
        except NotFoundError:
            number = self._repo.collected(branch).below(number)
            return self._repo.read_commit(branch, number) if number else None
