"""The journal of one writing mount: what changed here and is not in the store yet, in order.

A log file of records, each framed as ``length (4 bytes, big-endian) | crc32 (4) | msgpack``. Reading stops at the
first frame that is cut or damaged: what was not synced may be gone or torn after a power loss. `append` survives the
death of the daemon, `sync` that of the machine. A record speaks of paths, as they were when it was written:

    Begin(commit)           the changes below are on top of this commit of the branch
    Put(path, entry)        the entry at ``path`` (its name included) is this one
    Staged(path, …)         the file at ``path`` has this content, which lies in the staging directory
    Opened(path, …)         the file at ``path`` is being written; what is there so far lies in the staging directory
    Delete(path)            the name is gone
    Move(old, new)          the entry and all below it moved; ``exchange`` swaps the two
    Link(old, new, group)   the file at ``old`` is to be found at ``new`` as well
    Mark(n)                 what is above, and is not repeated right below, goes into the commit that is being made
    Announce(n, commit)     that commit is about to be written: if the branch has it, everything above mark n is in it
    Committed(commit, …)    everything above is in this commit, but for the records that it repeats; also of others'
                            commits, when there is nothing above
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from modelfs import limits
from modelfs.repository.objects import Entry

_FRAME: Final = struct.Struct(">II")

# Linux only, and not in the os module. Flag from <linux/falloc.h>.
_KEEP_SIZE: Final = 1
_fallocate = ctypes.CDLL(None).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Begin(msgspec.Struct, frozen=True, array_like=True, tag="begin"):
    """The commit that the following changes were made on."""

    branch: str
    number: int


class Put(msgspec.Struct, frozen=True, array_like=True, tag="put"):
    """An entry that needs nothing from the staging directory. ``attributes``: only they are a change, its content is
    whatever the path has: what it was then may have been replaced by others before the replay."""

    path: bytes
    entry: Entry
    attributes: bool = False


class Staged(msgspec.Struct, frozen=True, array_like=True, tag="staged"):
    """A closed file whose bytes lie in ``file`` of the staging directory, over the version that ``entry`` names.

    ``entry`` holds the attributes, and as content the finished version that shows through below ``base_limit``
    where ``present`` (byte ranges) has nothing; ``size`` is the current size in bytes.
    """

    path: bytes
    entry: Entry
    file: Annotated[str, Meta(pattern="^([0-9A-Za-z][0-9A-Za-z._-]{0,99})?$")]  # never a way out of the directory
    size: int
    base_limit: int
    present: tuple[tuple[int, int], ...]


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """A file that is being written: its bytes lie in ``file`` of the staging directory, over the version that
    ``entry`` names below ``base_limit``. ``why`` is "" but for a file that was closed and that a replay had to leave
    out. Nothing is replayed of it: it tells people what an unfinished file was going to be."""

    path: bytes
    entry: Entry
    file: str
    base_limit: int
    why: str = ""


class Delete(msgspec.Struct, frozen=True, array_like=True, tag="delete"):
    """A removed name."""

    path: bytes


class Move(msgspec.Struct, frozen=True, array_like=True, tag="move"):
    """A renamed entry."""

    old: bytes
    new: bytes
    exchange: bool = False


class Link(msgspec.Struct, frozen=True, array_like=True, tag="link"):
    """One more name of a file; ``group`` is the file's link group."""

    old: bytes
    new: bytes
    group: bytes


Change = Put | Staged | Delete | Move | Link


class Mark(msgspec.Struct, frozen=True, array_like=True, tag="mark"):
    """A commit is being made of all that is above."""

    number: int


class Announce(msgspec.Struct, frozen=True, array_like=True, tag="announce"):
    """The commit of mark ``mark`` is about to be written as ``number`` of the branch and has the id ``commit``. The
    newest announcement counts: of an earlier one it is known that it failed."""

    mark: int
    number: int
    commit: bytes


class Committed(msgspec.Struct, frozen=True, array_like=True, tag="committed"):
    """All records above are in the store, but for what ``kept`` repeats of them; changes go on from this commit.

    They are repeated in the same frame, because there is no moment at which only one of both may be known.
    """

    number: int
    kept: tuple[Change | Opened, ...] = ()


Record = Begin | Change | Opened | Mark | Announce | Committed


