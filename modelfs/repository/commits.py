"""Branches: numbered commits, each written once by whoever creates the next number first.

`Commits.commit` is optimistic: it writes number n+1 if it is absent; when somebody else was first, our changes are
merged over theirs and the next number is tried. An object of that number with our own bytes is our own, its
acknowledgement lost on the way; when even that cannot be found out, the caller has heard of the attempt beforehand and
asks `settle` later. Every commit names the digest of its parent, which is checked whenever both are at
hand; a commit that does not fit its number or its parent is a CorruptError naming its key.
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from modelfs import limits
from modelfs.errors import AlreadyExistsError, ConflictError, CorruptError, NotFoundError, UsageError
from modelfs.ids import CommitId, digest
from modelfs.repository.again import twice
from modelfs.repository.envelope import unwrap, wrap
from modelfs.repository.keys import COMMITS, check_ref_name, commit_key, commits_prefix, parse_commit_key, tag_key
from modelfs.repository.merge import Merge
from modelfs.repository.objects import EMPTY_TREE, Commit, CommitRecord, Entry, Kind
from modelfs.repository.packing import pack_commit, unpack_commit
from modelfs.store.base import Store

__all__ = ["CommitRecord", "Commits", "empty_root"]


class Commits:
    """Reads and extends the branches of one store. Safe to use from many threads."""

    def __init__(self, store: Store, merge: Merge) -> None:
        self._store = store
        self._merge = merge
        self._lock = threading.Lock()
        self._recent: OrderedDict[tuple[str, int], CommitRecord] = OrderedDict()

    def branches(self) -> tuple[str, ...]:
        """Names of all branches, sorted."""
        keys = (parse_commit_key(info.key) for info in self._store.list(COMMITS))
        return tuple(sorted({key[0] for key in keys if key}))

    def read(self, branch: str, number: int) -> CommitRecord:
        """One commit. NotFoundError, CorruptError."""
        key = commit_key(check_ref_name(branch), number)

        def fetch() -> tuple[bytes, Commit]:
            plain = unwrap(self._store.get(key))
            commit = unpack_commit(plain)
            if commit.number != number:
                raise ValueError(f"it says that it is number {commit.number}")
            return plain, commit

        try:
            plain, commit = twice(fetch, key)
        except ValueError as error:
            raise CorruptError(f"commit {branch}@{number} in {self._store.url} is damaged: {error}", key) from error
        record = CommitRecord(branch, number, CommitId(digest(plain)), commit)
        self._check_neighbours(record)
        return record

    def head(self, branch: str, after: int = 0) -> CommitRecord | None:
        """The newest commit, or None when there is no such branch. ``after``: a number known to exist, from which
        newer ones are looked for upwards (one request when there is none); 0 lists the branch."""
        check_ref_name(branch)
        newest: CommitRecord | None = None
        if after:
            number = after
        else:
            number = self._last_listed(branch)
            if not number:
                return None
            newest = self.read(branch, number)
        for _ in range(limits.COMMIT_PROBES):
            try:
                newest = self.read(branch, number + 1)
            except NotFoundError:
                return newest or self._recalled(branch, number)
            number += 1
        return self.head(branch, max(number, self._last_listed(branch)))

    def log(self, start: CommitRecord) -> Iterator[CommitRecord]:
        """The commit and those before it, newest first, each verified against its child. Ends with the first
        commit, or the oldest one that is kept."""
        record = start
        while True:
            yield record
            if record.number == 1:
                return
            try:
                before = self.read(record.branch, record.number - 1)
            except NotFoundError as error:
                key = commit_key(record.branch, record.number - 1)
                if any(number < record.number for number in self._numbers(record.branch)):
                    message = f"commit {record.branch}@{record.number - 1} is missing in {self._store.url}"
                    raise CorruptError(message, key) from error
                return
            self._check_link(before, record)
            record = before

    def commit(
        self,
        branch: str,
        base: CommitRecord | None,
        root: Entry,
        message: str,
        files: int = 0,
        size: int = 0,
        announce: Callable[[CommitRecord], None] = lambda record: None,
    ) -> CommitRecord:
        """Add a commit whose changes are those from ``base`` to ``root`` (``base`` None: all of ``root``), on top of
        whatever the branch holds by then. Everything that ``root`` refers to is in the store already.

        ``announce`` is told of every commit before it is written. After an error the last one of them may be in the
        store or may yet get there; all others are not."""
        check_ref_name(branch)
        base_root = base.commit.root if base is not None else empty_root(root)
        head = base if base is not None and base.branch == branch else self.head(branch)
        if head is None and self._store.size(tag_key(branch)) is not None:
            raise UsageError(f"{branch} is the name of a tag")
        for _ in range(limits.COMMIT_REBASES):
            merged = root if head is None or head is base else self._merge.roots(base_root, root, head.commit.root)
            record = self._try(branch, head, merged, message, files, size, announce)
            if record is not None:
                return record
            head = self.head(branch, after=head.number if head else 1)
        raise ConflictError(f"{branch} of {self._store.url} moved on {limits.COMMIT_REBASES} times in a row")

    def settle(self, record: CommitRecord) -> bool:
        """Find out for good what became of a commit that was announced: True when it is in its place, False when
        another one is. One that is not there is written now, as it was, so that an attempt which is still on its way
        changes nothing any more."""
        try:
            self._store.put_if_absent(
                commit_key(record.branch, record.number), wrap(pack_commit(record.commit), checksum=True)
            )
        except AlreadyExistsError:
            if self.read(record.branch, record.number).id != record.id:
                return False
        self._remember(record)
        return True

    def _try(
        self,
        branch: str,
        head: CommitRecord | None,
        root: Entry,
        message: str,
        files: int,
        size: int,
        announce: Callable[[CommitRecord], None],
    ) -> CommitRecord | None:
        """Write the commit after ``head``; None when somebody else did."""
        commit = Commit(
            number=head.number + 1 if head else 1,
            parent=head.id if head else b"",
            root=root,
            time_ns=time.time_ns(),
            host=_text(socket.gethostname()),
            user=_text(_user()),
            message=_text(message),
            files=files,
            size=size,
        )
        record = CommitRecord(branch, commit.number, CommitId(digest(pack_commit(commit))), commit)
        announce(record)
        return record if self.settle(record) else None

    def _last_listed(self, branch: str) -> int:
        return max(self._numbers(branch), default=0)

    def _numbers(self, branch: str) -> Iterator[int]:
        for info in self._store.list(commits_prefix(branch)):
            key = parse_commit_key(info.key)
            if key is not None:
                yield key[1]

    def _recalled(self, branch: str, number: int) -> CommitRecord:
        with self._lock:
            found = self._recent.get((branch, number))
        return found or self.read(branch, number)

    def _remember(self, record: CommitRecord) -> None:
        with self._lock:
            self._recent[record.branch, record.number] = record
            if len(self._recent) > limits.RECENT_COMMITS:
                self._recent.popitem(last=False)

    def _check_neighbours(self, record: CommitRecord) -> None:
        """Verify a commit against what this process has seen around it, then remember it."""
        with self._lock:
            before = self._recent.get((record.branch, record.number - 1))
            same = self._recent.get((record.branch, record.number))
        if before is not None:
            self._check_link(before, record)
        if same is not None and same.id != record.id:
            key = commit_key(record.branch, record.number)
            raise CorruptError(f"commit {record.branch}@{record.number} in {self._store.url} was changed", key)
        self._remember(record)

    def _check_link(self, before: CommitRecord, record: CommitRecord) -> None:
        if record.commit.parent != before.id:
            message = f"commit {record.branch}@{record.number} in {self._store.url} does not follow {before.number}"
            raise CorruptError(message, commit_key(record.branch, record.number))


def empty_root(like: Entry) -> Entry:
    """A root without entries and with the attributes of another."""
    return Entry(b"", Kind.DIRECTORY, like.mode, like.uid, like.gid, like.mtime_ns, like.size, EMPTY_TREE, like.xattrs)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container without a passwd entry for us
        return str(os.getuid())


def _text(text: str) -> str:
    """Text as UTF-8 takes it: bytes that the command line could not decode become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
