"""Pins: files of the cache that eviction spares, with what they borrow from other files, until they are unpinned.

A pin is of one version of a file. It is in the index, so it outlives every process, and it keeps room for the whole
file, also for what is not here yet: pins that would not fit into the limit together are refused. Used by `Cache`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from modelfs.cache.index import Index
from modelfs.errors import UsageError
from modelfs.ids import ChunkId, ManifestId
from modelfs.repository.objects import Manifest


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version of a file that somebody wants to have here."""

    path: bytes
    id: ManifestId
    manifest: Manifest


def needs(manifest: Manifest) -> int:
    """Bytes of cache that a whole file takes: each distinct chunk once, zeros not at all."""
    return sum({extent.id: extent.length for extent in manifest.chunks if extent.id}.values())


def reserved(index: Index, besides: Sequence[ManifestId] = ()) -> int:
    """Bytes that the pins keep room for, those of some files left out. CacheError."""
    with index.connection() as db:
        return _reserved(db, besides)


def _reserved(db: sqlite3.Connection, besides: Sequence[ManifestId]) -> int:
    left_out = set(besides)
    rows = db.execute("SELECT manifest, needs FROM files WHERE pinned")
    return sum(bytes_ for manifest, bytes_ in rows if manifest not in left_out)


def pin(index: Index, files: Sequence[Wanted]) -> None:
    """Pin all of the files, or, with a UsageError, none. CacheError."""
    index.flush()
    wanted = {file.id: file for file in files}
    limit = index.limit()
    with index.transaction() as db:
        held = _reserved(db, list(wanted))
        more = sum(needs(file.manifest) for file in wanted.values())
        if held + more > limit:
            raise UsageError(
                f"pinning this takes {more} bytes, and the cache is limited to {limit}"
                + (f", of which {held} are pinned already" if held else "")
            )
        for file in wanted.values():
            _pin(db, file)


def _pin(db: sqlite3.Connection, file: Wanted) -> None:
    (used,) = db.execute("UPDATE totals SET tick = tick + 1 RETURNING tick").fetchone()
    (row,) = db.execute(
        "INSERT INTO files (manifest, size, used, last_use, pinned, needs) VALUES (?1, ?2, ?3, ?4, 1, ?5) "
        "ON CONFLICT (manifest) DO UPDATE SET size = ?2, pinned = 1, needs = ?5 RETURNING id",
        (file.id, file.manifest.size, used, time.time(), needs(file.manifest)),
    ).fetchone()
    # What other files hold of it now is noted as borrowed, so that they are spared as well.
    for chunk in {ChunkId(extent.id) for extent in file.manifest.chunks if extent.id}:
        places = [holder for (holder,) in db.execute("SELECT file FROM chunks WHERE chunk = ?", (chunk,))]
        if places and row not in places:
            db.execute("INSERT OR IGNORE INTO uses VALUES (?, ?)", (row, places[0]))


def unpin(index: Index, manifests: Sequence[ManifestId]) -> int:
    """Let files be evicted again; how many were pinned. CacheError."""
    with index.transaction() as db:
        return sum(
            db.execute("UPDATE files SET pinned = 0, needs = 0 WHERE manifest = ? AND pinned", (one,)).rowcount
            for one in manifests
        )
