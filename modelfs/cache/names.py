"""Under which paths of its store a cached file was seen, for people: nothing is ever found or trusted by them.

Noted when a file is opened by path, kept as long as the cache holds the file; after a rename or a new save the paths
are those of back then. Used by the index, and by `modelfs cache` to list, evict and unpin by path.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from modelfs import limits
from modelfs.ids import ManifestId

if TYPE_CHECKING:
    from modelfs.cache.index import Index


def add(db: sqlite3.Connection, file: int, path: bytes) -> None:
    """Note that the file of a row was found at ``path``, in the transaction of ``db``. The oldest names go."""
    db.execute(
        "INSERT INTO names VALUES (?1, ?2, ?3) ON CONFLICT (file, path) DO UPDATE SET seen = ?3",
        (file, path, time.time()),
    )
    db.execute(
        "DELETE FROM names WHERE file = ?1 AND path NOT IN "
        "(SELECT path FROM names WHERE file = ?1 ORDER BY seen DESC LIMIT ?2)",
        (file, limits.CACHE_NAMES),
    )


def note(index: Index, manifest: ManifestId, path: bytes) -> None:
    """Note a path of a file that has a row. CacheError."""
    with index.transaction() as db:
        row = db.execute("SELECT id FROM files WHERE manifest = ?", (manifest,)).fetchone()
        if row is not None:
            add(db, row[0], path)


def of_all(index: Index) -> dict[ManifestId, tuple[bytes, ...]]:
    """The paths of every file that has any, the newest first. CacheError."""
    found: dict[ManifestId, tuple[bytes, ...]] = {}
    with index.connection() as db:
        rows = db.execute("SELECT f.manifest, n.path FROM names n JOIN files f ON f.id = n.file ORDER BY n.seen DESC")
        for manifest, path in rows:
            found[ManifestId(manifest)] = (*found.get(ManifestId(manifest), ()), path)
    return found


def below(index: Index, path: bytes) -> list[ManifestId]:
    """Files that were seen at ``path`` or below it (b"": all that have a name). CacheError."""
    with index.connection() as db:
        rows = db.execute(
            "SELECT DISTINCT f.manifest FROM names n JOIN files f ON f.id = n.file "
            "WHERE ?1 = x'' OR n.path = ?1 OR substr(n.path, 1, length(?2)) = ?2",
            (path, path + b"/"),
        )
        return [ManifestId(manifest) for (manifest,) in rows]
