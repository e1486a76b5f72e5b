"""What the cache holds: an SQLite database shared by all processes that use one cache directory.

Two facts are kept: which files there are (manifest, use, pin) and which chunk lies where in which of them. A row of
a chunk exists only while its bytes do: rows are added under LOCK_SH on the file and removed together with the bytes
under LOCK_EX. New rows wait in memory and are committed in batches; other processes may miss them until then, which
costs at most a fetch. Ages are counted in uses, not in seconds, so a wrong clock evicts nothing.

Every method may be called from any thread; connections are pooled, because worker threads come and go. A failure of
the database is a CacheError. Durability is not promised: readers verify what they find.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from modelfs import limits
from modelfs.cache import names
from modelfs.cache.schema import connect
from modelfs.errors import CacheError
from modelfs.ids import ChunkId, ManifestId

log = logging.getLogger(__name__)

# Eviction must spare what a pinned manifest borrows from other files.
_SPARED: Final = (
    "(f.pinned OR EXISTS (SELECT 1 FROM uses u JOIN files p ON p.id = u.file WHERE u.other = f.id AND p.pinned))"
)


_FILE_ROW: Final = "id, manifest, size, resident, pinned, used, last_use, sealed"


class Place(NamedTuple):
    """Where a chunk lies."""

    manifest: ManifestId
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class FileRow:
    """One cache file. ``used`` orders files by their last use, ``last_use`` is that moment in Unix seconds; ``sealed``
    as `Index.seal` noted it."""

    id: int
    manifest: ManifestId
    size: int
    resident: int
    pinned: bool
    used: int
    last_use: float
    sealed: int


class _Waiting(NamedTuple):
    chunk: ChunkId
    place: Place


class Index:
    """The index of one cache directory, as one process sees it."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._pool = threading.Condition()
        self._busy = 0  # connections in use
        self._closed = False
        self._lock = threading.RLock()  # of the rows that wait
        self._waiting: dict[tuple[int, int], _Waiting] = {}
        self._waiting_bytes = 0
        self._by_chunk: dict[ChunkId, tuple[int, int]] = {}
        self._flush_bytes = int(limit * limits.CACHE_FLUSH_SHARE)
        self._lost = False

    # --- connections

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading. CacheError."""
        with self._pool:
            if self._closed:
                raise CacheError("the cache is closed")
            connection = self._idle.pop() if self._idle else None
            self._busy += 1
        try:
            if connection is None:
                connection = connect(self._path)
            yield connection
        except sqlite3.Error as error:
            raise CacheError(f"cache index {self._path}: {error}") from error
        finally:
            self._put_back(connection)

    def _put_back(self, connection: sqlite3.Connection | None) -> None:
        with self._pool:
            self._busy -= 1
            self._pool.notify_all()
            if connection is None:
                return
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)

    def before_fork(self, patience: float) -> None:
        """This process is about to fork, and SQLite must not be open then: its locks do not go over to the child, which
        would believe that it has them. Connections in use are waited for, ``patience`` seconds at most, and none begins
        until `after_fork` is called by the same thread."""
        self._pool.acquire()
        self._pool.wait_for(lambda: not self._busy, patience)
        while self._idle:
            self._idle.pop().close()

    def after_fork(self) -> None:
        """The fork is made; for the parent only."""
        self._pool.release()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection on which all happens or nothing. CacheError."""
        with self.connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    # --- files

    def opened(self, manifest: ManifestId, size: int | None = None, path: bytes = b"") -> int:
        """The row id of a file that is being used now, made if it is new. The caller holds a lock on the file.

        A ``size`` of None leaves what is known of it. ``path``: where in the store it was found.
        """
        with self.transaction() as db:
            used = _tick(db)
            db.execute(
                "INSERT INTO files (manifest, size, used, last_use) VALUES (?1, ifnull(?2, 0), ?3, ?4) "
                "ON CONFLICT (manifest) DO UPDATE SET size = ifnull(?2, size), used = ?3, last_use = ?4",
                (manifest, size, used, time.time()),
            )
            file = _file_id(db, manifest)
            if path:
                names.add(db, file, path)
            return file

    def used(self, file: int, others: Iterable[ManifestId]) -> None:
        """Note that ``file`` is being read now, together with the files it borrows chunks from."""
        with self.transaction() as db:
            moment = time.time()
            for other in others:
                db.execute("UPDATE files SET used = ?, last_use = ? WHERE manifest = ?", (_tick(db), moment, other))
                db.execute(
                    "INSERT OR IGNORE INTO uses SELECT a.id, b.id FROM files a, files b "
                    "WHERE a.id = ? AND b.manifest = ?",
                    (file, other),
                )
            db.execute("UPDATE files SET used = ?, last_use = ? WHERE id = ?", (_tick(db), moment, file))

    def seal(self, manifest: ManifestId, moment: int) -> None:
        """Note that every row of a file was verified and its bytes are on the disk while the file's change time was
        ``moment`` (nanoseconds): as long as it still is, nobody has touched them."""
        with self.transaction() as db:
            db.execute("UPDATE files SET sealed = ? WHERE manifest = ?", (moment, manifest))

    def sealed(self, manifest: ManifestId) -> int:
        """The change time with which a file was sealed; 0: it was not."""
        with self.connection() as db:
            row = db.execute("SELECT sealed FROM files WHERE manifest = ?", (manifest,)).fetchone()
            return int(row[0]) if row is not None else 0

    def files(self) -> list[FileRow]:
        """Every file, least recently used first."""
        with self.connection() as db:
            rows = db.execute(f"SELECT {_FILE_ROW} FROM files ORDER BY used")
            return [_file_row(row) for row in rows]

    def rows(self, manifests: Iterable[ManifestId]) -> list[FileRow]:
        """The files of these manifests that have a row."""
        with self.connection() as db:
            found = (
                db.execute(f"SELECT {_FILE_ROW} FROM files WHERE manifest = ?", (one,)).fetchone() for one in manifests
            )
            return [_file_row(row) for row in found if row is not None]

    def evictable(self, after: int, even_pinned: bool) -> list[FileRow]:
        """The next candidates in order of use, after the use number ``after``."""
        with self.connection() as db:
            rows = db.execute(
                f"SELECT {_FILE_ROW} FROM files f WHERE used > ? AND (? OR NOT {_SPARED}) ORDER BY used LIMIT ?",
                (after, even_pinned, limits.CACHE_EVICT_BATCH),
            )
            return [_file_row(row) for row in rows]

    def counts(self) -> tuple[int, int]:
        """Numbers of files and of chunks."""
        with self._lock, self.connection() as db:
            files, chunks = db.execute("SELECT (SELECT count(*) FROM files), (SELECT count(*) FROM chunks)").fetchone()
            return files, chunks + len(self._waiting)

    def bytes(self) -> int:
        """Bytes of all chunks held, those whose rows still wait here included."""
        with self._lock, self.connection() as db:
            (total,) = db.execute("SELECT bytes FROM totals").fetchone()
            return int(total) + self._waiting_bytes

    def doubled(self) -> int:
        """Bytes of chunks that are held in more than one place, but for once each. Looks at every row."""
        with self.connection() as db:
            (total,) = db.execute("SELECT ifnull(sum(length), 0) FROM chunks").fetchone()
            (once,) = db.execute(
                "SELECT ifnull(sum(length), 0) FROM (SELECT max(length) AS length FROM chunks GROUP BY chunk)"
            ).fetchone()
            return int(total) - int(once)

    def limit(self) -> int:
        """How many bytes the cache may hold, as was said last; of a cache of which nobody said it the default."""
        with self.connection() as db:
            (said,) = db.execute("SELECT size_limit FROM totals").fetchone()
            return limits.CACHE_SIZE_DEFAULT if said is None else int(said)

    def set_limit(self, limit: int) -> None:
        """Say it, to every process that uses the cache."""
        with self.transaction() as db:
            db.execute("UPDATE totals SET size_limit = ?", (limit,))

    # --- chunks

    def add(self, file: int, place: Place, chunk: ChunkId) -> None:
        """Note a chunk that was written. The caller holds LOCK_SH on the file until `settle` returned."""
        key = (file, place.offset)
        with self._lock:
            if key in self._waiting:
                return
            self._waiting[key] = _Waiting(chunk, place)
            self._waiting_bytes += place.length
            self._by_chunk[chunk] = key
            if len(self._waiting) >= limits.CACHE_FLUSH_ROWS or self._waiting_bytes >= self._flush_bytes:
                self._try_flush()

    def flush(self) -> None:
        """Commit the rows that wait."""
        with self._lock:
            if not self._waiting:
                return
            with self.transaction() as db:
                for (file, offset), (chunk, place) in self._waiting.items():
                    added = db.execute(
                        "INSERT OR IGNORE INTO chunks SELECT id, ?, ?, ? FROM files WHERE id = ?",
                        (offset, chunk, place.length, file),
                    )
                    if added.rowcount:
                        _adjust(db, file, place.length)
            self._waiting.clear()
            self._by_chunk.clear()
            self._waiting_bytes = 0

    def waiting(self) -> bool:
        """True while there are rows that other processes cannot see yet."""
        return bool(self._waiting)

    def settle(self, file: int) -> None:
        """Commit, or else forget, the rows of ``file`` that wait: its lock is about to be released."""
        with self._lock:
            if self._try_flush():
                return
            for key in [key for key in self._waiting if key[0] == file]:
                self._drop_waiting(key)
                self._lost = True

    def _try_flush(self) -> bool:
        try:
            self.flush()
        except CacheError as error:
            log.warning("%d chunks are in the cache but not in its index yet: %s", len(self._waiting), error)
            return False
        return True

    def _drop_waiting(self, key: tuple[int, int]) -> None:
        chunk, place = self._waiting.pop(key)
        self._waiting_bytes -= place.length
        if self._by_chunk.get(chunk) == key:
            del self._by_chunk[chunk]

    def places(self, file: int, manifest: ManifestId) -> list[tuple[ChunkId, Place]]:
        """Every committed chunk of one file in order; one that is there twice has two places."""
        with self.connection() as db:
            rows = db.execute("SELECT chunk, offset, length FROM chunks WHERE file = ? ORDER BY offset", (file,))
            return [(ChunkId(chunk), Place(manifest, offset, length)) for chunk, offset, length in rows]

    def offsets(self, manifest: ManifestId) -> set[int]:
        """Where the committed chunks of one file begin."""
        with self.connection() as db:
            rows = db.execute(
                "SELECT c.offset FROM chunks c JOIN files f ON f.id = c.file WHERE f.manifest = ?", (manifest,)
            )
            return {offset for (offset,) in rows}

    def find(self, chunks: Sequence[ChunkId]) -> dict[ChunkId, list[Place]]:
        """All places of the chunks that are held. Trust one only if it was looked up under a lock on its file."""
        found: dict[ChunkId, list[Place]] = {}
        with self._lock:
            for chunk in chunks if self._waiting else ():
                if (key := self._by_chunk.get(chunk)) is not None:
                    found.setdefault(chunk, []).append(self._waiting[key].place)
        with self.connection() as db:
            for start in range(0, len(chunks), limits.CACHE_LOOKUP_BATCH):
                batch = chunks[start : start + limits.CACHE_LOOKUP_BATCH]
                rows = db.execute(
                    "SELECT c.chunk, f.manifest, c.offset, c.length FROM chunks c JOIN files f ON f.id = c.file "
                    f"WHERE c.chunk IN ({','.join('?' * len(batch))})",
                    batch,
                )
                for chunk, manifest, offset, length in rows:
                    found.setdefault(ChunkId(chunk), []).append(Place(ManifestId(manifest), offset, length))
        return found

    def forget(self, place: Place) -> None:
        """Remove one chunk whose bytes turned out wrong; they stay where they are."""
        with self._lock, self.transaction() as db:
            row = db.execute("SELECT id FROM files WHERE manifest = ?", (place.manifest,)).fetchone()
            if row is None:
                return
            if (row[0], place.offset) in self._waiting:
                self._drop_waiting((row[0], place.offset))
            gone = db.execute("DELETE FROM chunks WHERE file = ? AND offset = ?", (row[0], place.offset))
            if gone.rowcount:
                _adjust(db, row[0], -place.length)

    # --- taking away and replacing: the caller holds LOCK_EX on the file

    def drop(self, row: FileRow, even_pinned: bool = False) -> bool:
        """Remove a file and its chunks; False when it was used or pinned since ``row`` was read."""
        with self.transaction() as db:
            if not _unchanged(db, row, even_pinned):
                return False
            _adjust(db, row.id, -_clear_chunks(db, row.id))
            db.execute("DELETE FROM uses WHERE file = ?1 OR other = ?1", (row.id,))
            db.execute("DELETE FROM names WHERE file = ?", (row.id,))
            db.execute("DELETE FROM files WHERE id = ?", (row.id,))
            return True

    def cut(self, row: FileRow, wanted: int, even_pinned: bool = False) -> list[tuple[int, int]] | None:
        """Remove chunks from the end of a file until ``wanted`` bytes are free; their ranges. None as for `drop`."""
        with self.transaction() as db:
            if not _unchanged(db, row, even_pinned):
                return None
            ranges: list[tuple[int, int]] = []
            freed = 0
            for offset, length in db.execute(
                "SELECT offset, length FROM chunks WHERE file = ? ORDER BY offset DESC", (row.id,)
            ):
                if freed >= wanted:
                    break
                ranges.append((offset, length))
                freed += length
            db.executemany("DELETE FROM chunks WHERE file = ? AND offset = ?", [(row.id, at) for at, _ in ranges])
            _adjust(db, row.id, -freed)
            return ranges

    def replace(self, manifest: ManifestId, size: int, chunks: Iterable[tuple[ChunkId, int, int]]) -> None:
        """Make (chunk, offset, length) all that the file of ``manifest`` holds; a pin stays."""
        with self.transaction() as db:
            db.execute(
                "INSERT INTO files (manifest, size, used, last_use) VALUES (?1, ?2, ?3, ?4) "
                "ON CONFLICT (manifest) DO UPDATE SET size = ?2, used = ?3, last_use = ?4",
                (manifest, size, _tick(db), time.time()),
            )
            file = _file_id(db, manifest)
            gone = _clear_chunks(db, file)
            rows = [(file, offset, chunk, length) for chunk, offset, length in chunks]
            db.executemany("INSERT INTO chunks VALUES (?, ?, ?, ?)", rows)
            _adjust(db, file, sum(length for *_, length in rows) - gone)

    # --- sessions

    def begin(self) -> int:
        """Note that a process uses the cache; the number is for `end`."""
        with self.transaction() as db:
            return db.execute("INSERT INTO sessions (started) VALUES (?)", (time.time(),)).lastrowid or 0

    def sessions(self) -> int:
        """How many processes use the cache, those included that ended uncleanly since one of them was alone."""
        with self.connection() as db:
            return int(db.execute("SELECT count(*) FROM sessions").fetchone()[0])

    def unclean(self) -> bool:
        """True when a session did not end as it should. Meaningful only while no other process uses the cache."""
        with self.connection() as db:
            return db.execute("SELECT 1 FROM sessions LIMIT 1").fetchone() is not None

    def forget_sessions(self) -> None:
        """What an unclean stop left was put right."""
        with self.transaction() as db:
            db.execute("DELETE FROM sessions")

    def end(self, session: int) -> None:
        """Commit what waits and close. A session that lost rows stays noted, so that the next one puts that right."""
        with self._lock:
            self._lost = not self._try_flush() or self._lost
            try:
                if not self._lost:
                    with self.transaction() as db:
                        db.execute("DELETE FROM sessions WHERE id = ?", (session,))
            except CacheError as error:
                log.warning("the cache was not closed cleanly: %s", error)
        self.close()

    def close(self) -> None:
        """Close all connections."""
        with self._pool:
            self._closed = True
            while self._idle:
                self._idle.pop().close()


