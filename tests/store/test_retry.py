"""Retries, lost acknowledgements, bounds: `RetryStore` over a store that fails as told."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from faultystore import Fault, FaultyStore

from modelfs import limits
from modelfs.errors import AlreadyExistsError, NotFoundError, PermanentError, PermissionDeniedError, TransientError
from modelfs.store.memory import MemoryStore
from modelfs.store.retry import RetryStore


def _store(before: Fault | None = None, after: Fault | None = None, attempts: int = 5) -> RetryStore:
    inner = FaultyStore(MemoryStore(uuid.uuid4().hex), before, after)
    return RetryStore(inner, attempts=attempts, first=0.001)


def _fail(times: int, error: type[TransientError] = TransientError) -> Fault:
    left = [times]

    def fault(operation: str, key: str) -> None:
        if left[0]:
            left[0] -= 1
            raise error("not now", key)

    return fault


def test_passing_failures_are_survived_and_counted() -> None:
    store = _store(_fail(3))
    store.put("a", b"x")
    assert store.get("a") == b"x"
    statistics = store.statistics()
    assert (statistics.retries, statistics.errors, statistics.puts, statistics.gets) == (3, 0, 1, 1)
    assert (statistics.bytes_in, statistics.bytes_out) == (1, 1)


def test_lasting_failures_surface_after_the_bound() -> None:
    calls: list[str] = []

    def always(operation: str, key: str) -> None:
        calls.append(operation)
        raise TransientError("down", key)

    store = _store(always, attempts=4)
    with pytest.raises(TransientError):
        store.get("a")
    assert len(calls) == 4
    assert store.statistics().errors == 1


@pytest.mark.parametrize("error", [PermanentError, PermissionDeniedError])
def test_what_does_not_pass_is_not_tried_again(error: type[PermanentError]) -> None:
    calls: list[str] = []

    def refuse(operation: str, key: str) -> None:
        calls.append(operation)
        raise error("no", key)

    with pytest.raises(error):
        _store(refuse).put("a", b"x")
    assert calls == ["put"]


def test_missing_is_an_answer() -> None:
    store = _store()
    with pytest.raises(NotFoundError):
        store.get("a")
    assert store.statistics().retries == 0


def test_lost_acknowledgement_of_an_exclusive_creation_is_a_success() -> None:
    store = _store(after=_fail(1))
    store.put_if_absent("commits/main/1", b"ours")
    assert store.get("commits/main/1") == b"ours"


def test_a_lost_race_stays_lost_even_after_a_retry() -> None:
    inner = MemoryStore(uuid.uuid4().hex)
    left = [1]

    def somebody_else_first(operation: str, key: str) -> None:
        if operation == "put_if_absent" and left[0]:
            left[0] -= 1
            inner.put(key, b"theirs")
            raise TransientError("reset", key)

    store = RetryStore(FaultyStore(inner, somebody_else_first), first=0.001)
    with pytest.raises(AlreadyExistsError):
        store.put_if_absent("commits/main/1", b"ours")
    assert store.get("commits/main/1") == b"theirs"


def test_a_listing_that_breaks_off_is_read_again_from_its_beginning() -> None:
    inner = MemoryStore(uuid.uuid4().hex)
    for i in range(10):
        inner.put(f"k/{i}", b"x")

    class Breaking(FaultyStore):
        broken = False

        def list(self, prefix: str):  # type: ignore[no-untyped-def]
            for number, found in enumerate(super().list(prefix)):
                if number == 5 and not self.broken:
                    self.broken = True
                    raise TransientError("cut", prefix)
                yield found

    store = RetryStore(Breaking(inner), first=0.001)
    assert len({found.key for found in store.list("k/")}) == len(list(store.list("k/"))) == 10


def test_never_more_requests_at_once_than_the_bound() -> None:
    lock, running, most = threading.Lock(), [0], [0]
    together = threading.Barrier(limits.STORE_CONCURRENCY)

    def enter(operation: str, key: str) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait(30)  # releases exactly as many as may be inside at once
        with lock:
            running[0] -= 1

    store = _store(enter)
    with ThreadPoolExecutor(3 * limits.STORE_CONCURRENCY) as pool:
        list(pool.map(lambda i: store.size(f"k{i}"), range(3 * limits.STORE_CONCURRENCY)))
    assert most[0] == limits.STORE_CONCURRENCY


def test_closing_wakes_who_waits_for_the_next_attempt() -> None:
    failed = threading.Event()

    def down(operation: str, key: str) -> None:
        failed.set()
        raise TransientError("down", key)

    inner = FaultyStore(MemoryStore(uuid.uuid4().hex), down)
    store = RetryStore(inner, first=3600.0, attempts=50, budget=7200.0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.get, "a")
        assert failed.wait(30)
        store.close()
        with pytest.raises(TransientError):
            waiting.result(30)
