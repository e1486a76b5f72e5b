"""The journal log: what was appended is read, what was torn is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelfs.journal.log import (
    Announce,
    Begin,
    Committed,
    Delete,
    JournalLog,
    Mark,
    Move,
    Put,
    Record,
    Staged,
    read_log,
    unfinished,
)
from modelfs.repository.objects import Entry, Kind

ENTRY = Entry(b"f", Kind.INLINE, 0o644, 0, 0, 1, 3, b"abc", ((b"user.x", b"1"),))
RECORDS: list[Record] = [
    Begin("main", 4),
    Put(b"d/f", ENTRY),
    Staged(b"d/g", ENTRY, "0123", 10, 4, ((0, 2), (5, 10))),
    Delete(b"d/\xff"),
    Move(b"a", b"b", True),
]


def _written(path: Path, records: list[Record]) -> JournalLog:
    log = JournalLog(path)
    for record in records:
        log.append(record)
    log.sync()
    return log


def test_round_trip(tmp_path: Path) -> None:
    _written(tmp_path / "log", RECORDS).close()
    assert read_log(tmp_path / "log") == RECORDS


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_end_is_passed_over(tmp_path: Path, cut: int) -> None:
    _written(tmp_path / "log", RECORDS).close()
    data = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(data[:-cut])
    read = read_log(tmp_path / "log")
    assert read == RECORDS[: len(read)]
    assert len(read) < len(RECORDS)


def test_a_flipped_byte_ends_the_log(tmp_path: Path) -> None:
    _written(tmp_path / "log", RECORDS).close()
    data = bytearray((tmp_path / "log").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "log").write_bytes(data)
    read = read_log(tmp_path / "log")
    assert read == RECORDS[: len(read)]
    assert len(read) < len(RECORDS)


def test_what_is_left_after_a_commit(tmp_path: Path) -> None:
    records = [*RECORDS, Committed(5), Delete(b"later")]
    assert unfinished(records) == (Begin("main", 5), [Delete(b"later")])
    assert unfinished(RECORDS) == (Begin("main", 4), RECORDS[1:])


def test_a_commit_whose_word_is_missing() -> None:
    """Between Announce and Committed only the branch can tell whether the commit was made."""
    records = [*RECORDS, Mark(7), Delete(b"during"), Announce(7, 6, b"id"), Delete(b"after")]
    assert unfinished(records) == (Begin("main", 4), [*RECORDS[1:], Delete(b"during"), Delete(b"after")])
    asked = []

    def landed(branch: str, announced: Announce) -> bool:
        asked.append((branch, announced))
        return True

    assert unfinished(records, landed) == (Begin("main", 6), [Delete(b"during"), Delete(b"after")])
    assert asked == [("main", Announce(7, 6, b"id"))]
    assert unfinished([*records, Committed(6)], landed) == (Begin("main", 6), [])
    assert len(asked) == 1


def test_restart_replaces_the_log(tmp_path: Path) -> None:
    log = _written(tmp_path / "log", RECORDS)
    log.restart([Begin("main", 9)])
    log.append(Delete(b"x"))
    log.close()
    assert read_log(tmp_path / "log") == [Begin("main", 9), Delete(b"x")]
