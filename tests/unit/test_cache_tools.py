"""What `modelfs cache` is made of: pins, limits, names, hit counts, one fetch for several processes, seeds, warming."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
from cached_content import MIB, STORE, Content
from hypothesis import given
from hypothesis import strategies as st
from mounting import eventually

from modelfs import limits
from modelfs.cache import names, seed, sparse
from modelfs.cache.cache import Cache
from modelfs.cache.lookups import Lookups
from modelfs.cache.pins import Wanted, needs
from modelfs.cli.cache.map import picture
from modelfs.errors import NotFoundError, UsageError
from modelfs.formats.layout import Layout, Span
from modelfs.ids import ChunkId, ManifestId, digest
from modelfs.reader.residency import Ranges, residency
from modelfs.reader.warm import Warm
from modelfs.repository.keys import chunk_key
from modelfs.repository.objects import Extent, Manifest
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store


def content(chunks: int = 4, size: int = MIB) -> Content:
    return Content(*(os.urandom(size) for _ in range(chunks)))


def fill(cache: Cache, what: Content, path: bytes = b"") -> None:
    file = cache.open_file(what.id, what.manifest, path)
    for i, piece in enumerate(what.pieces):
        assert file.probe(i) is not None or file.fill(i, piece) is not None
    file.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# -- pins and limits ----------------------------------------------------------------------------------------------


def test_pins_outlive_processes_and_eviction_pressure(directory: Path) -> None:
    kept = content()
    first = Cache(directory, STORE, 12 * MIB)
    first.pin([kept.wanted(b"dir/kept")])  # before any of it is here
    fill(first, kept)
    first.close()
    second = Cache(directory, STORE)
    for _ in range(6):
        fill(second, content())
    assert second.evict_to(0) > 0
    assert second.resident(kept.manifest) == kept.manifest.size
    assert second.evict_files([kept.id]) == 0
    (row,) = second.list()
    assert (row.pinned, row.paths) == (True, (b"dir/kept",))
    assert second.unpin([kept.id]) == 1
    assert second.unpin([kept.id]) == 0
    assert second.evict_files([kept.id]) == kept.manifest.size
    second.close()


def test_what_a_pinned_file_borrows_is_spared(directory: Path) -> None:
    lender = content()
    borrower = Content(os.urandom(5000), *lender.pieces[1:3])
    cache = Cache(directory, STORE, 12 * MIB)
    fill(cache, lender)
    cache.pin([borrower.wanted()])
    for _ in range(5):
        fill(cache, content())
    assert cache.resident(borrower.manifest) == 2 * MIB
    assert cache.evict_files([lender.id]) == 0
    cache.unpin([borrower.id])
    assert cache.evict_files([lender.id]) == lender.manifest.size
    cache.close()


def test_pins_that_do_not_fit_are_refused_all_together(directory: Path) -> None:
    cache = Cache(directory, STORE, 12 * MIB)
    a, b = content(), content(9)
    cache.pin([a.wanted()])
    with pytest.raises(UsageError, match=rf"takes {9 * MIB} bytes.*limited to {12 * MIB}.*{4 * MIB} are pinned"):
        cache.pin([b.wanted()])
    assert cache.reserved() == 4 * MIB
    cache.pin([a.wanted()])  # again: counts once
    cache.pin([a.wanted(), content(8).wanted()])
    assert cache.reserved() == cache.statistics().pinned == 12 * MIB
    with pytest.raises(UsageError, match="are pinned in"):
        cache.resize(11 * MIB)
    with pytest.raises(UsageError, match="smaller than one chunk"):
        cache.resize(MIB)
    cache.close()


def test_room_is_kept_for_distinct_chunks_only() -> None:
    piece = os.urandom(1000)
    holes = Manifest(9000, (Extent(b"", 7000), Extent(digest(piece), 1000), Extent(digest(piece), 1000)))
    assert needs(holes) == 1000


def test_a_new_limit_holds_for_running_processes_and_later_ones(directory: Path) -> None:
    running, tool = Cache(directory, STORE, 40 * MIB), Cache(directory, STORE)
    contents = [content() for _ in range(6)]
    for what in contents:
        fill(running, what)
    assert tool.room.limit == 40 * MIB
    assert tool.resize(10 * MIB) >= 14 * MIB
    assert running.room.limit == 10 * MIB
    for _ in range(4):
        fill(running, content())
        assert running.statistics().bytes <= 10 * MIB
    running.close()
    tool.close()
    later = Cache(directory, STORE)
    assert later.statistics().limit == 10 * MIB
    later.close()


# -- names and counts -----------------------------------------------------------------------------------------------


def test_the_newest_paths_of_a_file_are_remembered(directory: Path) -> None:
    what, other = content(), content()
    cache = Cache(directory, STORE, 100 * MIB)
    for number in range(limits.CACHE_NAMES + 3):
        fill(cache, what, b"d/%d" % number)
    fill(cache, other, b"d-other")
    known = names.of_all(cache.index)
    assert known[what.id] == tuple(b"d/%d" % n for n in reversed(range(3, limits.CACHE_NAMES + 3)))
    assert names.below(cache.index, b"d") == [what.id]
    assert names.below(cache.index, b"d/5") == [what.id]
    assert names.below(cache.index, b"d/") == names.below(cache.index, b"x") == []
    assert set(names.below(cache.index, b"")) == {what.id, other.id}
    cache.clear()
    assert names.of_all(cache.index) == {}
    cache.close()


def test_hits_and_misses_of_all_processes_are_summed_up(directory: Path) -> None:
    first, second = Cache(directory, STORE), Cache(directory, STORE)
    first.lookups.hits, first.lookups.hit_bytes = 3, 300
    second.lookups.misses, second.lookups.miss_bytes = 1, 100
    second.sum_up()
    assert first.statistics().lookups == Lookups(3, 300, 1, 100)
    first.sum_up()
    first.lookups.hit_bytes, first.lookups.hits = 400, 4
    first.close()
    assert second.statistics().lookups.ratio == 0.8
    second.close()
    third = Cache(directory, STORE)
    assert third.statistics().lookups == Lookups(4, 400, 1, 100)
    third.close()


# -- one fetch ------------------------------------------------------------------------------------------------------


def test_another_process_waits_and_finds_what_came(directory: Path) -> None:
    what = content(1)
    ours, theirs = Cache(directory, STORE), Cache(directory, STORE)
    chunk = ChunkId(what.manifest.chunks[0].id)
    mine, other = ours.open_file(what.id, what.manifest), theirs.open_file(what.id, what.manifest)
    began, found = threading.Event(), []

    def wait() -> None:
        began.set()
        with theirs.fetching.turn(chunk):
            found.append(other.probe(0) is not None)

    thread = threading.Thread(target=wait)
    with ours.fetching.turn(chunk):
        thread.start()
        began.wait()
        thread.join(0.2)
        assert thread.is_alive(), "it did not wait"
        mine.fill(0, what.pieces[0])
    thread.join()
    assert found == [True]
    mine.close()
    other.close()
    theirs.close()
    ours.close()


def test_a_process_that_stands_still_is_waited_for_so_long_only(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CACHE_FETCH_WAIT", 0.1)
    ours, theirs, found = Cache(directory, STORE), Cache(directory, STORE), []
    with ours.fetching.turn(ChunkId(bytes(32))), theirs.fetching.turn(ChunkId(bytes(32))):
        found.append("on")
    assert found == ["on"]
    theirs.close()
    ours.close()


# -- seeds ----------------------------------------------------------------------------------------------------------


def test_an_export_is_taken_in_by_another_machine(directory: Path, tmp_path: Path) -> None:
    whole, part = content(), content()
    cache = Cache(directory, STORE, 100 * MIB)
    fill(cache, whole)
    file = cache.open_file(part.id, part.manifest)
    file.fill(1, part.pieces[1])
    out = seed.export(cache, tmp_path / "seed")
    assert (out.files, out.copied_bytes, out.present_bytes) == (2, 5 * MIB, 0)
    file.fill(3, part.pieces[3])
    again = seed.export(cache, tmp_path / "seed")
    assert (again.copied_bytes, again.present_bytes) == (MIB, 5 * MIB)
    file.close()
    known = {whole.id: whole.manifest, part.id: part.manifest}
    other = Cache(tmp_path / "other", STORE, 100 * MIB)
    taken = seed.take_in(other, known.__getitem__, tmp_path / "seed")
    assert (taken.files, taken.taken_bytes, taken.damaged_bytes, taken.refused_bytes) == (2, 6 * MIB, 0, 0)
    assert other.resident(whole.manifest) == 4 * MIB
    assert seed.take_in(other, known.__getitem__, tmp_path / "seed").present_bytes == 6 * MIB
    opened = other.open_file(part.id, part.manifest)
    fd, offset = opened.probe(3) or (-1, 0)
    assert os.pread(fd, MIB, offset) == part.pieces[3]
    opened.close()
    other.close()
    cache.close()


def test_a_seed_is_not_believed(directory: Path, tmp_path: Path) -> None:
    """Flipped bytes, another file's bytes, zeros for holes, files nobody knows: only what has its hash is taken."""
    a, b, gone = content(), content(), content()
    cache = Cache(directory, STORE, 100 * MIB)
    for what in (a, b, gone):
        fill(cache, what)
    seed.export(cache, tmp_path / "seed")
    cache.close()
    files = tmp_path / "seed" / "files"
    with sparse.path_of(files, a.id).open("r+b") as raw:
        raw.seek(a.starts[2] + 5)
        raw.write(b"\xff\x00\xff")
        raw.seek(a.starts[1])
        raw.write(bytes(MIB))  # as a copy that does not know holes
    shutil.copy(sparse.path_of(files, a.id), sparse.path_of(files, b.id))

    def ask(manifest: ManifestId) -> Manifest:
        if manifest == gone.id:
            raise NotFoundError("no such manifest")
        return {a.id: a.manifest, b.id: b.manifest}[manifest]

    other = Cache(tmp_path / "other", STORE, 100 * MIB)
    taken = seed.take_in(other, ask, tmp_path / "seed")
    assert (taken.files, taken.unknown_files, taken.taken_bytes, taken.damaged_bytes) == (2, 1, 2 * MIB, 4 * MIB)
    assert other.resident(b.manifest) == 0
    other.close()
    with pytest.raises(UsageError, match="not an export"):
        seed.size_of(tmp_path / "nothing")


