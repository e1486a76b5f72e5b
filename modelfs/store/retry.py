"""The wrapper that every store gets: retries with jittered backoff, bounded concurrency, counters.

Only TransientError is tried again, at most ``STORE_ATTEMPTS`` times and ``STORE_RETRY_BUDGET`` seconds in all; then
it surfaces. An exclusive creation whose acknowledgement was lost looks like a lost race at the second attempt, so
the object that is there is compared with ours before AlreadyExistsError is believed. Closing wakes whoever waits.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import tenacity

from modelfs import limits
from modelfs.errors import AlreadyExistsError, StoreError, TransientError
from modelfs.store.base import Buffer, ObjectInfo, Store, StoreProperties, StoreStatistics, check_key

log = logging.getLogger(__name__)

T = TypeVar("T")


class RetryStore:
    """Wraps ``inner``. ``attempts``, ``first`` and ``budget`` (seconds) are for tests; the defaults are in `limits`."""

    def __init__(
        self,
        inner: Store,
        *,
        attempts: int = limits.STORE_ATTEMPTS,
        first: float = limits.STORE_BACKOFF_FIRST,
        budget: float = limits.STORE_RETRY_BUDGET,
    ) -> None:
        self._inner = inner
        self._slots = threading.BoundedSemaphore(limits.STORE_CONCURRENCY)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._gets = self._puts = self._in = self._out = self._retries = self._errors = 0
        self._policy = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientError),
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
        data = self._run(check_key(key), lambda: self._inner.get(key))
        self._count(gets=1, received=len(data))
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        data = self._run(check_key(key), lambda: self._inner.get_range(key, start, length))
        self._count(gets=1, received=len(data))
        return data

    def put(self, key: str, data: Buffer) -> None:
        self._run(check_key(key), lambda: self._inner.put(key, data))
        self._count(puts=1, sent=len(data))

    def put_if_absent(self, key: str, data: Buffer) -> None:
        check_key(key)
        tried = 0

        def attempt() -> None:
            nonlocal tried
            tried += 1
            try:
                self._inner.put_if_absent(key, data)
            except AlreadyExistsError:
                if tried == 1 or self._inner.get(key) != bytes(data):
                    raise

        self._run(key, attempt)
        self._count(puts=1, sent=len(data))

    def size(self, key: str) -> int | None:
        return self._run(check_key(key), lambda: self._inner.size(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        # A listing that broke off cannot be resumed where it was, so what is tried again is the whole of it.
        return iter(self._run(prefix, lambda: list(self._inner.list(prefix))))

    def delete(self, key: str) -> None:
        self._run(check_key(key), lambda: self._inner.delete(key))

    def close(self) -> None:
        self._closed.set()
        self._inner.close()

    def statistics(self) -> StoreStatistics:
        """Counters since the store was opened."""
        with self._lock:
            return StoreStatistics(self._gets, self._puts, self._in, self._out, self._retries, self._errors)

    def _run(self, key: str, action: Callable[[], T]) -> T:
        def attempt() -> T:
            with self._slots:
                return action()

        try:
            return self._policy.copy()(attempt)
        except StoreError as error:
            if isinstance(error, TransientError):
                self._count(errors=1)
                log.warning("gave up on %s: %s", key or "a listing", error)
            raise

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
