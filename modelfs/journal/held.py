"""What a journal holds, told from its log and its staging directory: for people, and for who tidies up after a replay.

`held_files` follows every staged file through the log, under whatever names it had. It never changes anything and
needs no store, so a log that a daemon is just writing can be read too.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from modelfs.journal.log import Committed, Delete, Move, Opened, Put, Record, Staged


class Fate(enum.Enum):
    """What becomes of a staged file."""

    PENDING = "pending"  # acknowledged, not known to be in the store: a replay brings it there
    UNFINISHED = "unfinished"  # was being written; nobody was told that it is safe
    DAMAGED = "damaged"  # acknowledged, but its bytes are not all there
    SETTLED = "settled"  # in the store, or replaced by a later version: of no use any more


@dataclass(frozen=True, slots=True)
class HeldFile:
    """One file of a staging directory. Sizes in bytes, ``modified`` in seconds since the epoch.

    ``path`` is None when the log does not know it (it was lost with the log's end). ``present`` are the byte ranges
    that lie in the file, None where only its holes tell; below ``base_limit`` the version that ``record`` names shows
    through.
    """

    file: Path
    path: bytes | None
    fate: Fate
    why: str
    size: int
    modified: float
    base_limit: int
    present: tuple[tuple[int, int], ...] | None
    record: Staged | Opened | None


@dataclass(slots=True)
class _Seen:
    path: bytes | None
    fate: Fate
    why: str
    record: Staged | Opened


def _follow(records: list[Record]) -> dict[str, _Seen]:
    """Staged files that the log speaks of, by their name in the staging directory."""
    seen: dict[str, _Seen] = {}
    _follow_more(seen, records)
    return seen


def _follow_more(seen: dict[str, _Seen], records: Iterable[Record]) -> None:
    for record in records:
        if isinstance(record, Opened):
            fate = Fate.DAMAGED if record.why else Fate.UNFINISHED
            seen[record.file] = _Seen(record.path, fate, record.why, record)
        elif isinstance(record, Staged):
            _replaced(seen, record.path, but=record.file)
            if record.file:
                seen[record.file] = _Seen(record.path, Fate.PENDING, "", record)
        elif isinstance(record, Put):
            _replaced(seen, record.path)
        elif isinstance(record, Committed):
            for one in seen.values():
                if one.fate is Fate.PENDING:
                    one.fate = Fate.SETTLED
            _follow_more(seen, record.kept)
        elif isinstance(record, Delete):
            _gone(seen, record.path, "it was removed")
        elif isinstance(record, Move):
            _moved(seen, record)


def _replaced(seen: dict[str, _Seen], path: bytes, but: str = "") -> None:
    """An acknowledged version at ``path`` has a successor."""
    for name, one in seen.items():
        if one.path == path and one.fate is Fate.PENDING and name != but:
            one.fate = Fate.SETTLED


def _gone(seen: dict[str, _Seen], path: bytes, why: str) -> None:
    for one in seen.values():
        if one.path is not None and (one.path == path or one.path.startswith(path + b"/")):
            if one.fate is Fate.PENDING:
                one.fate = Fate.SETTLED
            one.why = one.why or f"{why} while it was open"


def _moved(seen: dict[str, _Seen], move: Move) -> None:
    if not move.exchange:
        _gone(seen, move.new, "another file took its name")
    for one in seen.values():
        if one.path is None or one.why:
            continue
        for old, new in ((move.old, move.new), *(((move.new, move.old),) if move.exchange else ())):
            if one.path == old or one.path.startswith(old + b"/"):
                one.path = new + one.path[len(old) :]
                break


def held_files(records: list[Record], stage: Path) -> list[HeldFile]:
    """Everything in ``stage``, and what the log speaks of and is not there, by name of the staged file."""
    seen = _follow(records)
    found = []
    names = {path.name for path in stage.iterdir()} if stage.is_dir() else set()
    for name in sorted(names | {name for name, one in seen.items() if one.fate is Fate.PENDING}):
        found.append(_held(stage / name, seen.get(name)))
    return found


def _held(file: Path, one: _Seen | None) -> HeldFile:
    size = _size(file)
    modified = file.stat().st_mtime if size is not None else 0.0
    if one is None:
        why = "the journal does not say what it is"
        return HeldFile(file, None, Fate.UNFINISHED, why, size or 0, modified, 0, None, None)
    record = one.record
    if isinstance(record, Opened):
        whole = max(size or 0, record.base_limit)
        return HeldFile(file, one.path, one.fate, one.why, whole, modified, record.base_limit, None, record)
    fate, why = one.fate, one.why
    if fate is Fate.PENDING and (reason := damage(record, file.parent)):
        fate, why = Fate.DAMAGED, reason
    elif fate is Fate.PENDING and size is not None and size > record.size:
        why = f"{size - record.size} bytes behind it were written later and never acknowledged"
    return HeldFile(file, one.path, fate, why, record.size, modified, record.base_limit, record.present, record)


def damage(record: Staged, stage: Path) -> str:
    """Why the staged file of a record cannot be what was acknowledged, or ""."""
    if not record.file:
        return ""
    size = _size(stage / record.file)
    if size is None:
        return "its bytes are gone"
    wanted = max((end for _, end in record.present), default=0)
    return f"it has {size} bytes where {wanted} were acknowledged" if size < wanted else ""


def as_opened(held: HeldFile) -> Opened | None:
    """What a log says of a leftover once everything else in it is in the store."""
    if held.record is None or held.path is None or not held.file.exists():
        return None
    return Opened(held.path, held.record.entry, held.file.name, held.base_limit, held.why)


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return None
