"""The doctor's checks of a store, at stores that are ill in known ways."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from modelfs import limits
from modelfs.doctor import remote
from modelfs.doctor.finding import Finding
from modelfs.errors import PermissionDeniedError
from modelfs.repository.repository import Repository
from modelfs.store.base import Buffer, ObjectInfo
from modelfs.store.memory import MemoryStore
from modelfs.store.retry import RetryStore


class IllStore(MemoryStore):
    """Slow, with a clock of its own, with creation that overwrites, or without the right to write."""

    delay = 0.0
    ahead = 0.0
    overwrites = False
    refuses = False

    def put(self, key: str, data: Buffer) -> None:
        time.sleep(self.delay)
        if self.refuses and key.startswith("probe/"):
            raise PermissionDeniedError("Forbidden", key)
        super().put(key, data)

    def put_if_absent(self, key: str, data: Buffer) -> None:
        if self.overwrites and key.startswith("probe/"):
            super().put(key, data)
        else:
            super().put_if_absent(key, data)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for info in super().list(prefix):
            yield ObjectInfo(info.key, info.size, time.time() + self.ahead)


@pytest.fixture
def ill(monkeypatch: pytest.MonkeyPatch) -> Iterator[IllStore]:
    made = IllStore(f"ill-{time.time_ns()}")
    Repository.create(made)
    monkeypatch.setattr(remote, "open_store", lambda url, *, timeout: RetryStore(made, budget=timeout))
    monkeypatch.setattr(limits, "CHUNK_AVG", 1000)
    yield made
    assert [info.key for info in made.list("probe/")] == []


def found(url: str = "memory://x", *, read_only: bool = False) -> dict[str, Finding]:
    return {finding.check: finding for finding in remote.check_store(url, read_only=read_only)}


def test_a_sound_store(ill: IllStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DOCTOR_RATE", 0)
    said = found()
    assert {name: finding.level for name, finding in said.items()} == dict.fromkeys(
        ("store", "latency", "throughput", "put-if-absent", "clock"), "ok"
    )
    assert not any(finding.advice for finding in said.values())


def test_a_slow_store(ill: IllStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DOCTOR_LATENCY", 0.004)
    ill.delay = 0.005
    said = found()
    assert (said["latency"].level, said["throughput"].level) == ("warn", "warn")
    assert "--write-back" in said["latency"].advice


@pytest.mark.parametrize(
    ("ahead", "level"), [(0.0, "ok"), (-3.0, "ok"), (30.0, "warn"), (-30.0, "warn"), (400.0, "fail"), (-4000.0, "fail")]
)
def test_clocks(ill: IllStore, ahead: float, level: str) -> None:
    ill.ahead = ahead
    assert found()["clock"].level == level


def test_creation_that_overwrites(ill: IllStore) -> None:
    ill.overwrites = True
    said = found()["put-if-absent"]
    assert said.level == "fail"
    assert "--single-writer" in said.advice


def test_a_store_that_takes_no_writes(ill: IllStore) -> None:
    ill.refuses = True
    levels = [finding.level for finding in remote.check_store("memory://x", read_only=False)]
    assert levels == ["ok", "fail"]
    assert set(found(read_only=True)) == {"store"}
    assert found(read_only=True)["store"].level == "ok"
