"""The tables of the cache's index and the settings of every connection to it.

`connect` is what the index opens connections with, `create` what the directory calls once for a new database,
`damage` says whether an existing one can be trusted.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from modelfs import limits

VERSION: Final = 3

# A chunk may lie in several files (an adopted one brings its own copies), so its place is the key and not its id.
# AUTOINCREMENT: a row that still waits for a file that was evicted can never attach itself to another file.
_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE files (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    manifest BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    resident INTEGER NOT NULL DEFAULT 0,
    pinned INTEGER NOT NULL DEFAULT 0,
    used INTEGER NOT NULL,
    last_use REAL NOT NULL,
    sealed INTEGER NOT NULL DEFAULT 0,
    needs INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX files_by_use ON files (used);
CREATE TABLE chunks (
    file INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    chunk BLOB NOT NULL,
    length INTEGER NOT NULL,
    PRIMARY KEY (file, offset)
) WITHOUT ROWID;
CREATE INDEX chunks_by_id ON chunks (chunk);
CREATE TABLE uses (
    file INTEGER NOT NULL,
    other INTEGER NOT NULL,
    PRIMARY KEY (file, other)
) WITHOUT ROWID;
CREATE INDEX uses_by_other ON uses (other);
CREATE TABLE names (
    file INTEGER NOT NULL,
    path BLOB NOT NULL,
    seen REAL NOT NULL,
    PRIMARY KEY (file, path)
) WITHOUT ROWID;
CREATE INDEX names_by_path ON names (path);
CREATE TABLE totals (
    bytes INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    size_limit INTEGER,
    hits INTEGER NOT NULL DEFAULT 0,
    hit_bytes INTEGER NOT NULL DEFAULT 0,
    misses INTEGER NOT NULL DEFAULT 0,
    miss_bytes INTEGER NOT NULL DEFAULT 0
);
INSERT INTO totals (bytes, tick) VALUES (0, 0);
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    started REAL NOT NULL
);
PRAGMA user_version = {VERSION};
COMMIT;
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode that any thread may use, one at a time. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=limits.CACHE_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def create(path: Path) -> None:
    """Make the tables in an empty database. Raises sqlite3.Error."""
    connection = connect(path)
    try:
        connection.executescript(_SCHEMA)
    finally:
        connection.close()


def damage(path: Path) -> str:
    """Why the database cannot be trusted, "" when it can. Raises sqlite3.Error when it cannot be read at all."""
    try:
        connection = connect(path)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                return f"its version is {version}, not {VERSION}"
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            return "" if verdict == "ok" else str(verdict)
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return str(error)
        raise
