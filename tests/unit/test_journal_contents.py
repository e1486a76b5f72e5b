"""What a journal holds is told right from its log: under every name that a file had, torn, damaged, moved, removed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository_store import DictStore

from modelfs.errors import ModelfsError, UsageError
from modelfs.journal import look
from modelfs.journal.admission import admit_writer
from modelfs.journal.export import export_file, needs_store, target_of
from modelfs.journal.held import Fate, HeldFile, held_files
from modelfs.journal.log import (
    Begin,
    Committed,
    Delete,
    JournalLog,
    Mark,
    Move,
    Opened,
    Put,
    Record,
    Staged,
    read_log,
    scan_log,
)
from modelfs.journal.session import Session, dead_sessions, take_over
from modelfs.repository.objects import Entry, Extent, Kind, Manifest
from modelfs.repository.repository import Repository

ENTRY = Entry(b"f", Kind.INLINE, 0o640, 0, 0, 1, 6, b"inline", ())


def staged(path: bytes, file: str, size: int = 4) -> Staged:
    return Staged(path, ENTRY, file, size, 0, ((0, size),) if file else ())


def opened(path: bytes, file: str) -> Opened:
    return Opened(path, ENTRY, file, 6)


def told(tmp_path: Path, *records: Record, **files: int) -> dict[str, tuple[bytes | None, Fate]]:
    """Path and fate of each staged file, for files of these sizes."""
    stage = tmp_path / "stage"
    stage.mkdir(exist_ok=True)
    for name, size in files.items():
        (stage / name).write_bytes(b"x" * size)
    return {held.file.name: (held.path, held.fate) for held in held_files(list(records), stage)}


def test_fates(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        Begin("main", 1),
        staged(b"in", "settled"),
        Committed(2),
        staged(b"old", "replaced"),
        staged(b"old", "newer"),
        staged(b"put", "finished"),
        Put(b"put", ENTRY),
        staged(b"rm", "removed"),
        Delete(b"rm"),
        staged(b"short", "cut"),
        staged(b"nowhere", "gone"),
        staged(b"empty", ""),
        opened(b"writing", "open"),
        settled=4,
        replaced=4,
        newer=4,
        finished=4,
        removed=4,
        cut=3,
        open=9,
        foreign=1,
    )
    assert found == {
        "settled": (b"in", Fate.SETTLED),
        "replaced": (b"old", Fate.SETTLED),
        "newer": (b"old", Fate.PENDING),
        "finished": (b"put", Fate.SETTLED),
        "removed": (b"rm", Fate.SETTLED),
        "cut": (b"short", Fate.DAMAGED),
        "gone": (b"nowhere", Fate.DAMAGED),
        "open": (b"writing", Fate.UNFINISHED),
        "foreign": (None, Fate.UNFINISHED),
    }


def test_names_that_move(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        opened(b"d/a", "a"),
        opened(b"d/b", "b"),
        staged(b"c", "c"),
        opened(b"over", "o"),
        Move(b"d", b"e"),
        Move(b"e/a", b"x"),
        Move(b"x", b"e/b", exchange=True),
        Move(b"c", b"over"),
        a=1,
        b=1,
        c=4,
        o=1,
    )
    assert found["a"] == (b"e/b", Fate.UNFINISHED)
    assert found["b"] == (b"x", Fate.UNFINISHED)
    assert found["c"] == (b"over", Fate.PENDING)
    held = {one.file.name: one for one in held_files([opened(b"o", "o"), Move(b"c", b"o")], tmp_path / "stage")}
    assert "took its name" in held["o"].why


def test_what_a_commit_repeats_still_counts(tmp_path: Path) -> None:
    kept = Committed(3, (staged(b"f", "f"), opened(b"g", "g")))
    found = told(tmp_path, staged(b"f", "f"), staged(b"g", "g"), kept, f=4, g=4)
    assert found == {"f": (b"f", Fate.PENDING), "g": (b"g", Fate.UNFINISHED)}


@given(st.binary(max_size=60), st.integers(0, 200))
def test_a_torn_log_keeps_its_whole_records(tmp_path_factory: pytest.TempPathFactory, noise: bytes, cut: int) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    records: list[Record] = [Begin("main", 1), staged(b"a", "f1"), Mark(1), Delete(b"a")]
    log = JournalLog(path)
    for record in records:
        log.append(record)
    log.close()
    data = path.read_bytes()
    path.write_bytes(data[: max(0, len(data) - cut)] + noise)
    found = scan_log(path)
    if not noise:
        assert found.records == records[: len(found.records)]
    assert found.whole + found.torn == path.stat().st_size
    again = scan_log(path)
    assert again == found


def _dead(root: Path, *records: Record, tail: bytes = b"") -> Path:
    session = Session.begin(root, "main", store="/srv/s", mountpoint="/mnt/m")
    log = session.log()
    for record in records:
        log.append(record)
    log.close()
    with (session.directory / "log").open("ab") as file:
        file.write(tail)
    session.close(discard_log=False)
    return session.directory


def test_the_torn_end_is_kept_aside(tmp_path: Path) -> None:
    root = tmp_path / "journals" / "abababab"
    directory = _dead(root, Begin("main", 1), Delete(b"x"), tail=b"\0\0\0\7garbage and more")
    [view] = look.sessions(root.parent)
    assert view.torn == 20
    [session] = dead_sessions(root, "main")
    assert session.set_torn_aside() == 20
    assert session.set_torn_aside() == 0
    assert read_log(directory / "log") == [Begin("main", 1), Delete(b"x")]
    [aside] = session.torn()
    assert aside.read_bytes() == b"\0\0\0\7garbage and more"
    session.close(discard_log=True)
    assert aside.exists()
    [view] = look.sessions(root.parent)
    assert (view.torn, view.changes, view.about.mountpoint) == (20, 0, "/mnt/m")


def test_zeros_behind_the_log_are_no_record(tmp_path: Path) -> None:
    """A file system may have grown the file and lost what was written."""
    directory = _dead(tmp_path, Begin("main", 1), tail=bytes(4096))
    [session] = dead_sessions(tmp_path, "main")
    assert session.set_torn_aside() == 4096
    assert session.torn() == []
    session.close(discard_log=True)
    assert not directory.exists()


def test_settling_keeps_what_was_never_acknowledged(tmp_path: Path) -> None:
    left = (opened(b"half", "b"), Opened(b"k", ENTRY, "c", 6, "cut"))
    directory = _dead(tmp_path, Begin("main", 4), staged(b"in", "a"), *left)
    for name in "abcd":
        (directory / "stage" / name).write_bytes(b"1234567890")
    session = take_over(directory)
    assert session is not None
    session.note_failure("the store is away")
    assert take_over(directory) is None
    [view] = look.sessions(tmp_path.parent, tmp_path.name)
    assert view.living
    assert view.failure is not None
    assert view.failure.why == "the store is away"
    session.close(discard_log=True)
    assert sorted(p.name for p in (directory / "stage").iterdir()) == ["b", "c", "d"]
    assert read_log(directory / "log") == [Begin("main", 4), *left]
    [view] = look.sessions(tmp_path.parent, tmp_path.name)
    assert (view.failure, view.changes, view.living, view.began_on) == (None, 0, False, 4)
    assert [(held.path, held.fate) for held in view.files] == [
        (b"half", Fate.UNFINISHED),
        (b"k", Fate.DAMAGED),
        (None, Fate.UNFINISHED),
    ]
    for name in ("half", "k", "d"):
        session = take_over(directory)
        assert session is not None
        session.drop(view.find(name))
    assert not directory.exists()


def test_finding_sessions(tmp_path: Path) -> None:
    root = tmp_path / "journals" / "00112233"
    first, second = _dead(root, Begin("main", 1)), _dead(root, Begin("main", 1))
    assert [view.directory for view in look.sessions(root.parent)] == [first, second]
    assert look.find_session(root.parent, second.name).directory == second
    first, second = (path.rename(path.with_name("aa" + path.name[2:])) for path in (first, second))
    with pytest.raises(UsageError, match="beginning of 2 journals"):
        look.find_session(root.parent, "aa")
    for nobody in ("", "zz"):
        with pytest.raises(UsageError, match="no journal"):
            look.find_session(root.parent, nobody)
    (first / "about").unlink()
    assert {view.about.store for view in look.sessions(root.parent)} == {"", "/srv/s"}
    session = take_over(second)
    assert session is not None
    session.drop()
    assert [view.directory for view in look.sessions(root.parent)] == [first]
    assert take_over(second) is None


def test_a_session_cannot_be_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not writable"):
        Session.begin(tmp_path / "file", "main")


def test_a_full_disk_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = JournalLog(tmp_path / "log")
    log.append(Begin("main", 1))
    real, left = os.write, [1, 10]

    def write(fd: int, data: bytes) -> int:
        room = left.pop()
        if not left:
            raise OSError(28, "No space left on device")
        return real(fd, bytes(data)[:room])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError):
        log.append(Delete(b"a" * 100))
    monkeypatch.undo()
    log.append(Delete(b"b"))
    assert read_log(tmp_path / "log") == [Begin("main", 1), Delete(b"b")]
    assert log.size() == (tmp_path / "log").stat().st_size
    monkeypatch.setattr(os, "fdatasync", lambda fd: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(OSError):
        log.restart([Begin("main", 7)])
    monkeypatch.undo()
    log.append(Delete(b"c"))
    assert read_log(tmp_path / "log") == [Begin("main", 1), Delete(b"b"), Delete(b"c")]
    log.close()


# -- export ---------------------------------------------------------------------------------------------------------


def _held(file: Path, record: Staged | Opened | None, path: bytes | None = b"d/f") -> HeldFile:
    present = record.present if isinstance(record, Staged) else None
    limit = record.base_limit if record is not None else 0
    size = record.size if isinstance(record, Staged) else max(limit, file.stat().st_size if file.exists() else 0)
    return HeldFile(file, path, Fate.PENDING, "", size, 0.0, limit, present, record)


def test_export_fills_holes_from_the_version_below(tmp_path: Path) -> None:
    store = DictStore()
    repo = Repository.create(store)
    pieces = [os.urandom(300_000), bytes(300_000), os.urandom(300_000)]
    extents = [Extent(repo.write_chunk(p)[0] if any(p) else b"", len(p)) for p in pieces]
    below = b"".join(pieces)
    manifest = repo.write_manifest(Manifest(len(below), tuple(extents)))
    entry = Entry(b"f", Kind.FILE, 0o600, 0, 0, 1, len(below), manifest, ())
    local = tmp_path / "local"
    with local.open("wb") as file:
        file.seek(100_000)
        file.write(b"n" * 50_000)
    wanted = below[:100_000] + b"n" * 50_000 + below[150_000:800_000] + bytes(200_000)
    held = _held(local, Staged(b"d/f", entry, "local", 1_000_000, 800_000, ((100_000, 150_000),)))
    target = target_of(held, tmp_path / "out")
    assert target == tmp_path / "out/d/f"
    assert needs_store(held)
    with pytest.raises(ModelfsError, match="750000 of its bytes are only in the store"):
        export_file(held, target, None)
    assert export_file(held, target, repo) == 1_000_000
    assert target.read_bytes() == wanted
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="exists already"):
        export_file(held, target, repo)
    # One that was being written: where it has holes, as far as blocks tell.
    unfinished = _held(local, Opened(b"g", entry, "local", 900_000), b"g")
    assert export_file(unfinished, tmp_path / "g", repo) == 900_000
    found = (tmp_path / "g").read_bytes()
    assert found[:98_304] == below[:98_304]
    assert found[100_000:150_000] == b"n" * 50_000
    assert found[153_600:] == below[153_600:]
    store.data.clear()
    with pytest.raises(ModelfsError):
        export_file(held, tmp_path / "h", Repository(store, repo.format))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g", "local", "out"]


def test_export_over_inline_content_and_nothing(tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.write_bytes(b"..ab")
    os.truncate(local, 4)
    held = _held(local, Staged(b"f", ENTRY, "local", 8, 6, ((2, 4),)))
    assert not needs_store(held)
    assert export_file(held, tmp_path / "f", None) == 8
    assert (tmp_path / "f").read_bytes() == b"in" + b"ab" + b"ne" + bytes(2)
    nameless = _held(local, None, None)
    assert target_of(nameless, tmp_path).name == "local"
    assert export_file(nameless, tmp_path / "n", None) == 4
    short = _held(local, Staged(b"f", ENTRY, "local", 10, 0, ((0, 10),)))
    export_file(short, tmp_path / "s", None)
    assert (tmp_path / "s").read_bytes() == b"..ab" + bytes(6)
    gone = _held(tmp_path / "gone", Staged(b"f", ENTRY, "gone", 8, 6, ((2, 4),)))
    with pytest.raises(UsageError, match="bytes are gone"):
        export_file(gone, tmp_path / "x", None)
    empty = tmp_path / "empty"
    with empty.open("wb") as file:
        file.truncate(8192)
    assert export_file(_held(empty, Opened(b"e", ENTRY, "empty", 0)), tmp_path / "e", None) == 8192


def test_a_hostile_path_stays_inside(tmp_path: Path) -> None:
    for path in (b"../x", b"a/../../x", b"/etc/passwd", b""):
        with pytest.raises(UsageError, match="no path to export to"):
            target_of(_held(tmp_path, None, path), tmp_path / "out")


def test_what_cannot_be_tidied_up_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk while a replayed session is closed: the journal is as it was."""
    directory = _dead(tmp_path, Begin("main", 4), staged(b"in", "a"), opened(b"half", "b"))
    for name in "ab":
        (directory / "stage" / name).write_bytes(b"1234")
    session = take_over(directory)
    assert session is not None
    monkeypatch.setattr(os, "write", lambda fd, data: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        session.close(discard_log=True)
    monkeypatch.undo()
    again = take_over(directory)
    assert again is not None
    assert {held.file.name for held in again.held()} == {"a", "b"}
    assert len(again.records()) == 3
    again.close(discard_log=True)
    assert [held.path for held in look.sessions(tmp_path.parent, tmp_path.name)[0].files] == [b"half"]


def test_a_session_that_goes_away_meanwhile(tmp_path: Path) -> None:
    directory = _dead(tmp_path, Begin("main", 1))
    fd = os.open(directory / "lock", os.O_RDWR)
    (directory / "lock").unlink()
    assert take_over(directory) is None
    assert dead_sessions(tmp_path, "main") == []
    os.close(fd)
    (directory / "lock").write_text("no number")
    [session] = dead_sessions(tmp_path, "main")
    assert dead_sessions(tmp_path, "main") == []  # held by us, and nobody can tell who we are
    session.close(discard_log=True)


def test_admission_asks_a_store_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    store = DictStore()
    assert admit_writer(store, "abcdef01", single_writer=False) is None
    asked = len(store.log)
    assert asked
    assert admit_writer(store, "abcdef01", single_writer=False) is None
    assert len(store.log) == asked
    lease = admit_writer(store, "abcdef01", single_writer=True)
    assert lease is not None
    lease.release()
    store.properties = replace(store.properties, writable=False)
    with pytest.raises(UsageError, match="--read-only"):
        admit_writer(store, "abcdef01", single_writer=False)