class JournalLog:
    """An append-only log file. Calls are short; `sync` blocks on the disk.

    Room for records to come is reserved on the disk, so that names can still be removed when it is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._encoder = msgspec.msgpack.Encoder()
        self._lock = threading.Lock()  # `append` is called from worker threads too
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._end = os.fstat(self._fd).st_size
        self._reserved = 0
        self._reserve()

    def append(self, record: Record) -> None:
        """Write one record to the operating system. OSError (ENOSPC) when the disk does not take it; then nothing of
        it stays behind."""
        with self._lock:
            frame = memoryview(_framed(self._encoder.encode(record)))
            written = 0
            try:
                while written < len(frame):
                    written += os.write(self._fd, frame[written:])
            except OSError:
                if written:  # half a frame would hide every record behind it
                    os.ftruncate(self._fd, self._end)
                raise
            self._end += written
            if self._end > self._reserved - limits.JOURNAL_RESERVE // 2:
                self._reserve()

    def _reserve(self) -> None:
        if _fallocate(self._fd, _KEEP_SIZE, self._end, limits.JOURNAL_RESERVE) == 0:
            self._reserved = self._end + limits.JOURNAL_RESERVE
        else:  # full, or a file system that cannot: asked again much later, and said by `append` when it matters
            self._reserved = self._end + 2 * limits.JOURNAL_RESERVE

    def sync(self) -> None:
        """Bring what was appended to the disk; blocking."""
        with self._lock:
            fd = os.dup(self._fd)  # `restart` may close the file meanwhile; what it writes is synced
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def restart(self, records: list[Record]) -> None:
        """Replace the log by these records, atomically; blocking. OSError leaves the log as it was."""
        partial = self.path.with_suffix(".new")
        partial.unlink(missing_ok=True)
        fresh = JournalLog(partial)
        try:
            for record in records:
                fresh.append(record)
            fresh.sync()
            partial.rename(self.path)
            sync_directory(self.path.parent)
        except OSError:
            fresh.close()
            raise
        with self._lock:
            os.close(self._fd)
            self._fd, self._end, self._reserved = fresh._fd, fresh._end, fresh._reserved

    def size(self) -> int:
        """Bytes in the log."""
        return self._end

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _framed(payload: bytes) -> bytes:
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


@dataclass(frozen=True, slots=True)
class Contents:
    """What a log file holds: whole records in order, the bytes that they take, and the bytes behind them that are no
    record (0, but after a power loss, or while a daemon is just writing one)."""

    records: list[Record]
    whole: int
    torn: int


def scan_log(path: Path) -> Contents:
    """The records of a log file up to the first that is cut or damaged."""
    decoder = msgspec.msgpack.Decoder(Record)
    records: list[Record] = []
    whole = 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while len(head := file.read(_FRAME.size)) == _FRAME.size:
            length, checksum = _FRAME.unpack(head)
            if length > limits.JOURNAL_RECORD_MAX:
                break
            if length > size - file.tell():  # nothing is set aside for what a damaged length claims
                break
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload) != checksum:
                break
            try:
                records.append(decoder.decode(payload))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                break
            whole += _FRAME.size + length
        size = os.fstat(file.fileno()).st_size
    return Contents(records, whole, max(0, size - whole))


def read_log(path: Path) -> list[Record]:
    """All intact records of a log file, in order."""
    return scan_log(path).records


def unfinished(
    records: list[Record], landed: Callable[[str, Announce], bool] = lambda branch, announced: False
) -> tuple[Begin | None, list[Record]]:
    """The commit that what is left of a log builds on, and the changes that are not in the store.

    A log may end between a commit and the word that it was made. ``landed`` is asked then whether the branch has the
    announced commit.
    """
    begin: Begin | None = None
    left: list[Record] = []
    marks: dict[int, int] = {}
    announced: Announce | None = None
    for record in records:
        if isinstance(record, Begin):
            begin, left, marks, announced = record, [], {}, None
        elif isinstance(record, Committed):
            begin = Begin(begin.branch, record.number) if begin is not None else None
            left, marks, announced = [kept for kept in record.kept if not isinstance(kept, Opened)], {}, None
        elif isinstance(record, Mark):
            marks[record.number] = len(left)
        elif isinstance(record, Announce):
            announced = record
        elif not isinstance(record, Opened):
            left.append(record)
    if begin is not None and announced is not None and announced.mark in marks and landed(begin.branch, announced):
        return Begin(begin.branch, announced.number), left[marks[announced.mark] :]
    return begin, left


def sync_directory(path: Path) -> None:
    """fsync a directory, so that the names in it survive a power cut; blocking."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
