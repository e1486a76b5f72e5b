"""The wrapper that every store gets: retries with jittered backoff, bounded concurrency, counters.

Only TransientError is tried again, for ``STORE_RETRY_BUDGET`` seconds in all; then it surfaces. While the store is
known to be away (`breaker`) nothing is tried. An exclusive creation whose acknowledgement was lost looks like a lost
race at the second attempt, so the object that is there is compared with ours before AlreadyExistsError is believed.
Closing wakes whoever waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import tenacity

from modelfs import limits
from modelfs.errors import AlreadyExistsError, AwayError, NotFoundError, StoreError, TransientError
from modelfs.store.base import Buffer, Dated, ObjectInfo, Store, StoreProperties, StoreStatistics, check_key
from modelfs.store.breaker import Breaker
from modelfs.store.meter import Asked, Meter

log = logging.getLogger(__name__)

T = TypeVar("T")

SMALL_OBJECT: Final = "format.json"  # the object that every store has: asked for to learn whether anybody is there


def _worth_a_retry(error: BaseException) -> bool:
    return isinstance(error, TransientError) and not isinstance(error, AwayError)


class RetryStore:
    """Wraps ``inner``. ``budget``: seconds for one operation with all its attempts, at most ``attempts`` (default: by
    whether the store is local); ``first``: upper bound of the first pause between them; ``foreign``: it is no store of
    ours, and keys may be any."""

    def __init__(
        self,
        inner: Store,
        *,
        attempts: int | None = None,
        first: float = limits.STORE_BACKOFF_FIRST,
        budget: float = limits.STORE_RETRY_BUDGET,
        foreign: bool = False,
    ) -> None:
        self._inner = inner
        self._check: Callable[[str], str] = str if foreign else check_key
        self._slots = threading.BoundedSemaphore(limits.STORE_CONCURRENCY)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._breaker = Breaker(inner.url, lambda: inner.size(SMALL_OBJECT), budget)
        if attempts is None:
            attempts = limits.STORE_ATTEMPTS if inner.properties.local else limits.STORE_ATTEMPTS_REMOTE
        self._meter = Meter()
        self._gets = self._puts = self._in = self._out = self._retries = self._errors = 0
        self._policy = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_worth_a_retry),
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(attempts),
                tenacity.stop_after_delay(budget),
                tenacity.stop_when_event_set(self._closed),
            ),
            wait=tenacity.wait_random_exponential(multiplier=first, max=limits.STORE_BACKOFF_MAX),
            sleep=tenacity.sleep_using_event(self._closed),
            before_sleep=self._note_retry,
            reraise=True,
        )

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def properties(self) -> StoreProperties:
        return self._inner.properties

    @property
    def local_root(self) -> Path | None:
        """The directory of a local store, else None."""
        root = getattr(self._inner, "local_root", None)
        return root if isinstance(root, Path) else None

    def get(self, key: str) -> Buffer:
        data = self._run("get", self._check(key), lambda: self._inner.get(key))
        self._count(gets=1, received=len(data))
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        data = self._run("get_range", self._check(key), lambda: self._inner.get_range(key, start, length))
        self._count(gets=1, received=len(data))
        return data

    def put(self, key: str, data: Buffer) -> None:
        self._run("put", self._check(key), lambda: self._inner.put(key, data))
        self._count(puts=1, sent=len(data))

    def put_if_absent(self, key: str, data: Buffer) -> None:
        self._check(key)
        tried = 0

        def attempt() -> None:
            nonlocal tried
            tried += 1
            try:
                self._inner.put_if_absent(key, data)
            except AlreadyExistsError:
                if tried == 1 or self._inner.get(key) != bytes(data):
                    raise

        self._run("put_if_absent", key, attempt)
        self._count(puts=1, sent=len(data))

    def size(self, key: str) -> int | None:
        return self._run("size", self._check(key), lambda: self._inner.size(key))

    def info(self, key: str) -> ObjectInfo | None:
        """Size and modification time of an object, None when it does not exist. Not every backend tells the time."""
        if isinstance(self._inner, Dated):
            inner = self._inner
            return self._run("size", self._check(key), lambda: inner.info(key))
        size = self.size(key)
        return None if size is None else ObjectInfo(key, size, 0.0)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        # A listing that broke off cannot be resumed where it was, so what is tried again is the whole of it.
        return iter(self._run("list", prefix, lambda: list(self._inner.list(prefix))))

    def delete(self, key: str) -> None:
        self._run("delete", self._check(key), lambda: self._inner.delete(key))

    def close(self) -> None:
        self._closed.set()
        self._breaker.close()
        self._inner.close()

    def statistics(self) -> StoreStatistics:
        """Counters since the store was opened."""
        with self._lock:
            return StoreStatistics(self._gets, self._puts, self._in, self._out, self._retries, self._errors)

    def _run(self, operation: str, key: str, action: Callable[[], T]) -> T:
        began, result = time.monotonic(), "error"

        def attempt() -> T:
            self._breaker.check(key)
            with self._slots:
                self._breaker.check(key)  # it may have been a long wait
                try:
                    result = action()
                except TransientError:
                    raise
                except StoreError:
                    self._breaker.answered()
                    raise
                self._breaker.answered()
                return result

        try:
            done = self._policy.copy()(attempt)
            result = "ok"
            return done
        except NotFoundError:
            result = "not_found"
            raise
        except AlreadyExistsError:
            result = "exists"
            raise
        except AwayError:
            self._count(errors=1)
            raise
        except TransientError as error:
            self._count(errors=1)
            log.warning("gave up on %s: %s", key or "a listing", error)
            self._breaker.gave_up(began, error)
            raise
        finally:
            self._meter.note(operation, result, time.monotonic() - began)

    def away(self) -> bool:
        """True while the store is known not to answer."""
        return self._breaker.away()

    def away_for(self) -> float | None:
        """Seconds since it was found not to answer; None while it is not known to."""
        return self._breaker.away_for()

    def asked(self) -> dict[str, Asked]:
        """What was asked of the store since it was opened, by operation."""
        return self._meter.read()

    def _note_retry(self, state: tenacity.RetryCallState) -> None:
        self._count(retries=1)
        error = state.outcome.exception() if state.outcome is not None else None
        log.info("attempt %d failed, trying again: %s", state.attempt_number, error)

    def _count(
        self, *, gets: int = 0, puts: int = 0, received: int = 0, sent: int = 0, retries: int = 0, errors: int = 0
    ) -> None:
        with self._lock:
            self._gets += gets
            self._puts += puts
            self._in += received
            self._out += sent
            self._retries += retries
            self._errors += errors
