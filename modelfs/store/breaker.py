"""Whether a store is away: so that nobody waits for what everybody knows.

When an operation gave up and nothing at all succeeded since it began, the store is away: every operation fails at once
from then on, while a thread of the breaker's own asks for one small object until somebody answers. An answer of any
kind, a refusal too, means that the store is there. Used by `retry.RetryStore`, around which see docs/consistency.md.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from modelfs import limits
from modelfs.errors import AwayError, StoreError, TransientError

log = logging.getLogger(__name__)


class Breaker:
    """Watches one store. ``ask``: one small request, which raises as the store does. ``patience``: seconds after which
    a request that hangs ends by itself. Safe to use from many threads."""

    def __init__(self, url: str, ask: Callable[[], object], patience: float) -> None:
        self._url = url
        self._ask = ask
        self._patience = patience
        self._lock = threading.Lock()
        self._answered = 0.0  # when the store last said anything, by the monotonic clock
        self._away_since: float | None = None
        self._why = ""
        self._asking = 0
        self._back = threading.Event()  # set while the store is not known to be away, and for good by `close`
        self._back.set()
        self._closed = False

    def check(self, key: str) -> None:
        """AwayError when the store is known to be away."""
        since = self._away_since
        if since is not None:
            raise AwayError(f"{self._url} is away since {time.monotonic() - since:.0f} s: {self._why}", key)

    def away(self) -> bool:
        """True while the store is known to be away."""
        return self._away_since is not None

    def away_for(self) -> float | None:
        """Seconds since the store was found away; None while it is not."""
        since = self._away_since
        return None if since is None else time.monotonic() - since

    def answered(self) -> None:
        """The store did something."""
        self._answered = time.monotonic()

    def gave_up(self, began: float, error: TransientError) -> None:
        """An operation that began then (by the monotonic clock) has used up its attempts."""
        with self._lock:
            if self._answered > began or self._away_since is not None or self._closed:
                return
            self._away_since = time.monotonic()
            self._why = str(error)
            self._back.clear()
            threading.Thread(target=self._watch, name="is the store back", daemon=True).start()
        log.error("%s is away, requests fail at once until it answers: %s", self._url, error)

    def _watch(self) -> None:
        while not self._back.is_set():
            ended = threading.Event()
            with self._lock:
                may = self._asking < limits.STORE_PROBES
                self._asking += may
            if may:
                threading.Thread(target=self._ask_once, args=(ended,), name="asks the store", daemon=True).start()
            # One that hangs says nothing of a store that is back by now: others are sent after it.
            ended.wait(self._patience / limits.STORE_PROBES)
            self._back.wait(limits.STORE_PROBE_PAUSE)

    def _ask_once(self, ended: threading.Event) -> None:
        try:
            self._ask()
        except TransientError as error:
            self._why = str(error)
        except StoreError:
            self._is_back()
        else:
            self._is_back()
        finally:
            with self._lock:
                self._asking -= 1
            ended.set()

    def _is_back(self) -> None:
        with self._lock:
            since, self._away_since = self._away_since, None
            self._back.set()
        self.answered()
        if since is not None:
            log.warning("%s is back after %.0f s", self._url, time.monotonic() - since)

    def close(self) -> None:
        """Ask no more."""
        with self._lock:
            self._closed = True
            self._back.set()
