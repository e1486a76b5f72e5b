"""Putting intact copies in the place of damaged objects.

Copies come from local caches (chunks only) and from another store that holds the same ids (everything). Each is
verified before it is written, by its id or, where an object has no id in its key, by what others say of it; nothing is
ever deleted. What cannot be verified is not written. A chunk is written plain, whatever it was: a broken link becomes
the chunk itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelfs.errors import (
    AlreadyExistsError,
    CorruptError,
    LinkError,
    LinkRefusedError,
    NotFoundError,
    UsageError,
)
from modelfs.ids import ChunkId
from modelfs.repository.chain import History, Place
from modelfs.repository.chunks import Local
from modelfs.repository.damage import Damage, Damages, Problem, Sort
from modelfs.repository.keys import COMMITS, FORMAT_KEY, parse_commit_key, parse_tag_key
from modelfs.repository.linksums import LinkSums
from modelfs.repository.objects import CommitRecord
from modelfs.repository.repository import Repository
from modelfs.store.base import Store

_SELF = "the store itself"
_READ_ALL_THE_SAME = (Problem.CONTRADICTORY, Problem.CHANGED)


class Repair:
    """Repairs one repository. ``caches``: (name, how to ask for a chunk); ``other``: the second store. UsageError when
    that one cannot hold the same ids: those of an encrypted store are its own, and its mirror's."""

    def __init__(
        self, repo: Repository, caches: Sequence[tuple[str, Local]] = (), other: Repository | None = None
    ) -> None:
        if other is not None and other.format.id != repo.format.id and (repo.ids.keyed or other.ids.keyed):
            raise UsageError(
                f"{other.store.url} is no mirror of {repo.store.url}, and what an encrypted store holds "
                "can be had from a mirror only"
            )
        self._repo = repo
        self._caches = caches
        self._other = other

    def witness(self, place: Place) -> bytes | None:
        """Id of the commit that the second store has at a place, when it is a copy of this one."""
        record = self._theirs(place)
        return None if record is None else record.id

    def meta(self, damage: Damage) -> str:
        """Restore a manifest, tensor table or tree page: where it came from, "" when nobody has it."""
        if self._other is None:
            return ""
        try:
            plain = self._other.read_meta(damage.sort.value, damage.id)
        except (NotFoundError, CorruptError, ValueError):
            return ""
        self._repo.write_meta(damage.id, plain)
        return self._other.store.url

    def chunk(self, damage: Damage) -> str:
        """Restore a chunk: where it came from, "" when nobody has it."""
        chunk = ChunkId(damage.id)
        for name, read in self._caches:
            plain = read(chunk, damage.length)
            if plain is not None:
                return name if self._write(chunk, plain) else ""
        for repo in (self._other, self._repo):
            if repo is None or (repo is self._repo and damage.problem not in _READ_ALL_THE_SAME):
                continue
            try:
                plain = repo.read_chunk(chunk, damage.length)
            except (NotFoundError, CorruptError, LinkError, LinkRefusedError):
                continue
            if self._write(chunk, plain):
                here = damage.original or _SELF
                return here if repo is self._repo else repo.store.url
        return ""

    def _write(self, chunk: ChunkId, plain: bytes | bytearray | memoryview) -> bool:
        self._repo.distrust_chunk(chunk)
        written, _ = self._repo.write_chunk(plain)
        return written == chunk

    def note(self, damage: Damage) -> str:
        """Write the note of a delta; its content means nothing."""
        self._repo.store.put(damage.key, b"delta\n")
        return _SELF

    def link_sums(self, head: CommitRecord, sums: LinkSums) -> str:
        """Put the sums of linked names in a branch right, by a new commit over its ``head``: which; "" when that has to
        be signed, which fsck does not."""
        if head.signed_by or self._repo.access.trusted:
            return ""
        right = sums.corrected(head.commit.root)
        base = self._repo.head(head.branch)
        if base is None or base.id != head.id:
            return ""  # it has moved on: the next fsck looks at what is there then
        made = self._repo.commit(head.branch, base, right, "fsck: numbers of linked names")
        return f"its own entries, in {made.branch}@{made.number}"

    def history(self, history: History, damages: Damages) -> None:
        """Restore commits, the newest first because each vouches for the one before it, then tags. What was restored
        is in ``history`` afterwards."""
        if self._other is None:
            return
        wanted = [(place, d) for d in damages if d.sort is Sort.COMMIT and (place := parse_commit_key(d.key))]
        for place, damage in sorted(wanted, key=lambda item: item[0], reverse=True):
            record = self._theirs(place)
            if record is not None and self._fits(history, place, record):
                self._copy(damage.key)
                history.commits[place] = self._repo.load_commit(*place)
                damage.repaired = self._other.store.url
        history.commits = dict(sorted(history.commits.items()))
        for damage in damages:
            if damage.sort is Sort.TAG and (name := parse_tag_key(damage.key)):
                self._tag(history, damage, name)

    def _fits(self, history: History, place: Place, record: CommitRecord) -> bool:
        """True when a commit of the other store is the one that belongs here: as those after it and tags say or, of
        a head, as the one before it says in a store that is a copy of this one."""
        assert self._other is not None
        if (place[0], place[1] + 1) not in history.commits and not self._repo.trusts(record):
            return False
        said = history.expected(place)
        if said:
            return said == {record.id}
        before = history.commits.get((place[0], place[1] - 1))
        return self._other.format.id == self._repo.format.id and (before is None or record.commit.parent == before.id)

    def _tag(self, history: History, damage: Damage, name: str) -> None:
        assert self._other is not None
        try:
            tag = self._other.read_tag(name)
        except (NotFoundError, CorruptError):
            return
        record = history.commits.get((tag.branch, tag.number))
        if record is not None and record.id == tag.commit:
            self._copy(damage.key)
            history.tags[name] = self._repo.read_tag(name)
            damage.repaired = self._other.store.url

    def _theirs(self, place: Place) -> CommitRecord | None:
        if self._other is None:
            return None
        try:
            return self._other.load_commit(*place)
        except (NotFoundError, CorruptError):
            return None

    def _copy(self, key: str) -> None:
        """The object as the other store has it, signatures and all."""
        assert self._other is not None
        copy_object(self._other.store, self._repo.store, key)


def copy_object(source: Store, target: Store, key: str) -> None:
    """Copy one object; when there is none yet, without replacing what somebody writes meanwhile."""
    data = source.get(key)
    if target.size(key) is not None:
        target.put(key, data)
        return
    try:
        target.put_if_absent(key, data)
    except AlreadyExistsError:
        return  # its writer has come back


def damaged_format(store: Store) -> Damage | None:
    """The damage of format.json in a prefix that holds a history all the same; None when there is no history."""
    if not any(parse_commit_key(info.key) for info in store.list(COMMITS)):
        return None
    missing = store.size(FORMAT_KEY) is None
    reason = (
        f"{FORMAT_KEY} of {store.url} is {'missing' if missing else 'damaged'}; nothing else can be read without it"
    )
    return Damage(Sort.FORMAT, FORMAT_KEY, Problem.MISSING if missing else Problem.DAMAGED, reason)


def restore_format(store: Store, other: Repository) -> bool:
    """Take format.json from a store that is a copy of this one: one whose commits are the same objects, sealed ones
    too."""
    for info in other.raw.list(COMMITS):
        if store.size(info.key) == info.size and store.get(info.key) == other.raw.get(info.key):
            copy_object(other.raw, store, FORMAT_KEY)
            return True
    return False
