"""How much of a store a set of files takes: as files, as distinct chunks, as stored bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from modelfs import codecs, limits
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.repository.keys import DELTAS, chunk_key, parse_base_key
from modelfs.repository.objects import Entry, Kind
from modelfs.repository.repository import Repository


@dataclass(slots=True)
class Usage:
    """What a set of files refers to. ``chunks``: length of each; ``inline``: contents that lie in the trees."""

    files: int = 0
    logical: int = 0
    chunks: dict[ChunkId, int] = field(default_factory=dict)
    inline: set[bytes] = field(default_factory=set)
    _seen: set[bytes] = field(default_factory=set)

    def add(self, repo: Repository, entries: Iterable[Entry]) -> None:
        """Count more files. Errors as `Repository.read_manifest`."""
        for entry in entries:
            if entry.kind not in (Kind.FILE, Kind.INLINE):
                continue
            self.files += 1
            self.logical += entry.size
            if entry.kind is Kind.INLINE:
                self.inline.add(entry.content)
            elif entry.content not in self._seen:
                self._seen.add(entry.content)
                manifest = repo.read_manifest(ManifestId(entry.content))
                self.chunks.update((ChunkId(extent.id), extent.length) for extent in manifest.chunks if extent.id)

    @property
    def unique(self) -> int:
        """Bytes after deduplication."""
        return sum(self.chunks.values()) + sum(map(len, self.inline))

    def stored(self, sizes: Mapping[str, int]) -> int:
        """Bytes in the store, given what `chunk_sizes` says."""
        return sum(sizes.get(chunk_key(chunk), 0) for chunk in self.chunks) + sum(map(len, self.inline))


def chunk_sizes(repo: Repository) -> dict[str, int]:
    """Stored bytes of every chunk of the store, by key."""
    return {found.key: found.size for found in repo.store.list("data/")}


def bases(repo: Repository) -> Iterator[tuple[ChunkId, ChunkId]]:
    """(base, delta) for every delta that was ever announced."""
    for found in repo.store.list(DELTAS):
        pair = parse_base_key(found.key)
        if pair is not None:
            yield pair


def extent(repo: Repository, entry: Entry) -> tuple[int, int]:
    """Files and logical bytes of an entry and what is below it."""
    if entry.kind is not Kind.DIRECTORY:
        return 1, entry.size
    found = [e for _, e in repo.walk(TreeId(entry.content)) if e.kind in (Kind.FILE, Kind.INLINE)]
    return len(found), sum(e.size for e in found)


@dataclass(slots=True)
class CodecUsage:
    """Chunks of one codec. Sizes in bytes."""

    chunks: int = 0
    plain: int = 0
    stored: int = 0


def by_codec(
    repo: Repository, usage: Usage, sizes: Mapping[str, int], progress: Callable[[int], None]
) -> dict[str, CodecUsage]:
    """What each codec makes of the chunks. Asks the store for one byte of each; ``progress`` hears of plain bytes."""
    found: dict[str, CodecUsage] = {}

    def codec(chunk: ChunkId) -> str:
        return codecs.codec_name(repo.store.get_range(chunk_key(chunk), 0, 1))

    with ThreadPoolExecutor(limits.STORE_CONCURRENCY, "du") as pool:
        for (chunk, length), name in zip(usage.chunks.items(), pool.map(codec, usage.chunks), strict=True):
            row = found.setdefault(name, CodecUsage())
            row.chunks += 1
            row.plain += length
            row.stored += sizes.get(chunk_key(chunk), 0)
            progress(length)
    return found