# -- pictures -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=6), st.integers(0, 99), st.integers(0, 99))
def test_bytes_within_ranges(gaps: list[tuple[int, int]], start: int, end: int) -> None:
    ranges, at = [], 0
    for gap, length in gaps:
        ranges.append((at + gap + 1, at + gap + 1 + length))
        at = ranges[-1][1]
    start, end = min(start, end), max(start, end)
    expected = sum(any(a <= n < b for a, b in ranges) for n in range(start, end))
    assert Ranges(ranges).within(start, end) == expected


def test_the_picture_is_dark_only_where_all_is_here() -> None:
    size = 100 * MIB
    assert picture(0, []) == []
    lines = picture(size, [(0, 50 * MIB), (60 * MIB, 60 * MIB + 1)])
    cells = "".join(line[12:] for line in lines)
    assert len(cells) == 400
    assert cells[:200] == "█" * 200
    assert cells[240] == "░"
    assert set(cells[200:240] + cells[241:]) == {"·"}
    assert len(picture(1 << 45, [])) == limits.MAP_LINES


# -- warming --------------------------------------------------------------------------------------------------------


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    store = open_store(str(tmp_path / "store"), create=True)
    return Repository.create(store)


def stored(repo: Repository, what: Content, layout: Layout | None = None) -> Wanted:
    for piece in what.pieces:
        repo.write_chunk(piece)
    tensors = repo.write_layout(layout) if layout is not None else b""
    manifest = Manifest(what.manifest.size, what.manifest.chunks, tensors)
    return Wanted(b"f", repo.write_manifest(manifest), manifest)


