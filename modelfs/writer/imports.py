"""Files that exist elsewhere -> a branch, without a mount: what `modelfs import` does.

Several files are read at once, each once and in order, and share the threads of one upload. A file that the branch
has with the same size and modification time is not read; of one that is read only the chunks that the store lacks are
sent. So a run that was stopped costs reading again, and what it had committed not even that. Nothing of the branch is
removed.

With ``link`` the chunks that the store lacks become links to where they were read. Every byte is read all the same,
because chunks are named by what is in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import msgspec

from modelfs import limits
from modelfs.codecs import Link
from modelfs.errors import CorruptError, UsageError
from modelfs.ids import ChunkId, ManifestId
from modelfs.repository.graft import check_place, graft
from modelfs.repository.objects import CommitRecord, Entry, Kind
from modelfs.repository.originals import State
from modelfs.repository.places import key_parts
from modelfs.repository.repository import Repository
from modelfs.writer.bases import Origin
from modelfs.writer.ingest import Ingest, Ingested, Progress
from modelfs.writer.sources import Item, Original, Source


@dataclass(slots=True)
class Imported:
    """What became of it. Sizes in bytes: ``bytes`` of files that were read, ``sent`` of them to the store."""

    files: int = 0
    bytes: int = 0
    sent: int = 0
    same: int = 0
    same_bytes: int = 0
    commits: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to do: ``wanted`` is new or changed, ``same`` files are in the branch as they are."""

    wanted: tuple[Item, ...]
    same: int
    same_bytes: int

    @property
    def bytes(self) -> int:
        """Bytes of the files that are to be read."""
        return sum(item.entry.size for item in self.wanted if item.is_file)

    @property
    def files(self) -> int:
        """How many files are to be read."""
        return sum(item.is_file for item in self.wanted)


class Import:
    """Brings items of a source into one branch. ``group``: commit whenever so many bytes were read; 0: once, in the
    end. ``link``: copy no bytes; ``sources``: URLs that links lead to then."""

    def __init__(self, repo: Repository, branch: str, message: str, group: int = 0, *, link: bool = False) -> None:
        self._repo = repo
        self._branch = branch
        self._message = message
        self._group = group
        self._link = link
        self.sources: set[str] = set()
        self._head = repo.resolve(branch)

    def plan(self, source: Source, items: Iterator[Item]) -> Plan:
        """Compare with the branch. Errors of the source as they come; UsageError when a file stands where a directory
        is needed."""
        wanted: list[Item] = []
        directories: set[bytes] = set()  # that come, or are there
        same = same_bytes = 0
        for item in items:
            check_place(item.path)
            self._check_above(item.path, directories)
            if item.entry.kind is Kind.DIRECTORY:
                directories.add(item.path)
            there = self._repo.find(self._head.commit.root, item.path)
            if not _same(item.entry, there) or (self._link and item.is_file and self._astray(source, item, there)):
                wanted.append(item)
            elif item.is_file:
                same += 1
                same_bytes += item.entry.size
        return Plan(tuple(wanted), same, same_bytes)

    def _astray(self, source: Source, item: Item, there: Entry | None) -> bool:
        """True when links of a file in the branch lead neither to where it is now nor to where it is as it was."""
        if there is None or there.kind is not Kind.FILE:
            return False
        chunks = [e for e in self._repo.read_manifest(ManifestId(there.content)).chunks if e.id]
        # The last one: links are written in order.
        last = next((e for e in reversed(chunks) if e.length > limits.LINK_OBJECT_MAX), None)
        try:
            link = self._repo.stored_link(ChunkId(last.id)) if last is not None else None
            if link is None:
                return False
            original = source.original(item)
            if original.place == self._repo.place_of(link):
                return (original.size, original.mtime_ns) != (link.size, link.mtime_ns)
        except (CorruptError, ValueError):
            return True
        return self._repo.look_at_original(link).state is not State.FINE

    def _check_above(self, path: bytes, directories: set[bytes]) -> None:
        above = path.rpartition(b"/")[0]
        if not above or above in directories:
            return
        self._check_above(above, directories)
        there = self._repo.find(self._head.commit.root, above)
        if there is not None and there.kind is not Kind.DIRECTORY:
            raise UsageError(f"{os.fsdecode(above)} is a file in the store, not a directory")
        directories.add(above)

    def run(self, source: Source, plan: Plan, progress: Progress) -> Imported:
        """Do it. OSError and StoreError as they come, UsageError for a file that changes while it is read; what was
        committed before stays."""
        report = Imported(same=plan.same, same_bytes=plan.same_bytes, number=self._head.number)
        puts: dict[bytes, Entry] = {}
        since = 0
        with (
            Ingest(self._repo, limits.IMPORT_FILES) as ingest,
            ThreadPoolExecutor(limits.IMPORT_FILES, "import") as pool,
        ):

            def bring(item: Item) -> Ingested:
                origin = Origin(self._head.commit.root, item.path)
                original = source.original(item) if self._link else None
                link = self._link_to(original) if original is not None else None
                with source.reading(item) as read:
                    found = ingest.content(item.where, item.entry.size, read, progress, origin, None, link)
                if original is not None and source.original(item) != original:
                    raise UsageError(f"{item.where} was changed while it was read; run it again")
                return found

            running: dict[Future[Ingested], Item] = {}
            try:
                for item in (*plan.wanted, None):
                    while running and (item is None or len(running) > limits.IMPORT_FILES):
                        for future in wait(running, return_when=FIRST_COMPLETED).done:
                            done, found = running.pop(future), future.result()
                            puts[done.path] = _entry(done, found)
                            report.files += 1
                            report.bytes += found.size
                            report.sent += found.sent
                            since += found.size
                    if item is not None and item.is_file:
                        running[pool.submit(bring, item)] = item
                    elif item is not None:
                        puts[item.path] = item.entry
                    if puts and (item is None or 0 < self._group <= since):
                        self._commit(puts, since, report)
                        puts, since = {}, 0
            finally:
                for future in running:
                    future.cancel()
        return report

    def _link_to(self, original: Original) -> Link | None:
        """A link to the beginning of a file; None for a name that links do not take: its bytes are copied."""
        try:
            key_parts(original.key)
            source = self._repo.add_source(original.url)
        except ValueError:
            return None
        self.sources.add(original.url)
        return Link(source, original.key, 0, original.size, original.mtime_ns)

    def _commit(self, puts: dict[bytes, Entry], size: int, report: Imported) -> None:
        files = sum(entry.kind in (Kind.FILE, Kind.INLINE) for entry in puts.values())
        root = graft(self._repo, self._head.commit.root, puts)
        made: CommitRecord = self._repo.commit(self._branch, self._head, root, self._message, files, size)
        self._head = made
        report.commits += 1
        report.number = made.number


def _entry(item: Item, found: Ingested) -> Entry:
    return msgspec.structs.replace(item.entry, kind=found.kind, content=found.content, size=found.size)


def _same(entry: Entry, there: Entry | None) -> bool:
    """True when the branch has it: directories stay as they are, files are told by size and modification time."""
    if there is None:
        return False
    if entry.kind is Kind.DIRECTORY:
        return there.kind is Kind.DIRECTORY
    if entry.kind is Kind.SYMLINK:
        return there.kind is Kind.SYMLINK and there.content == entry.content
    return there.kind in (Kind.FILE, Kind.INLINE) and (there.size, there.mtime_ns) == (entry.size, entry.mtime_ns)
