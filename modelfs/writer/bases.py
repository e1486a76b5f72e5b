"""Earlier versions of the tensors that are being written, so that their chunks may be stored as differences.

Savers write to temporary names, into new directories beside the old ones, in shards: the path says little. A version
is found by the tensor: its name, element type and the piece of it, in this order of trust

1. files that the user names (``--base``, the attribute `user.modelfs.base`),
2. the version of the same file that is being replaced,
3. what this process wrote last,
4. when it does not know most of the tensors: files beside the new one in the branch, and in the newest directories
   beside its own.

Whether a version is near enough is decided by its bytes (`repository.chunks`). Nothing here fails a save, and only
small metadata is read: no listing of the store, no data.
"""

from __future__ import annotations

import logging
import posixpath
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from modelfs import limits
from modelfs.errors import ModelfsError
from modelfs.formats import tfbundle
from modelfs.formats.layout import Layout
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.repository.objects import Entry, Kind, Manifest
from modelfs.repository.ranges import Ranges
from modelfs.repository.repository import Repository, Tensor, Trial
from modelfs.writer.tensors import Key, Tensors, large, pieces

BASE_ATTRIBUTE: Final = b"user.modelfs.base"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a file is being written. ``root``: of the newest known commit; ``named``: paths that the user calls its
    earlier versions, files or directories."""

    root: Entry
    path: bytes
    named: tuple[bytes, ...] = ()


def resolve_named(path: bytes, named: bytes) -> tuple[bytes, ...]:
    """What ``named`` means for the file at ``path``: relative to its directory, or with a slash in front to the root.
    Nothing when it leads out of the branch."""
    found = posixpath.normpath(posixpath.join(b"/", posixpath.dirname(path), named)).lstrip(b"/")
    return (found,) if found else ()


class Earlier:
    """Earlier versions of the tensors of one file."""

    def __init__(self, layout: Layout, first: list[dict[Key, ChunkId]], known: Versions) -> None:
        self._tensors = Tensors(layout)
        self._first = first
        self._known = known
        self._trial = Trial()

    def take(self, layout: Layout) -> None:
        """The file has told more of its layout."""
        self._tensors = Tensors(layout)

    def tensor(self, offset: int, length: int) -> Tensor | None:
        """What is known of the chunk ``[offset, offset + length)``."""
        key, element = self._tensors.at(offset, length)
        if key is None:
            return Tensor(element) if element is not None else None
        found = [table[key] for table in self._first if key in table]
        earlier = tuple(dict.fromkeys((*found, *self._known.find(key))))
        return Tensor(element, earlier[: limits.DELTA_EARLIER], self._trial)


class Versions:
    """The newest versions of tensor pieces that this process has written or looked up; bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[Key, tuple[ChunkId, ...]] = OrderedDict()

    def find(self, key: Key) -> tuple[ChunkId, ...]:
        """Versions of a piece, newest first."""
        return self._found.get(key, ())

    def add(self, table: dict[Key, ChunkId]) -> None:
        """A version that is newer than all before."""
        with self._lock:
            for key, chunk in table.items():
                old = self._found.pop(key, ())
                self._found[key] = (chunk, *(c for c in old if c != chunk))[: limits.DELTA_EARLIER]
            while len(self._found) > limits.DELTA_PIECES:
                self._found.popitem(last=False)

    def missing(self, layout: Layout, least: int, longest: int) -> bool:
        """True when most of the layout's bytes belong to tensors of which no version is known."""
        total = unknown = 0
        for span in large(layout, least):
            total += span.length
            whole = (span.name, span.dtype, 0, span.length)
            if whole not in self._found and (span.name, span.dtype, 0, longest) not in self._found:
                unknown += span.length
        return 2 * unknown > total