def test_warming_fetches_what_is_missing_and_verifies_the_rest(repo: Repository, directory: Path) -> None:
    what = content(6)
    file = stored(repo, what)
    cache = Cache(directory, repo.format.id, 100 * MIB)
    opened = cache.open_file(file.id, file.manifest)
    opened.fill(0, what.pieces[0])
    opened.fill(1, what.pieces[1])
    opened.close()
    cache.close()
    with sparse.path_of(directory / "files", file.id).open("r+b") as raw:
        raw.write(b"flipped")
    cache, ticks = Cache(directory, repo.format.id), []
    with Warm(repo, cache) as run:
        parts = run.plan([file], ())
        done = run.run(parts, ticks.append)
        assert run.left_out(parts) == 0
    assert (done.bytes, done.fetched_chunks, done.present_chunks) == (6 * MIB, 5, 1)
    assert sum(ticks) == 6 * MIB
    with Warm(repo, cache) as run:
        assert run.run(run.plan([file], ()), ticks.append).fetched_chunks == 0
    assert cache._open == {}
    cache.close()


def test_files_with_the_same_chunks_are_fetched_once(repo: Repository, directory: Path) -> None:
    shared = [os.urandom(MIB) for _ in range(8)]
    files = [stored(repo, Content(*shared, os.urandom(MIB))) for _ in range(3)]
    cache = Cache(directory, repo.format.id, 100 * MIB)
    with Warm(repo, cache) as run:
        done = run.run(run.plan(files, ()), lambda count: None)
    assert done.fetched_bytes == cache.statistics().bytes == 11 * MIB
    cache.close()


