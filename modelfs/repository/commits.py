"""Branches: numbered commits, each written once by whoever creates the next number first.

`Commits.commit` is optimistic: it writes number n+1 if it is absent; when somebody else was first, our changes are
merged over theirs and the next number is tried. An object of that number with our own bytes is our own, its
acknowledgement lost on the way; when even that cannot be found out, the caller has heard of the attempt beforehand and
asks `settle` later. Every commit names the digest of its parent, which is checked whenever both are at
hand; a commit that does not fit its number or its parent is a CorruptError naming its key. Who trusts certain keys
gets no commit that none of them signed, unless one that is signed follows it in the chain; and nobody gets a head that
is older than what this machine has seen.

Collections remove commits that the retention drops, never the newest of a branch, and write down which (`history`). So
a number that is absent is free only for who knows a head that was the newest a moment ago: a head that was not looked
at for `Condemned.patience` is looked for anew before a commit is made on top of it. A branch is deleted by a last
commit that says so; whoever was about to commit loses that race and learns of it.
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from functools import partial

import msgspec

from modelfs import limits
from modelfs.errors import (
    AlreadyExistsError,
    CollectedError,
    ConflictError,
    CorruptError,
    NotFoundError,
    UnknownRefError,
    UntrustedError,
    UsageError,
)
from modelfs.repository.again import twice
from modelfs.repository.commitobjects import CommitObjects
from modelfs.repository.condemned import Condemned, commit_id
from modelfs.repository.gcformat import NOTHING, Collected, commits_area
from modelfs.repository.history import read_collected
from modelfs.repository.keys import COMMITS, check_ref_name, commit_key, commits_prefix, parse_commit_key, tag_key
from modelfs.repository.merge import Merge
from modelfs.repository.objects import BRANCH_END, EMPTY_TREE, Commit, CommitRecord, Entry, Kind
from modelfs.repository.seen import Seen, SeenHeads
from modelfs.store.base import Store
from modelfs.store.clock import Clock

__all__ = ["CommitRecord", "Commits", "empty_root"]

# (tree of the head, root to be committed, ids whose objects are known to be there): see `assurance`
Assure = Callable[[bytes, Entry, Collection[bytes]], None]
Announce = Callable[[CommitRecord], None]


class Commits:
    """Reads and extends the branches of one store. Safe to use from many threads."""

    def __init__(
        self,
        store: Store,
        merge: Merge,
        objects: CommitObjects,
        seen: SeenHeads,
        condemned: Condemned,
        assure: Assure,
        clock: Clock,
    ) -> None:
        """``assure`` is called before a commit is written: it sees to it that all of its root is in the store."""
        self._store = store
        self._merge = merge
        self._objects = objects
        self._seen = seen
        self._condemned = condemned
        self._assure = assure
        self._clock = clock
        self._lock = threading.Lock()
        self._recent: OrderedDict[tuple[str, int], CommitRecord] = OrderedDict()
        self._newest: dict[str, tuple[int, float]] = {}  # by branch: a number, and when it was last seen to be the head

    def branches(self) -> tuple[str, ...]:
        """Names of all branches, sorted. Deleted ones are none."""
        return tuple(name for name, ended in self.every_branch() if not ended)

    def every_branch(self) -> Iterator[tuple[str, bool]]:
        """Names of all branches that ever were, sorted; True for those that were deleted."""
        heads: dict[str, int] = {}
        for info in self._store.list(COMMITS):
            if key := parse_commit_key(info.key):
                heads[key[0]] = max(key[1], heads.get(key[0], 0))
        for branch, number in sorted(heads.items()):
            yield branch, self.read(branch, number).commit.ends

    def collected(self, branch: str) -> Collected:
        """Which commits of a branch were collected."""
        return read_collected(self._store, branch)

    def read(self, branch: str, number: int) -> CommitRecord:
        """One commit. NotFoundError, CorruptError, UntrustedError."""
        record = self.load(branch, number)
        self._check_neighbours(record)
        return record

    def load(self, branch: str, number: int) -> CommitRecord:
        """One commit, verified for itself alone; its signature, if it has one, fits. Whom to trust, and whether it
        fits its neighbours, is for the caller to judge."""
        key = commit_key(check_ref_name(branch), number)
        try:
            return twice(lambda: self._objects.parse(branch, number, self._store.get(key)), key)
        except ValueError as error:
            raise CorruptError(f"commit {branch}@{number} in {self._store.url} is damaged: {error}", key) from error

    def trusts(self, record: CommitRecord) -> bool:
        """True when a commit is signed by one of the trusted keys, or there are none."""
        return self._objects.trusts(record)

    def head(self, branch: str, after: int = 0) -> CommitRecord | None:
        """The newest commit, or None when there is no such branch (or it was deleted). ``after``: a number known to
        have been the head, from which newer ones are looked for upwards (one request when there is none); 0 lists
        the branch. UntrustedError when this machine has seen a newer one."""
        found = self.last(branch, after)
        return None if found is None or found.commit.ends else found

    def last(self, branch: str, after: int = 0) -> CommitRecord | None:
        """As `head`, but of a deleted branch it is the commit that says so."""
        seen = self._seen.last(check_ref_name(branch))
        follows = after > 0 and self._just_seen(branch)
        found = self._last(branch, after if follows else 0)
        if seen is not None:
            found = self._not_before(branch, found, seen, follows=follows)
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
            found = self._last(branch, seen.number)
            assert found is not None
        return found

    def _rolled_back(self, branch: str, why: str) -> UntrustedError:
        where = self._seen.where(branch)
        return UntrustedError(f"{self._store.url} has been rolled back: {why}. If that is meant, remove {where}")

    def _last(self, branch: str, number: int) -> CommitRecord | None:
        """The newest commit from ``number`` on, which was the head; 0: from what is listed."""
        newest: CommitRecord | None = None
        if not number:
            number = self._last_listed(branch)
            if not number:
                return None
            newest = self.read(branch, number)
        for _ in range(limits.COMMIT_PROBES):
            asked = self._clock.boot()
            try:
                newest = self.read(branch, number + 1)
            except NotFoundError:
                with self._lock:
                    self._newest[branch] = (number, asked)
                return newest or self._recalled(branch, number)
            number += 1
        with self._lock:
            self._newest.pop(branch, None)
        return self._last(branch, 0)

    def _just_seen(self, branch: str) -> bool:
        """True when some head of the branch was the newest a moment ago: what follows it cannot be collected yet."""
        with self._lock:
            seen = self._newest.get(branch)
        return seen is not None and self._clock.boot() - seen[1] <= self._condemned.patience

    def _is_head(self, record: CommitRecord) -> bool:
        """True when that commit was the newest a moment ago."""
        with self._lock:
            seen = self._newest.get(record.branch)
        return seen is not None and seen[0] == record.number and self._just_seen(record.branch)

    def log(self, start: CommitRecord) -> Iterator[CommitRecord]:
        """The commit and those before it, newest first, each verified against its child. Commits that were collected
        are passed over: numbers and `collected` tell where."""
        collected = NOTHING
        record: CommitRecord | None = start
        while record is not None:
            yield record
            record, collected = self._before(record, collected)

    def _before(self, record: CommitRecord, collected: Collected) -> tuple[CommitRecord | None, Collected]:
        """The newest commit before one that is still there, and what is known to be collected."""
        while number := collected.below(record.number - 1):
            try:
                before = self.read(record.branch, number)
            except NotFoundError as error:
                collected = self.collected(record.branch)
                if number not in collected:
                    key = commit_key(record.branch, number)
                    message = f"commit {record.branch}@{number} is missing in {self._store.url}"
                    raise CorruptError(message, key) from error
                continue
            if number == record.number - 1:
                self._check_link(before, record)
            return before, collected
        return None, collected

    def commit(
        self,
        branch: str,
        base: CommitRecord | None,
        root: Entry,
        message: str,
        files: int = 0,
        size: int = 0,
        *,
        reached: Collection[bytes] = (),
        revive: bool = False,
        announce: Announce = lambda record: None,
    ) -> CommitRecord:
        """Add a commit whose changes are those from ``base`` to ``root`` (``base`` None: all of ``root``), on top of
        whatever the branch holds by then. Everything that ``root`` refers to is in the store already, or it is what
        a collection took meanwhile and this machine can bring back. Where nothing is left to change on top of what the
        branch holds, the commit that is returned is its head. ``reached``: ids of manifests and trees that a
        commit which is not condemned reaches. ``revive``: a deleted branch begins again.

        ``announce`` is told of every commit before it is written. After an error the last one of them may be in the
        store or may yet get there; all others are not."""
        check_ref_name(branch)
        base_root = base.commit.root if base is not None else empty_root(root)
        on_top = base is not None and base.branch == branch and not base.commit.ends and self._is_head(base)
        head = base if on_top else self.last(branch)
        if head is None and self._store.size(tag_key(branch)) is not None:
            raise UsageError(f"{branch} is the name of a tag")
        for _ in range(limits.COMMIT_REBASES):
            if head is not None and head.commit.ends and not revive:
                raise CollectedError(f"the branch {branch} of {self._store.url} was deleted")
            began = self._clock.boot()
            below = None if head is None or head.commit.ends else head.commit.root
            merged = root
            if head is not None and below is not None and head is not base:
                merged = self._merge.roots(base_root, root, below)
                if base is not None and merged == below:
                    return head  # others have made the same changes, or later ones in their place
            assure = partial(self._assure, EMPTY_TREE if below is None else below.content, merged, reached)
            assure()
            record = self._try(branch, head, merged, message, files, size, announce)
            if record is not None and not self._late(record, began):
                if (
                    self._clock.boot() - began > self._condemned.patience
                ):  # this machine slept between the check and the commit
                    assure()
                return record
            head = self.last(branch, after=head.number if head else 1)
        raise ConflictError(f"{branch} of {self._store.url} moved on {limits.COMMIT_REBASES} times in a row")

    def append(self, branch: str, head: CommitRecord | None, like: Commit, root: Entry) -> CommitRecord | None:
        """Write the commit after ``head`` with the time, author and text of another one: how a history is copied to
        where it gets other ids. None when somebody else was first. As `commit` for all else."""
        check_ref_name(branch)
        below = EMPTY_TREE if head is None or head.commit.ends else head.commit.root.content
        began = self._clock.boot()
        self._assure(below, root, ())
        number, parent = (head.number + 1, head.id) if head is not None else (1, b"")
        record = self._objects.make(branch, msgspec.structs.replace(like, number=number, parent=parent, root=root))
        if not self._write(record) or self._late(record, began):
            return None
        if self._clock.boot() - began > self._condemned.patience:
            self._assure(below, root, ())
        return record

    def made(self, branch: str, number: int, commit: bytes) -> bool | None:
        """True when the commit of that number is, or was before it was collected, the one with the id ``commit``, False
        when it is another one, None when there is none yet. CollectedError when nobody can tell any more: what followed
        it was collected as well."""
        try:
            return self.read(branch, number).id == commit
        except NotFoundError:
            if number not in self.collected(branch):
                return None
        try:
            return self.read(branch, number + 1).commit.parent == commit
        except NotFoundError as error:
            raise CollectedError(
                f"{branch}@{number}, which may or may not hold these changes, was collected, and so was what followed"
            ) from error

    def settle(self, record: CommitRecord) -> bool:
        """Find out for good what became of a commit that was announced: True when it is in its place, False when
        another one is. One that is not there is written now, as it was, so that an attempt which is still on its way
        changes nothing any more. CollectedError as from `made`."""
        made = self.made(record.branch, record.number, record.id)
        if made is not None:
            return made
        began = self._clock.boot()
        try:
            below = self.read(record.branch, record.number - 1).commit.root.content if record.number > 1 else EMPTY_TREE
        except NotFoundError:  # collected
            below = EMPTY_TREE
        self._assure(below, record.commit.root, ())
        return self._write(record) and not self._late(record, began)

    def hold(self, record: CommitRecord) -> None:
        """A commit that is condemned stays: it is written again, after what it reaches was. ConflictError."""
        if not self._condemned.commit(record.branch, record.number):
            return
        for _ in range(limits.GC_ROUNDS):
            self._store.put(commit_key(record.branch, record.number), self._objects.stored(record))
            if self._condemned.lifted(commits_area(record.branch), (commit_id(record.number),)):
                return
            self._condemned.refresh()
        raise ConflictError(f"a collection condemns {record.branch}@{record.number} again and again: try again later")

    def _late(self, record: CommitRecord, began: float) -> bool:
        """True when so much time passed while a commit was written that its number had been used and collected: it
        is no part of the branch, and is removed."""
        if self._clock.boot() - began <= self._condemned.patience or record.number not in self.collected(record.branch):
            return False
        self._store.delete(commit_key(record.branch, record.number))
        with self._lock:
            self._recent.pop((record.branch, record.number), None)
            self._newest.pop(record.branch, None)
        return True

    def end(self, branch: str) -> CommitRecord:
        """Delete a branch: a last commit without files that says so. UnknownRefError when there is none."""
        for _ in range(limits.COMMIT_REBASES):
            began = self._clock.boot()
            head = self.last(branch)
            if head is None or head.commit.ends:
                raise UnknownRefError(f"{self._store.url} has no branch {branch!r}")
            empty = msgspec.structs.replace(head.commit.root, content=EMPTY_TREE, linked=0, xattrs=((BRANCH_END, b""),))
            record = self._try(branch, head, empty, "", 0, 0)
            if record is not None and not self._late(record, began):
                return record
        raise ConflictError(f"{branch} of {self._store.url} moved on {limits.COMMIT_REBASES} times in a row")

    def _try(
        self,
        branch: str,
        head: CommitRecord | None,
        root: Entry,
        message: str,
        files: int,
        size: int,
        announce: Announce = lambda record: None,
    ) -> CommitRecord | None:
        """Write the commit after ``head``; None when somebody else did."""
        commit = Commit(
            number=head.number + 1 if head else 1,
            parent=head.id if head else b"",
            root=root,
            time_ns=self._clock.wall_ns(),
            host=_text(socket.gethostname()),
            user=_text(_user()),
            message=_text(message),
            files=files,
            size=size,
        )
        record = self._objects.make(branch, commit)
        announce(record)
        return record if self._write(record) else None

    def _write(self, record: CommitRecord) -> bool:
        """Write a commit in its place; False when somebody else's is there."""
        asked = self._clock.boot()
        try:
            self._store.put_if_absent(commit_key(record.branch, record.number), self._objects.stored(record))
        except AlreadyExistsError:
            if self.read(record.branch, record.number).id != record.id:
                return False
        self._remember(record)
        self._seen.note(record)
        with self._lock:
            self._newest[record.branch] = (record.number, asked)
        return True

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
