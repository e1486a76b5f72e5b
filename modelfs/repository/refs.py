"""Names for commits: tags, and what people type where a commit is wanted.

A tag is given once and never moved. `Refs.resolve` understands, in this order: TAG, BRANCH, BRANCH@NUMBER, and the
first digits (8 or more) of a commit id in the log of a branch.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Final

from modelfs import limits
from modelfs.errors import AlreadyExistsError, CollectedError, CorruptError, NotFoundError, UnknownRefError, UsageError
from modelfs.repository.again import twice
from modelfs.repository.checks import REF_NAME
from modelfs.repository.commits import Commits
from modelfs.repository.envelope import unwrap, wrap
from modelfs.repository.keys import TAGS, check_ref_name, commits_prefix, parse_tag_key, tag_key
from modelfs.repository.objects import CommitRecord, Tag
from modelfs.repository.packing import pack_tag, unpack_tag
from modelfs.store.base import Store

_NUMBERED: Final = re.compile(rf"({REF_NAME.pattern})@([0-9]{{1,19}})")
_PREFIX: Final = re.compile(rf"[0-9a-f]{{{limits.COMMIT_PREFIX_MIN},64}}")


class Refs:
    """Tags of one store, and the way from a name to a commit."""

    def __init__(self, store: Store, commits: Commits) -> None:
        self._store = store
        self._commits = commits

    def tags(self) -> tuple[str, ...]:
        """Names of all tags, sorted."""
        return tuple(sorted(name for info in self._store.list(TAGS) if (name := parse_tag_key(info.key))))

    def read(self, name: str) -> Tag:
        """One tag. NotFoundError, CorruptError."""
        key = tag_key(check_ref_name(name))
        try:
            return twice(lambda: unpack_tag(unwrap(self._store.get(key))), key)
        except ValueError as error:
            raise CorruptError(f"tag {name} in {self._store.url} is damaged: {error}", key) from error

    def create(self, name: str, record: CommitRecord, time_ns: int | None = None) -> Tag:
        """Name a commit. Doing it twice is fine; UsageError when the name is taken by another commit or a branch.
        ``time_ns``: when that was, now by default."""
        check_ref_name(name)
        if any(True for _ in self._store.list(commits_prefix(name))):
            raise UsageError(f"{name} is the name of a branch")
        tag = Tag(record.branch, record.number, record.id, time.time_ns() if time_ns is None else time_ns)
        try:
            self._store.put_if_absent(tag_key(name), wrap(pack_tag(tag), checksum=True))
        except AlreadyExistsError as error:
            tag = self.read(name)
            if tag.commit != record.id:
                raise UsageError(f"the tag {name} exists: it names {tag.branch}@{tag.number}") from error
        return tag

    def delete(self, name: str) -> Tag:
        """Take a tag away; what it named. UnknownRefError when there is none."""
        try:
            tag = self.read(name)
        except NotFoundError as error:
            raise UnknownRefError(f"{self._store.url} has no tag {name!r}") from error
        self._store.delete(tag_key(name))
        return tag

    def target(self, name: str) -> CommitRecord:
        """The commit that a tag names."""
        tag = self.read(name)
        record = self._commits.read(tag.branch, tag.number)
        if record.id != tag.commit:
            message = f"tag {name} in {self._store.url} names another commit than {tag.branch}@{tag.number} is"
            raise CorruptError(message, tag_key(name))
        return record

    def resolve(self, ref: str | None, branch: str) -> CommitRecord:
        """The commit that ``ref`` means; None is the newest of ``branch``. UnknownRefError says what there is."""
        wanted = branch if ref is None else ref
        found = self._by_name(wanted) if REF_NAME.fullmatch(wanted) else None
        if found is None and (numbered := _NUMBERED.fullmatch(wanted)):
            found = self._by_number(numbered[1], int(numbered[2]))
        if found is None and _PREFIX.fullmatch(wanted):
            found = self._by_prefix(wanted, branch)
        if found is None:
            raise UnknownRefError(self._unknown(wanted))
        return found

    def _by_name(self, name: str) -> CommitRecord | None:
        if self._store.size(tag_key(name)) is not None:
            return self.target(name)
        last = self._commits.last(name)
        if last is not None and last.commit.ends:
            raise CollectedError(
                f"the branch {name} of {self._store.url} was deleted; until a collection takes it, "
                f"its newest state is {name}@{last.number - 1}"
            )
        return last

    def _by_number(self, branch: str, number: int) -> CommitRecord | None:
        try:
            record = self._commits.read(branch, number)
        except NotFoundError:
            if number in self._commits.collected(branch):
                message = f"commit {branch}@{number} of {self._store.url} was collected: the retention dropped it"
                raise CollectedError(message) from None
            return None
        if record.commit.ends:
            raise CollectedError(f"{branch}@{number} of {self._store.url} has no files: the branch was deleted there")
        return record

    def _by_prefix(self, prefix: str, branch: str) -> CommitRecord | None:
        head = self._commits.head(branch)
        if head is None:
            return None
        return next((record for record in self._commits.log(head) if record.id.hex().startswith(prefix)), None)

    def _unknown(self, wanted: str) -> str:
        branches, tags = _few(self._commits.branches()), _few(self.tags())
        return (
            f"no branch, tag or commit {wanted[:80]!r} in {self._store.url}: branches {branches or 'none'}; "
            f"tags {tags or 'none'}"
        )


def _few(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - limits.REFS_SHOWN
    return ", ".join(names[: limits.REFS_SHOWN]) + (f" and {more} more" if more > 0 else "")