def test_warming_what_cannot_fit_or_is_not_there(repo: Repository, directory: Path) -> None:
    what = content(12)
    file = stored(repo, what)
    cache = Cache(directory, repo.format.id, 8 * MIB)
    with Warm(repo, cache) as run, pytest.raises(UsageError, match="limited to"):
        run.plan([file], ())
    cache.resize(100 * MIB)
    repo.store.delete(chunk_key(ChunkId(file.manifest.chunks[3].id)))
    with Warm(repo, cache) as run:
        parts = run.plan([file], ())
        done = run.run(parts, lambda count: None)
        assert run.left_out(parts) == MIB
    assert len(done.failures) == 1
    assert file.manifest.chunks[3].id.hex()[2:] in done.failures[0]
    assert done.fetched_chunks == 11
    assert cache._open == {}
    cache.close()


def test_warming_tensors_by_name(repo: Repository, directory: Path) -> None:
    what = content(6)
    spans = tuple(Span(i * MIB + 1000, MIB - 2000, "F32", (4,), f"layers.{i}.w") for i in range(1, 5))
    file = stored(repo, what, Layout("safetensors", spans, what.manifest.size))
    cache = Cache(directory, repo.format.id, 100 * MIB)
    with Warm(repo, cache) as run:
        with pytest.raises(UsageError, match="no tensor is named like"):
            run.plan([file], ("lm_head*",))
        (part,) = run.plan([file], ("layers.3.*",))
        assert part.chunks == (0, 1, 3, 4, 5)  # what is in front of the first tensor, the tensor, what is behind
        run.run([part], lambda count: None)
    found = residency(repo, cache, file.manifest)
    assert found.ranges == ((0, 2 * MIB), (3 * MIB, 6 * MIB))
    assert [(t.name, t.resident == t.length) for t in found.tensors] == [(f"layers.{i}.w", i != 2) for i in range(1, 5)]
    cache.close()


def test_two_warmings_at_once_share_their_fetches(repo: Repository, directory: Path, tmp_path: Path) -> None:
    file = stored(repo, content(24))
    runs = []

    def warm() -> None:
        store = open_store(str(tmp_path / "store"))
        cache = Cache(directory, repo.format.id)
        with Warm(Repository.open(store), cache) as run:
            runs.append(run.run(run.plan([file], ()), lambda count: None))
        cache.close()
        store.close()

    threads = [threading.Thread(target=warm) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: not any(thread.is_alive() for thread in threads), "both runs end", 60)
    assert sum(run.fetched_chunks for run in runs) == 24
    assert sum(run.present_chunks for run in runs) == 24
