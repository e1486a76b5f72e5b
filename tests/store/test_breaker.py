"""A store that is away is asked by one, not by all; and it is noticed when it is back."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable

import pytest
from faultystore import FaultyStore

from modelfs import limits
from modelfs.errors import AwayError, NotFoundError, TransientError
from modelfs.store.memory import MemoryStore
from modelfs.store.retry import RetryStore


class Weather:
    """``down``: everything fails; ``only``: this key fails, after ``meanwhile``; counts what arrives."""

    def __init__(self) -> None:
        self.down = False
        self.only = ""
        self.meanwhile: Callable[[], object] = lambda: None
        self.asked: Counter[str] = Counter()
        self.probed = threading.Event()

    def __call__(self, operation: str, key: str) -> None:
        self.asked[key] += 1
        if key == "format.json":
            self.probed.set()
        if key == self.only:
            self.meanwhile()
        if self.down or key == self.only:
            raise TransientError("no answer", key)


@pytest.fixture
def weather(monkeypatch: pytest.MonkeyPatch) -> Weather:
    monkeypatch.setattr(limits, "STORE_PROBE_PAUSE", 0.01)
    return Weather()


@pytest.fixture
def store(weather: Weather) -> RetryStore:
    return RetryStore(FaultyStore(MemoryStore(uuid.uuid4().hex), weather), attempts=3, first=0.001, budget=4.0)


def _until(condition: threading.Event) -> None:
    assert condition.wait(30)


def test_once_it_is_known_nobody_waits(store: RetryStore, weather: Weather) -> None:
    store.put("a", b"x")
    weather.down = True
    with pytest.raises(TransientError):
        store.get("a")
    assert store.away()
    asked = weather.asked["a"]
    for _ in range(100):
        with pytest.raises(AwayError, match="is away since"):
            store.get("a")
    assert weather.asked["a"] == asked, "requests were sent to a store that is known to be away"
    assert store.statistics().retries == 2
    weather.probed.clear()
    _until(weather.probed)  # somebody goes on asking
    weather.down = False
    back = threading.Event()
    while store.away():
        back.wait(0.01)
    assert store.get("a") == b"x"


def test_one_bad_object_is_no_absence(store: RetryStore, weather: Weather) -> None:
    """While others are answered, the store is there."""
    store.put("good", b"x")
    weather.only, weather.meanwhile = "bad", lambda: store.get("good")
    with pytest.raises(TransientError):
        store.get("bad")
    assert not store.away()


def test_a_refusal_is_an_answer(store: RetryStore) -> None:
    with pytest.raises(NotFoundError):
        store.get("nothing")
    assert not store.away()


def test_it_is_alone_that_failed_and_is_there(store: RetryStore, weather: Weather) -> None:
    """A reader with nobody beside it: the first question brings it back."""
    store.put("good", b"x")
    weather.only = "bad"
    with pytest.raises(TransientError):
        store.get("bad")
    waiting = threading.Event()
    while store.away():
        waiting.wait(0.01)
    assert store.get("good") == b"x"


def test_closing_ends_the_asking(store: RetryStore, weather: Weather) -> None:
    others = set(threading.enumerate())
    weather.down = True
    with pytest.raises(TransientError):
        store.get("a")
    store.close()
    for thread in set(threading.enumerate()) - others:
        if thread.name == "is the store back":
            thread.join(30)
            assert not thread.is_alive()


def test_questions_that_hang_do_not_hide_that_it_is_back() -> None:
    """A request that was never answered may hang for long; others are sent after it, a bounded number."""
    hang, asked, release = threading.Event(), [0], threading.Event()

    def before(operation: str, key: str) -> None:
        if key == "x":
            raise TransientError("no answer", key)
        if key == "format.json" and hang.is_set():
            asked[0] += 1
            release.wait(60)

    hang.set()
    store = RetryStore(FaultyStore(MemoryStore(uuid.uuid4().hex), before), attempts=2, first=0.001, budget=0.2)
    with pytest.raises(TransientError):
        store.get("x")
    waiting = threading.Event()
    while asked[0] < 2:
        waiting.wait(0.01)
    hang.clear()
    while store.away():
        waiting.wait(0.01)
    assert asked[0] <= limits.STORE_PROBES
    release.set()
    store.close()