class Bases:
    """Finds earlier versions for everything that one process writes to a store. Blocking; safe in many threads."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._versions = Versions()

    def earlier(self, layout: Layout, origin: Origin | None, replaced: Manifest | None) -> Earlier:
        """What to build the chunks of a file on. ``replaced``: the content that it had before."""
        first: list[dict[Key, ChunkId]] = []
        if layout.spans and self._repo.compression.value in limits.DELTA_MARGIN:
            params = self._repo.format.chunking
            try:
                if origin is not None:
                    first = list(self._named(origin))
                if replaced is not None:
                    first.append(self._pieces(replaced))
                if origin is not None and self._versions.missing(layout, params.group_size, params.avg_size):
                    for entry in reversed(list(_beside(self._repo, origin))):
                        self._versions.add(self._pieces(self._repo.read_manifest(ManifestId(entry.content))))
            except ModelfsError as error:
                log.warning("earlier versions of %r are not looked for: %s", origin and origin.path, error)
        return Earlier(layout, first, self._versions)

    def guess(self, origin: Origin, size: int | None) -> Layout | None:
        """The layout of a file that does not tell it: a data file of a TensorFlow bundle, whose index is written after
        it. That of an earlier bundle beside it is taken if the size is right (None: not known yet)."""
        directory, _, name = origin.path.rpartition(b"/")
        shard = tfbundle.shard_of(name)
        if shard is None:
            return None
        try:
            # TensorFlow writes into a directory of its own beside the last bundle, then renames
            beside = _entries(self._repo, origin.root, directory)
            if directory:
                beside += _entries(self._repo, origin.root, directory.rpartition(b"/")[0])
            indexes = (e for e in beside if e.name.endswith(tfbundle.INDEX_SUFFIX) and e.size <= tfbundle.INDEX_MAX)
            for entry in islice(_newest(indexes), limits.DELTA_FILES):
                found = tfbundle.parse_index(self._content(entry), shard)
                if found is not None and size in (None, found.size):
                    return found
        except ModelfsError as error:
            log.warning("the layout of %r is not looked for: %s", origin.path, error)
        return None

    def _content(self, entry: Entry) -> bytes:
        if entry.kind is not Kind.FILE:
            return entry.content if entry.kind is Kind.INLINE else b""
        return Ranges(self._repo, self._repo.read_manifest(ManifestId(entry.content))).read(0, entry.size)

    def written(self, layout: Layout | None, manifest: Manifest) -> None:
        """Remember a file that is in the store now."""
        if layout is not None and layout.spans:
            self._versions.add(pieces(layout, manifest))

    def _named(self, origin: Origin) -> Iterator[dict[Key, ChunkId]]:
        for path in origin.named:
            found = self._repo.find(origin.root, path)
            if found is None:
                log.warning("%r is named as the base of %r, but is not in the branch", path, origin.path)
                continue
            below = [found]
            if found.kind is Kind.DIRECTORY:
                entries = self._repo.walk(TreeId(found.content))
                below = [entry for _, entry in islice(entries, limits.DELTA_ENTRIES)]
            for entry in below:
                if entry.kind is Kind.FILE:
                    yield self._pieces(self._repo.read_manifest(ManifestId(entry.content)))

    def _pieces(self, manifest: Manifest) -> dict[Key, ChunkId]:
        layout = self._repo.read_layout(manifest)
        return pieces(layout, manifest) if layout is not None else {}


def _beside(repo: Repository, origin: Origin) -> Iterator[Entry]:
    """Files of the branch that are likely to be earlier versions, the likeliest first."""
    directory, _, name = origin.path.rpartition(b"/")
    parent = directory.rpartition(b"/")[0]
    found = list(_entries(repo, origin.root, directory))
    files = [entry for entry in found if entry.kind is Kind.FILE]
    if directory:
        around = [e for e in _entries(repo, origin.root, parent) if e.name != directory.rpartition(b"/")[2]]
        files += [entry for entry in around if entry.kind is Kind.FILE]
        directories = (entry for entry in around if entry.kind is Kind.DIRECTORY)
    else:
        directories = (entry for entry in found if entry.kind is Kind.DIRECTORY)
    for sibling in islice(_newest(directories), limits.DELTA_DIRECTORIES):
        inside = islice(repo.list(TreeId(sibling.content)), limits.DELTA_ENTRIES)
        files += [entry for entry in inside if entry.kind is Kind.FILE]
    likely = sorted(_newest(files), key=lambda entry: entry.name != name)
    return islice(likely, limits.DELTA_FILES)


def _entries(repo: Repository, root: Entry, path: bytes) -> list[Entry]:
    found = repo.find(root, path) if path else root
    if found is None or found.kind is not Kind.DIRECTORY:
        return []
    return list(islice(repo.list(TreeId(found.content)), limits.DELTA_ENTRIES))


def _newest(entries: Iterable[Entry]) -> Iterator[Entry]:
    return iter(sorted(entries, key=lambda entry: entry.mtime_ns, reverse=True))
