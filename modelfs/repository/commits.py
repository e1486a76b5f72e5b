"""Branches: numbered commits, each written once by whoever creates the next number first.

`Commits.commit` is optimistic: it writes number n+1 if it is absent; when somebody else was first, our changes are
merged over theirs and the next number is tried. An object of that number with our own bytes is our own, its
acknowledgement lost on the way. Every commit names the digest of its parent, which is checked whenever both are at
hand; a commit that does not fit its number or its parent is a CorruptError naming its key. Who trusts certain keys
gets no commit that none of them signed, unless one that is signed follows it in the chain; and nobody gets a head that
is older than what this machine has seen.
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator

from modelfs import limits
from modelfs.crypto.signing import Signature
from modelfs.errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptError,
    NotFoundError,
    UntrustedError,
    UsageError,
)
from modelfs.ids import CommitId, Ids
from modelfs.repository.access import Access
from modelfs.repository.envelope import unwrap, wrap
from modelfs.repository.keys import COMMITS, check_ref_name, commit_key, commits_prefix, parse_commit_key, tag_key
from modelfs.repository.merge import Merge
from modelfs.repository.objects import EMPTY_TREE, Commit, CommitRecord, Entry, Kind
from modelfs.repository.packing import pack_commit, pack_signed, split_signed, unpack_commit
from modelfs.repository.seen import Seen, SeenHeads
from modelfs.store.base import Store

__all__ = ["CommitRecord", "Commits", "empty_root"]


class Commits:
    """Reads and extends the branches of one store. Safe to use from many threads."""

    def __init__(self, store: Store, merge: Merge, ids: Ids, store_id: str, access: Access, seen: SeenHeads) -> None:
        self._store = store
        self._merge = merge
        self._ids = ids
        self._store_id = store_id
        self._access = access
        self._seen = seen
        self._lock = threading.Lock()
        self._recent: OrderedDict[tuple[str, int], CommitRecord] = OrderedDict()

    def branches(self) -> tuple[str, ...]:
        """Names of all branches, sorted."""
        keys = (parse_commit_key(info.key) for info in self._store.list(COMMITS))
        return tuple(sorted({key[0] for key in keys if key}))

    def read(self, branch: str, number: int) -> CommitRecord:
        """One commit. NotFoundError, CorruptError, UntrustedError."""
        record = self.load(branch, number)
        self._check_neighbours(record)
        return record

    def load(self, branch: str, number: int) -> CommitRecord:
        """One commit, verified for itself alone; its signature, if it has one, fits. Whom to trust, and whether it
        fits its neighbours, is for the caller to judge."""
        key = commit_key(check_ref_name(branch), number)
        stored = self._store.get(key)
        try:
            plain, signature = split_signed(unwrap(stored))
            commit = unpack_commit(plain)
            if commit.number != number:
                raise ValueError(f"it says that it is number {commit.number}")
            if signature is not None and not signature.fits(self._message(branch, plain)):
                raise ValueError("its signature does not fit")
        except ValueError as error:
            raise CorruptError(f"commit {branch}@{number} in {self._store.url} is damaged: {error}", key) from error
        return self._record(branch, commit, plain, signature)

    def trusts(self, record: CommitRecord) -> bool:
        """True when a commit is signed by one of the trusted keys, or there are none."""
        trusted = self._access.trusted
        return not trusted or any(key.raw == record.signed_by for key in trusted)

    def _record(self, branch: str, commit: Commit, plain: bytes, signature: Signature | None) -> CommitRecord:
        signed_by = signature.by.raw if signature is not None else b""
        return CommitRecord(branch, commit.number, CommitId(self._ids.digest(plain)), commit, signed_by)

    def _message(self, branch: str, plain: bytes) -> bytes:
        """What is signed: a commit belongs to one branch of one store."""
        return f"modelfs commit\n{self._store_id}\n{branch}\n".encode() + plain

    def head(self, branch: str, after: int = 0) -> CommitRecord | None:
        """The newest commit, or None when there is no such branch. ``after``: a number known to exist, from which
        newer ones are looked for upwards (one request when there is none); 0 lists the branch. UntrustedError when
        this machine has seen a newer one."""
        seen = self._seen.last(check_ref_name(branch))
        found = self._head(branch, after)
        if seen is not None:
            found = self._not_before(branch, found, seen, follows=after > 0)
        if found is not None:
            self._seen.note(found)
        return found

    def _not_before(self, branch: str, found: CommitRecord | None, seen: Seen, *, follows: bool) -> CommitRecord:
        """``found``, or a newer one that the listing left out; ``follows``: its past was checked before."""
        if found is not None and follows and found.number >= seen.number:
            return found
        known = found if found is not None and found.number == seen.number else None
        try:
            known = known or self.load(branch, seen.number)
        except NotFoundError as error:
            if found is not None and found.number > seen.number:
                return found  # the seen one is no longer kept
            shown = f"shows {branch}@{found.number}" if found is not None else f"has no branch {branch}"
            raise self._rolled_back(branch, f"{shown}, and {branch}@{seen.number} was seen here") from error
        if known.id != seen.id:
            raise self._rolled_back(branch, f"its {branch}@{seen.number} is another one than was seen here")
        if found is None or found.number < seen.number:  # a stale listing
            found = self._head(branch, seen.number)
            assert found is not None
        return found

    def _rolled_back(self, branch: str, why: str) -> UntrustedError:
        where = self._seen.where(branch)
        return UntrustedError(f"{self._store.url} has been rolled back: {why}. If that is meant, remove {where}")

    def _head(self, branch: str, after: int) -> CommitRecord | None:
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
        return self._head(branch, max(number, self._last_listed(branch)))

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
        self, branch: str, base: CommitRecord | None, root: Entry, message: str, files: int = 0, size: int = 0
    ) -> CommitRecord:
        """Add a commit whose changes are those from ``base`` to ``root`` (``base`` None: all of ``root``), on top of
        whatever the branch holds by then. Everything that ``root`` refers to is in the store already."""
        check_ref_name(branch)
        base_root = base.commit.root if base is not None else empty_root(root)
        head = base if base is not None and base.branch == branch else self.head(branch)
        if head is None and self._store.size(tag_key(branch)) is not None:
            raise UsageError(f"{branch} is the name of a tag")
        for _ in range(limits.COMMIT_REBASES):
            merged = root if head is None or head is base else self._merge.roots(base_root, root, head.commit.root)
            record = self._try(branch, head, merged, message, files, size)
            if record is not None:
                return record
            head = self.head(branch, after=head.number if head else 1)
        raise ConflictError(f"{branch} of {self._store.url} moved on {limits.COMMIT_REBASES} times in a row")

    def _try(
        self, branch: str, head: CommitRecord | None, root: Entry, message: str, files: int, size: int
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
        plain = pack_commit(commit)
        signer = self._access.signer
        signature = signer.sign(self._message(branch, plain)) if signer is not None else None
        record = self._record(branch, commit, plain, signature)
        stored = wrap(plain if signature is None else pack_signed(plain, signature))
        try:
            self._store.put_if_absent(commit_key(branch, commit.number), stored)
        except AlreadyExistsError:
            if self.read(branch, commit.number).id != record.id:
                return None
        self._remember(record)
        self._seen.note(record)
        return record

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
            self._recent.move_to_end((record.branch, record.number))
            if len(self._recent) > limits.RECENT_COMMITS:
                self._recent.popitem(last=False)

    def _check_neighbours(self, record: CommitRecord) -> None:
        """Verify a commit against what this process has seen around it, then remember it."""
        with self._lock:
            before = self._recent.get((record.branch, record.number - 1))
            same = self._recent.get((record.branch, record.number))
            after = self._recent.get((record.branch, record.number + 1))
        bound = after is not None and after.commit.parent == record.id
        if not bound and not self.trusts(record):
            what = "is signed by a key that is not trusted" if record.signed_by else "is not signed"
            raise UntrustedError(f"commit {record.branch}@{record.number} in {self._store.url} {what}")
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