def _file_row(row: tuple[int, bytes, int, int, int, int, float, int]) -> FileRow:
    file, manifest, size, resident, pinned, used, last_use, sealed = row
    return FileRow(file, ManifestId(manifest), size, resident, bool(pinned), used, last_use, sealed)


def _tick(db: sqlite3.Connection) -> int:
    db.execute("UPDATE totals SET tick = tick + 1")
    return int(db.execute("SELECT tick FROM totals").fetchone()[0])


def _file_id(db: sqlite3.Connection, manifest: ManifestId) -> int:
    return int(db.execute("SELECT id FROM files WHERE manifest = ?", (manifest,)).fetchone()[0])


def _adjust(db: sqlite3.Connection, file: int, difference: int) -> None:
    db.execute("UPDATE files SET resident = resident + ? WHERE id = ?", (difference, file))
    db.execute("UPDATE totals SET bytes = bytes + ?", (difference,))


def _clear_chunks(db: sqlite3.Connection, file: int) -> int:
    (freed,) = db.execute("SELECT ifnull(sum(length), 0) FROM chunks WHERE file = ?", (file,)).fetchone()
    db.execute("DELETE FROM chunks WHERE file = ?", (file,))
    return int(freed)


def _unchanged(db: sqlite3.Connection, row: FileRow, even_pinned: bool) -> bool:
    return (
        db.execute(
            f"SELECT 1 FROM files f WHERE id = ? AND used = ? AND (? OR NOT {_SPARED})", (row.id, row.used, even_pinned)
        ).fetchone()
        is not None
    )
