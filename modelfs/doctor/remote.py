"""A store: reachable, ours, fast enough, its clock, and whether exclusive creation holds.

Probes write below ``probe/`` and remove what they wrote, also when they fail; a collection clears what a killed one
leaves.
"""

from __future__ import annotations

import contextlib
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from modelfs import limits
from modelfs.doctor.finding import Finding, fail, ok, warn
from modelfs.errors import ModelfsError, NotAStoreError, StoreError, UnsafeStoreError, UsageError
from modelfs.repository.format import read_format
from modelfs.store.base import Store
from modelfs.store.clock import store_time
from modelfs.store.open import open_store, redact_url
from modelfs.store.probe import probe_exclusive_put

_SMALL = 1024
_ROUNDS = 5


def check_store(url: str, *, read_only: bool) -> Iterator[Finding]:
    """All checks of the store at ``url``. ``read_only``: nothing is written there."""
    try:
        store = open_store(url, timeout=limits.STORE_OPEN_TIMEOUT)
    except UsageError as error:
        yield fail("store", str(error), "see to the URL, the network and the credentials (docs/operations.md)")
        return
    try:
        yield _ours(store, redact_url(url))
        if read_only or not store.properties.writable:
            yield ok("store", "only read, so not measured")
            return
        for check in (_speed, _exclusive, _clock):
            try:
                yield from check(store)
            except StoreError as error:
                yield fail("store", str(error), "see to the permissions there, or mount with --read-only")
                return
    finally:
        store.close()


def _ours(store: Store, url: str) -> Finding:
    try:
        found = read_format(store)
    except NotAStoreError:
        return warn("store", f"{url} answers, and holds no modelfs store", f"modelfs init {url}")
    except ModelfsError as error:
        return fail("store", str(error), "see `modelfs fsck`, or take a newer modelfs")
    sealed = "encrypted" if found.encryption is not None else "not encrypted"
    return ok("store", f"{url} answers: format version {found.version}, {sealed}")


def _speed(store: Store) -> Iterator[Finding]:
    name = secrets.token_hex(16)
    small, large = secrets.token_bytes(_SMALL), secrets.token_bytes(limits.CHUNK_AVG)
    keys = [f"probe/{name}-{number}" for number in range(limits.DOCTOR_OBJECTS)]
    try:
        puts, gets, deletes = [], [], []
        for _ in range(_ROUNDS):
            puts.append(_timed(lambda: store.put(keys[0], small)))
            gets.append(_timed(lambda: store.get(keys[0])))
            deletes.append(_timed(lambda: store.delete(keys[0])))
        with ThreadPoolExecutor(limits.STORE_CONCURRENCY, "doctor") as pool:
            up = _timed(lambda: list(pool.map(lambda key: store.put(key, large), keys)))
            down = _timed(lambda: list(pool.map(store.get, keys)))
    finally:
        for key in keys:
            with contextlib.suppress(StoreError):
                store.delete(key)
    medians = [statistics.median(times) * 1000 for times in (puts, gets, deletes)]
    said = "put {:.1f} ms, get {:.1f} ms, delete {:.1f} ms".format(*medians)
    slow = max(medians) > limits.DOCTOR_LATENCY * 1000
    nearer = "saves of many small files will be slow: take a region or a network that is nearer, or --write-back"
    yield warn("latency", said, nearer) if slow else ok("latency", said)
    total = len(keys) * len(large) / 1e6
    rates = f"up {total / up:.0f} MB/s, down {total / down:.0f} MB/s ({len(keys)} objects of 4 MiB at once)"
    thin = min(total / up, total / down) < limits.DOCTOR_RATE / 1e6
    wait = "a 10 GB checkpoint takes a quarter of an hour and more: see to the network, or --write-back"
    yield warn("throughput", rates, wait) if thin else ok("throughput", rates)


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _exclusive(store: Store) -> Iterator[Finding]:
    try:
        probe_exclusive_put(store)
    except UnsafeStoreError as error:
        yield fail("put-if-absent", str(error), "let one machine write, with --single-writer, or take another server")
        return
    yield ok("put-if-absent", f"one of {limits.PROBE_WRITERS} writers at once wins")


def _clock(store: Store) -> Iterator[Finding]:
    try:
        before = time.time()
        then = store_time(store)
        after = time.time()
    except UsageError as error:
        yield warn("clock", str(error), "nothing can be collected there")
        return
    # Stores tell whole seconds, and answer somewhere between the question and the answer.
    skew = max(before - then - 1, then - after, 0.0)
    said = f"this machine and the store differ by {skew:.0f} s"
    if skew > limits.GC_SKEW:
        yield fail("clock", said, f"set it right (timedatectl): beyond {limits.GC_SKEW:.0f} s nothing is collected")
    elif skew > limits.DOCTOR_SKEW:
        yield warn("clock", said, "keep it right (timedatectl set-ntp true): times of commits come from it")
    else:
        yield ok("clock", said)
