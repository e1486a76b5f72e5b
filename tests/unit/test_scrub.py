"""Scrub goes on where it stopped, keeps its pace, and says what is damaged; a cache can be verified in place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from damaging import Stocked, spoil, stocked
from repository_store import DictStore

from modelfs import limits
from modelfs.cache.cache import Cache
from modelfs.cache.verify import verify
from modelfs.errors import PermanentError, UsageError
from modelfs.ids import ChunkId, ManifestId, digest
from modelfs.repository.fsck import Findings
from modelfs.repository.objects import Extent, Manifest
from modelfs.repository.repository import Repository
from modelfs.repository.scrub import Pace, Progress, Scrub, read_progress, write_progress
from modelfs.store.base import Buffer


@pytest.fixture
def stock() -> Stocked:
    return stocked()


def run(store: DictStore, state: Path, stop_after: int = 0) -> tuple[Findings, Progress]:
    return Scrub(Repository.open(store), state, Pace(0), stop_after, lambda what, units: lambda count: None).run()


def test_a_round_in_several_runs_reads_every_chunk_once(stock: Stocked, tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state.json"
    read: list[str] = []
    for number in range(1, 5):
        stock.store.reset()
        found, progress = run(stock.store, state, 1)
        assert found.read_chunks == 1
        read += [k for op, k in stock.store.log if op == "get" and k.startswith("data/")][:1]
        assert progress == read_progress(state, Repository.open(stock.store).format.id)
        assert progress.checked == (number if number < 4 else 0)
        assert progress.rounds == (number == 4)
    assert len(set(read)) == 4
    assert progress.last == ""
    assert progress.finished
    found, progress = run(stock.store, state)
    assert (found.read_chunks, progress.rounds) == (4, 2)


def test_damage_is_found_in_its_turn_and_named(stock: Stocked, tmp_path: Path) -> None:
    spoil(stock.store.data, stock.keys["chunk"], "flipped")
    before = dict(stock.store.data)
    seen = []
    for _ in range(4):
        found, _ = run(stock.store, tmp_path / "s", 1)
        seen += [(d.key, set(d.hurts)) for d in found.damages]
    assert seen == [(stock.keys["chunk"], {b"model/a"})]
    assert stock.store.data == before


def test_a_run_that_is_cut_short_loses_nothing(stock: Stocked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCRUB_SAVE", 0.0)

    class Failing(DictStore):
        def get(self, key: str) -> bytes:
            if key.startswith("data/") and sum(k.startswith("data/") for op, k in self.log if op == "get") >= 3:
                raise PermanentError("the store is gone", key)
            return super().get(key)

    failing = Failing()
    failing.data = stock.store.data
    with pytest.raises(PermanentError):
        run(failing, tmp_path / "s")
    progress = read_progress(tmp_path / "s", Repository.open(stock.store).format.id)
    assert 1 <= progress.checked <= 3
    found, progress = run(stock.store, tmp_path / "s")
    assert 1 <= found.read_chunks <= 3
    assert progress.rounds == 1


def test_the_pace_is_kept_and_idle_time_is_not_made_up_for() -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(10, lambda: now[0], sleep)
    for _ in range(4):
        pace.spend(20)
    assert slept == [2.0, 2.0, 2.0]
    now[0] += 1000
    slept.clear()
    pace.spend(20)
    pace.spend(20)
    assert slept == [2.0]
    Pace(0, lambda: now[0], sleep).spend(10**12)
    assert slept == [2.0]


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b'{"store": "x", "last": "zz"}', b'{"store": "x", "more": 1}', b"\xff", b'{"store": "other"}'],
)
def test_a_state_that_is_not_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(UsageError, match=r"state of (a|another store's) scrub"):
        read_progress(tmp_path / "s", "x")


def test_a_state_that_cannot_be_kept_is_said_before_the_work(stock: Stocked, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stock.store.reset()
    with pytest.raises(UsageError):
        run(stock.store, tmp_path / "file" / "s")
    with pytest.raises(UsageError, match="cannot be written"):
        write_progress(tmp_path / "file" / "s", Progress("x"))
    assert not any(key.startswith("data/") for _, key in stock.store.log)


# -- modelfs cache verify ------------------------------------------------------------------------------------------


def filled(cache: Cache, chunks: list[bytes]) -> tuple[ManifestId, Manifest]:
    manifest = Manifest(sum(map(len, chunks)), tuple(Extent(digest(chunk), len(chunk)) for chunk in chunks))
    manifest_id = ManifestId(digest(b"".join(chunks)))
    file = cache.open_file(manifest_id, manifest)
    for index, chunk in enumerate(chunks):
        assert file.fill(index, chunk) is not None
    file.close()
    return manifest_id, manifest


def flip(cache: Cache, manifest: ManifestId, offset: int) -> None:
    path = cache.files / manifest.hex()[:2] / manifest.hex()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes((byte[0] ^ 1,)))


def test_damaged_chunks_of_a_cache_are_forgotten(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", "ab" * 16)
    same = os.urandom(5000)
    manifest_id, manifest = filled(cache, [os.urandom(10_000), same, os.urandom(10_000)])
    heard: list[int] = []
    assert verify(cache, heard.append).damaged_chunks == 0
    assert heard == [10_000, 5000, 10_000]
    cache.close()

    mounted, cache = Cache(tmp_path / "c", "ab" * 16), Cache(tmp_path / "c", "ab" * 16)
    reader = mounted.open_file(manifest_id, manifest)  # holds the shared lock, as a mount does
    flip(cache, manifest_id, 12_000)
    found = verify(cache)
    assert (found.chunks, found.bytes, found.damaged_chunks, found.damaged_bytes) == (3, 25_000, 1, 5000)
    assert cache.read_chunk(ChunkId(digest(same)), 5000) is None
    assert cache.statistics().bytes == 20_000
    reader.close()
    again = mounted.open_file(manifest_id, manifest)
    assert [again.probe(index) is not None for index in range(3)] == [True, False, True]
    assert again.fill(1, same) is not None
    again.close()
    mounted.close()
    assert verify(cache).damaged_chunks == 0
    cache.close()


def test_a_cache_file_that_is_gone_or_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "c", "ab" * 16)
    manifest_id, _ = filled(cache, [os.urandom(10_000)])

    def broken(fd: int, offset: int, length: int) -> Buffer:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("modelfs.cache.verify.read_exactly", broken)
        assert verify(cache).damaged_chunks == 1
    (cache.files / manifest_id.hex()[:2] / manifest_id.hex()).unlink()
    assert verify(cache).chunks == 0
    cache.close()
