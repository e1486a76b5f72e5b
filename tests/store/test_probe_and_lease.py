"""Stores that lie about exclusive creation are found out; the lease keeps a second writer away."""

from __future__ import annotations

import uuid

import pytest

from modelfs import limits
from modelfs.errors import ConflictError, UnsafeStoreError, UsageError
from modelfs.store import lease as lease_module
from modelfs.store.base import Buffer
from modelfs.store.lease import KEY, Lease
from modelfs.store.memory import MemoryStore
from modelfs.store.probe import probe_exclusive_put


class Overwriting(MemoryStore):
    """Accepts every creation and keeps the last, as some S3 servers do."""

    def put_if_absent(self, key: str, data: Buffer) -> None:
        self.put(key, data)


class RefusingButOverwriting(MemoryStore):
    """Tells the losers that they lost, after it took their bytes."""

    def put_if_absent(self, key: str, data: Buffer) -> None:
        try:
            super().put_if_absent(key, data)
        except Exception:
            self.put(key, data)
            raise


@pytest.mark.parametrize("kind", [Overwriting, RefusingButOverwriting])
def test_unsafe_stores_are_refused_with_the_way_out(kind: type[MemoryStore]) -> None:
    store = kind(uuid.uuid4().hex)
    with pytest.raises(UnsafeStoreError, match="--single-writer") as failure:
        probe_exclusive_put(store)
    assert store.url in str(failure.value)
    assert not list(store.list("probe/"))


def test_a_safe_store_passes_and_keeps_nothing() -> None:
    store = MemoryStore(uuid.uuid4().hex)
    probe_exclusive_put(store)
    assert not list(store.list(""))


def test_one_lease_at_a_time() -> None:
    store = MemoryStore(uuid.uuid4().hex)
    first, second = Lease(store), Lease(store)
    first.acquire()
    with pytest.raises(UsageError, match="is being written by"):
        second.acquire()
    first.renew()
    first.release()
    second.acquire()
    with pytest.raises(ConflictError):
        first.renew()
    first.release()
    assert store.size(KEY) is not None, "a lease that is not ours is not released"
    second.release()
    assert store.size(KEY) is None


def test_a_lease_that_has_ended_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore(uuid.uuid4().hex)
    Lease(store).acquire()
    later = lease_module.time.time() + limits.LEASE_TTL + 1
    monkeypatch.setattr(lease_module.time, "time", lambda: later)
    Lease(store).acquire()


def test_something_else_in_the_lease_s_place() -> None:
    store = MemoryStore(uuid.uuid4().hex)
    store.put(KEY, b"not a lease")
    with pytest.raises(UsageError, match="not a lease"):
        Lease(store).acquire()
