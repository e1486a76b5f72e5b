"""The journal of one writing mount: what changed here and is not in the store yet, in order.

A log file of records, each framed as ``length (4 bytes, big-endian) | crc32 (4) | msgpack``. Reading stops at the
first frame that is cut or damaged: what follows was never acknowledged. `append` survives the death of the daemon,
`sync` that of the machine. A record speaks of paths, as they were when it was written:

    Begin(commit)           the changes below are on top of this commit of the branch
    Put(path, entry)        the entry at ``path`` (its name included) is this one
    Staged(path, …)         the file at ``path`` has this content, which lies in the staging directory
    Delete(path)            the name is gone
    Move(old, new)          the entry and all below it moved; ``exchange`` swaps the two
    Mark(n)                 what is above, and is not repeated right below, goes into the commit that is being made
    Announce(n, commit)     that commit is about to be written: if the branch has it, everything above mark n is in it
    Committed(commit, ...)  everything above that is not repeated below is in this commit
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from modelfs import limits
from modelfs.repository.objects import Entry

_FRAME: Final = struct.Struct(">II")


class Begin(msgspec.Struct, frozen=True, array_like=True, tag="begin"):
    """The commit that the following changes were made on."""

    branch: str
    number: int


class Put(msgspec.Struct, frozen=True, array_like=True, tag="put"):
    """An entry that needs nothing from the staging directory."""

    path: bytes
    entry: Entry


class Staged(msgspec.Struct, frozen=True, array_like=True, tag="staged"):
    """A closed file whose bytes lie in ``file`` of the staging directory, over the version that ``entry`` names.

    ``entry`` holds the attributes, and as content the finished version that shows through below ``base_limit``
    where ``present`` (byte ranges) has nothing; ``size`` is the current size in bytes.
    """

    path: bytes
    entry: Entry
    file: str
    size: int
    base_limit: int
    present: tuple[tuple[int, int], ...]


class Delete(msgspec.Struct, frozen=True, array_like=True, tag="delete"):
    """A removed name."""

    path: bytes


class Move(msgspec.Struct, frozen=True, array_like=True, tag="move"):
    """A renamed entry."""

    old: bytes
    new: bytes
    exchange: bool = False


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
    """All records above are in the store; changes go on from this commit."""

    number: int


Record = Begin | Put | Staged | Delete | Move | Mark | Announce | Committed


class JournalLog:
    """An append-only log file. Calls are short; `sync` blocks on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._encoder = msgspec.msgpack.Encoder()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def append(self, record: Record) -> None:
        """Write one record to the operating system. OSError (ENOSPC) when the disk does not take it."""
        os.write(self._fd, _framed(self._encoder.encode(record)))

    def sync(self) -> None:
        """Bring what was appended to the disk; blocking."""
        os.fdatasync(self._fd)

    def restart(self, records: list[Record]) -> None:
        """Replace the log by these records, atomically; blocking."""
        partial = self.path.with_suffix(".new")
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        for record in records:
            os.write(fd, _framed(self._encoder.encode(record)))
        os.fdatasync(fd)
        partial.rename(self.path)
        sync_directory(self.path.parent)
        os.close(self._fd)
        self._fd = fd

    def size(self) -> int:
        """Bytes in the log."""
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _framed(payload: bytes) -> bytes:
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def read_log(path: Path) -> list[Record]:
    """All intact records of a log file, in order."""
    decoder = msgspec.msgpack.Decoder(Record)
    records: list[Record] = []
    with path.open("rb") as file:
        while len(head := file.read(_FRAME.size)) == _FRAME.size:
            length, checksum = _FRAME.unpack(head)
            if length > limits.JOURNAL_RECORD_MAX:
                break
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload) != checksum:
                break
            try:
                records.append(decoder.decode(payload))
            except msgspec.DecodeError:
                break
    return records


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
        if isinstance(record, Begin | Committed):
            if isinstance(record, Begin):
                begin = record
            elif begin is not None:
                begin = Begin(begin.branch, record.number)
            left, marks, announced = [], {}, None
        elif isinstance(record, Mark):
            marks[record.number] = len(left)
        elif isinstance(record, Announce):
            announced = record
        else:
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
