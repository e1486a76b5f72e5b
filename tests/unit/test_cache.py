"""The local cache: verified bytes only, bounded, shared by several processes (here: several Cache objects)."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from cached_content import MIB, STORE, Content

from modelfs import limits
from modelfs.cache import sparse
from modelfs.cache.cache import Cache
from modelfs.cache.pins import Wanted
from modelfs.errors import UsageError


def _content(seed: int, chunks: int = 4, size: int = MIB) -> Content:
    return Content(*(os.urandom(8) * (size // 8) + bytes([seed, i]) for i in range(chunks)))


def _fill(cache: Cache, content: Content) -> None:
    file = cache.open_file(content.id, content.manifest)
    for i, piece in enumerate(content.pieces):
        assert file.fill(i, piece) is not None
    file.close()


def _flip(path: Path, offset: int) -> None:
    with path.open("r+b") as raw:
        raw.seek(offset)
        byte = raw.read(1)
        raw.seek(offset)
        raw.write(bytes([byte[0] ^ 1]))


def _read(place: tuple[int, int] | None, length: int) -> bytes:
    assert place is not None
    return os.pread(place[0], length, place[1])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_what_was_filled_is_found_at_its_natural_offset(directory: Path) -> None:
    cache, content = Cache(directory, STORE, 100 * MIB), _content(1)
    file = cache.open_file(content.id, content.manifest)
    assert file.locate(2) is None
    assert file.probe(2) is None
    assert file.fill(2, content.pieces[2]) == file.locate(2)
    assert file.locate(2) == (file.fd, content.starts[2])
    assert _read(file.locate(2), len(content.pieces[2])) == content.pieces[2]
    file.close()
    cache.close()


def test_the_next_process_trusts_what_nobody_has_touched(directory: Path) -> None:
    content, other = _content(1), _content(2)
    for _ in range(2):
        cache = Cache(directory, STORE, 100 * MIB)
        file = cache.open_file(content.id, content.manifest)
        if not cache.resident(content.manifest):
            assert file.locate(0) is None
            file.close()
            _fill(cache, content)
            _fill(cache, other)
            file = cache.open_file(content.id, content.manifest)
        assert all(file.locate(i) is not None for i in range(4))
        file.close()
        cache.close()
    lender = Cache(directory, STORE, 100 * MIB)
    borrower = Content(*content.pieces[1:3])
    file = lender.open_file(borrower.id, borrower.manifest)
    assert _read(file.probe(1), MIB) == content.pieces[2][:MIB]
    assert lender.statistics().checked == 0, "what lends was sealed: no hash was needed"
    file.close()
    lender.close()


def test_an_eviction_of_a_part_leaves_the_rest_trusted(directory: Path) -> None:
    content = _content(1)
    cache = Cache(directory, STORE, 100 * MIB)
    _fill(cache, content)
    cache.close()
    cache = Cache(directory, STORE, 100 * MIB)
    assert cache.evict_to(content.manifest.size - 1) == len(content.pieces[3])
    cache.close()
    cache = Cache(directory, STORE, 100 * MIB)
    file = cache.open_file(content.id, content.manifest)
    assert [file.locate(i) is not None for i in range(4)] == [True, True, True, False]
    file.close()
    cache.close()


def test_a_session_that_saw_only_a_part_vouches_for_none(directory: Path) -> None:
    content = _content(1)
    first = Cache(directory, STORE, 100 * MIB)
    _fill(first, content)
    first.close()
    _flip(sparse.path_of(directory / "files", content.id), content.starts[3])
    second = Cache(directory, STORE, 100 * MIB)
    file = second.open_file(content.id, content.manifest)
    assert file.locate(0) is None
    assert file.probe(0) is not None
    file.close()
    second.close()
    third = Cache(directory, STORE, 100 * MIB)
    file = third.open_file(content.id, content.manifest)
    assert file.locate(0) is None
    assert file.probe(3) is None
    file.close()
    third.close()


def test_after_an_unclean_stop_each_chunk_is_looked_at_once(directory: Path) -> None:
    content = _content(1)
    first = Cache(directory, STORE, 100 * MIB)
    _fill(first, content)
    first.index.flush()
    second = Cache(directory, STORE, 100 * MIB)
    file = second.open_file(content.id, content.manifest)
    assert all(file.locate(i) is None for i in range(4)), "not verified in this session yet"
    for i, piece in enumerate(content.pieces):
        assert _read(file.probe(i), len(piece)) == piece
        assert file.locate(i) is not None
    file.close()
    again = second.open_file(content.id, content.manifest)
    assert all(again.locate(i) is not None for i in range(4)), "verified in this session already"
    again.close()
    assert second.resident(content.manifest) == content.manifest.size
    second.close()
    first.close()


def test_a_flipped_byte_is_noticed_and_forgotten(directory: Path) -> None:
    content = _content(1)
    first = Cache(directory, STORE, 100 * MIB)
    _fill(first, content)
    first.close()
    _flip(sparse.path_of(directory / "files", content.id), content.starts[1] + 77)
    cache = Cache(directory, STORE, 100 * MIB)
    file = cache.open_file(content.id, content.manifest)
    assert file.probe(0) is not None
    assert file.probe(1) is None
    assert cache.statistics().damaged == 1
    assert cache.resident(content.manifest) == content.manifest.size - len(content.pieces[1])
    assert file.fill(1, content.pieces[1]) is not None
    file.close()
    cache.close()


def test_what_a_trusted_file_holds_is_borrowed_all_at_once(directory: Path) -> None:
    content, other = _content(1, chunks=6), _content(2, chunks=1)
    cache = Cache(directory, STORE)
    _fill(cache, content)
    _fill(cache, other)
    cache.close()  # in order: what it holds is trusted from now on
    cache = Cache(directory, STORE)
    pieces = [content.pieces[4], b"not here", content.pieces[2], other.pieces[0], content.pieces[4]]
    borrower = Content(*pieces)
    file = cache.open_file(borrower.id, borrower.manifest)
    assert all(file.locate(i) is None for i in range(5))
    assert _read(file.probe(0), len(pieces[0])) == pieces[0]
    for i in (0, 2, 3, 4):  # nobody asked for these, and nothing is read to verify them
        assert _read(file.locate(i), len(pieces[i])) == pieces[i]
    assert file.probe(1) is None
    assert cache.statistics().checked == 0
    assert cache.evict_to(0) == 0, "what is borrowed from stays"
    file.close()
    cache.close()


def test_a_chunk_is_kept_once_and_borrowed(directory: Path) -> None:
    shared = os.urandom(MIB)
    a, b = Content(shared, os.urandom(5000)), Content(os.urandom(3000), shared)
    cache = Cache(directory, STORE, 100 * MIB)
    _fill(cache, a)
    held = cache.statistics().bytes
    file = cache.open_file(b.id, b.manifest)
    assert _read(file.probe(1), MIB) == shared
    assert cache.statistics().bytes == held
    assert cache.statistics().borrowed == 1
    other = Cache(directory, STORE, 100 * MIB)
    assert other.clear() == 0, "both files are in use: one is open, the other lends"
    assert _read(file.locate(1), MIB) == shared
    file.close()
    assert other.clear() == held
    other.close()
    cache.close()


def test_the_limit_holds_and_the_least_recently_used_goes_first(directory: Path) -> None:
    limit = 12 * MIB
    cache = Cache(directory, STORE, limit)
    contents = [_content(i) for i in range(5)]
    for content in contents:
        _fill(cache, content)
        assert cache.statistics().bytes <= limit
    resident = [cache.resident(c.manifest) for c in contents]
    assert resident[-1] == contents[-1].manifest.size
    assert resident[0] == 0
    assert cache.statistics().evicted_bytes > 0
    on_disk = sum(p.stat().st_blocks * 512 for p in (directory / "files").rglob("*") if p.is_file())
    assert on_disk <= limit + 5 * 8192
    cache.close()


def test_open_files_stay_and_a_full_cache_says_so(directory: Path) -> None:
    cache = Cache(directory, STORE, 8 * MIB)
    content = _content(1, chunks=10)
    file = cache.open_file(content.id, content.manifest)
    places = [file.fill(i, piece) for i, piece in enumerate(content.pieces)]
    assert places[:7].count(None) == 0
    assert places[-1] is None
    assert cache.statistics().refused >= 1
    for i in range(7):
        assert _read(places[i], len(content.pieces[i])) == content.pieces[i]
    file.close()
    cache.close()


def test_pinned_files_stay_until_cleared_by_hand(directory: Path) -> None:
    cache = Cache(directory, STORE, 12 * MIB)
    kept = _content(0)
    _fill(cache, kept)
    cache.pin([Wanted(b"kept", kept.id, kept.manifest)])
    for i in range(1, 5):
        _fill(cache, _content(i))
    assert cache.resident(kept.manifest) == kept.manifest.size
    assert cache.unpin([kept.id]) == 1
    for i in range(5, 9):
        _fill(cache, _content(i))
    assert cache.resident(kept.manifest) == 0
    cache.close()


def test_a_finished_save_is_adopted_without_copying(directory: Path, tmp_path: Path) -> None:
    cache, content = Cache(directory, STORE, 100 * MIB), _content(1)
    staged = tmp_path / "staged"
    staged.write_bytes(b"".join(content.pieces))
    inode = staged.stat().st_ino
    assert cache.adopt(content.id, content.manifest, staged)
    assert not staged.exists()
    assert sparse.path_of(directory / "files", content.id).stat().st_ino == inode
    file = cache.open_file(content.id, content.manifest)
    assert all(_read(file.locate(i), len(p)) == p for i, p in enumerate(content.pieces))
    copy = tmp_path / "copy"
    copy.write_bytes(b"x")
    assert not cache.adopt(content.id, content.manifest, copy), "in use"
    assert copy.exists()
    file.close()
    cache.close()


def test_an_unclean_stop_loses_no_space(directory: Path) -> None:
    """Bytes whose index rows were never written are given back when the next process is alone."""
    content = _content(1)
    dead = Cache(directory, STORE, 4000 * MIB)  # so large that four rows wait for more
    file = dead.open_file(content.id, content.manifest)
    for i, piece in enumerate(content.pieces):
        file.fill(i, piece)
    assert dead.index.counts()[1] == 4
    os.close(file.fd)  # what kill -9 does: locks go, nothing is written
    os.close(dead._lock_fd)
    dead.index.close()
    path = sparse.path_of(directory / "files", content.id)
    assert path.stat().st_blocks * 512 >= content.manifest.size
    cache = Cache(directory, STORE, 100 * MIB)
    assert cache.statistics().bytes == 0
    assert not path.exists() or path.stat().st_blocks * 512 < MIB
    _fill(cache, content)
    assert cache.resident(content.manifest) == content.manifest.size
    cache.close()


def test_a_damaged_index_begins_anew(directory: Path) -> None:
    content = _content(1)
    first = Cache(directory, STORE, 100 * MIB)
    _fill(first, content)
    first.close()
    (directory / "index.sqlite").write_bytes(b"no database" * 1000)
    cache = Cache(directory, STORE, 100 * MIB)
    assert cache.statistics().bytes == 0
    assert not any(p.is_file() for p in (directory / "files").rglob("*"))
    _fill(cache, content)
    cache.close()


def test_an_index_that_fails_makes_reads_slower_not_wrong(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, content = Cache(directory, STORE, 100 * MIB), _content(1)
    file = cache.open_file(content.id, content.manifest)

    def fail(*args: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr("modelfs.cache.index.connect", fail)
    for idle in list(cache.index._idle):
        cache.index._idle.remove(idle)
        idle.close()
    assert file.probe(0) is None
    assert file.fill(0, content.pieces[0]) is None
    monkeypatch.undo()
    assert file.fill(0, content.pieces[0]) is not None
    file.close()
    cache.close()


def test_bad_directories_and_limits(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="smaller than one chunk"):
        Cache(directory, STORE, limits.CHUNK_MAX - 1)
    Cache(directory, STORE).close()
    with pytest.raises(UsageError, match="another store"):
        Cache(directory, "cd" * 16)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not writable"):
        Cache(tmp_path / "file", STORE)
    with pytest.raises(UsageError, match="not writable"):
        Cache(Path("/proc/cache"), STORE)
