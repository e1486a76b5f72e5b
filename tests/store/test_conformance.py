"""What every backend promises (modelfs/store/base.py), asked of each of them."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelfs.errors import AlreadyExistsError, NotFoundError, UnsafeStoreError
from modelfs.store.base import Dated, Store
from modelfs.store.probe import probe_exclusive_put


@pytest.mark.parametrize("size", [0, 1, 4096, 9 << 20])
def test_put_and_get(backend: Store, size: int) -> None:
    data = os.urandom(size)
    backend.put("data/ab/cd", data)
    assert backend.get("data/ab/cd") == data
    assert backend.size("data/ab/cd") == size


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer(backend: Store, kind: type) -> None:
    backend.put("a", kind(b"some bytes"))
    backend.put_if_absent("b", kind(b"other bytes"))
    assert (backend.get("a"), backend.get("b")) == (b"some bytes", b"other bytes")


def test_put_replaces(backend: Store) -> None:
    backend.put("a/b", b"long enough to be cut")
    backend.put("a/b", b"short")
    assert backend.get("a/b") == b"short"


def test_missing(backend: Store) -> None:
    assert backend.size("no/such") is None
    for ask in (lambda: backend.get("no/such"), lambda: backend.get_range("no/such", 0, 10)):
        with pytest.raises(NotFoundError) as failure:
            ask()
        assert failure.value.key == "no/such"
    backend.delete("no/such")
    backend.put("dir/file", b"")
    assert backend.size("dir/file/below") is None


def test_ranges(backend: Store) -> None:
    data = bytes(range(256)) * 40
    backend.put("r", data)
    assert backend.get_range("r", 0, 10) == data[:10]
    assert backend.get_range("r", 5000, 300) == data[5000:5300]
    assert backend.get_range("r", len(data) - 5, 100) == data[-5:]
    assert backend.get_range("r", len(data), 10) == b""
    assert backend.get_range("r", len(data) + 50, 10) == b""
    assert backend.get_range("r", 3, 0) == b""


def test_delete(backend: Store) -> None:
    backend.put("a/b/c", b"x")
    backend.delete("a/b/c")
    assert backend.size("a/b/c") is None
    assert list(backend.list("a/")) == []


def test_list(backend: Store) -> None:
    keys = {"format.json", "data/aa/1", "data/aa/2", "data/ab/3", "data2/x", "commits/main/00001"}
    for key in keys:
        backend.put(key, key.encode())
    assert {found.key for found in backend.list("")} == keys
    assert {found.key for found in backend.list("data/")} == {"data/aa/1", "data/aa/2", "data/ab/3"}
    assert {found.key for found in backend.list("data/aa/")} == {"data/aa/1", "data/aa/2"}
    assert list(backend.list("nothing/")) == []
    assert all(found.size == len(found.key) for found in backend.list(""))


def test_info(backend: Store) -> None:
    """One object as a listing shows it; the time to the second, if the backend tells it."""
    backend.put("data/aa/1", b"content")
    (listed,) = backend.list("data/")
    if isinstance(backend, Dated):
        found = backend.info("data/aa/1")
        assert found is not None
        assert (found.key, found.size) == (listed.key, listed.size)
        assert not found.mtime or abs(found.mtime - listed.mtime) < 2
        assert backend.info("data/aa/2") is None


def test_list_of_more_than_one_page(backend: Store) -> None:
    # tools/hdfs.py makes pages of 20; there each object takes a DataNode half a second.
    count = 50 if "hdfs" in backend.properties.scheme else 1100
    keys = {f"many/{i:05}" for i in range(count)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: backend.put(key, b"x"), keys))
    assert {found.key for found in backend.list("many/")} == keys


def test_put_if_absent(backend: Store) -> None:
    backend.put_if_absent("c/1", b"first")
    with pytest.raises(AlreadyExistsError) as failure:
        backend.put_if_absent("c/1", b"second")
    assert failure.value.key == "c/1" or failure.value.key.endswith("/c/1")
    assert backend.get("c/1") == b"first"


def test_exclusive_creation_has_one_winner(backend: Store) -> None:
    """Or the backend says that it cannot promise it, and the probe refuses it."""
    if not backend.properties.exclusive_put:
        with pytest.raises(UnsafeStoreError):
            probe_exclusive_put(backend)
        return
    probe_exclusive_put(backend)
    for round_ in range(5):
        barrier = threading.Barrier(8)
        offers = [f"{round_} {i} ".encode() * 2000 for i in range(8)]

        def create(offer: bytes, key: str = f"race/{round_}", start: threading.Barrier = barrier) -> bool:
            start.wait(30)
            try:
                backend.put_if_absent(key, offer)
            except AlreadyExistsError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(create, offers))
        assert won.count(True) == 1
        assert backend.get(f"race/{round_}") == offers[won.index(True)]
    assert not list(backend.list("probe/"))


def test_readers_never_see_half_an_object(backend: Store) -> None:
    if not backend.properties.exclusive_put:
        pytest.skip("not atomic by design, which is why it may be written by one writer only")
    versions = [bytes([n]) * (1 << 20) for n in (1, 2)]
    backend.put("swap", versions[0])
    stop = threading.Event()

    def write() -> None:
        try:
            for i in range(20):
                backend.put("swap", versions[i % 2])
        finally:
            stop.set()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(write)
        for _ in range(20):
            assert backend.get("swap") in versions
        while not stop.is_set():
            assert backend.get("swap") in versions
        done.result()


def test_many_threads(backend: Store) -> None:
    def one(i: int) -> bool:
        data = os.urandom(20_000)
        backend.put(f"t/{i % 7}/{i}", data)
        return backend.get(f"t/{i % 7}/{i}") == data

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(100)))


def test_keys_that_the_format_cannot_make_are_refused(backend: Store) -> None:
    if not hasattr(backend, "statistics"):
        pytest.skip("only the wrapper that `open_store` returns checks keys")
    for key in ("../up", "/root", "a//b", "a/./b", "", "a/", "ümlaut", "a b"):
        with pytest.raises(ValueError):
            backend.get(key)
