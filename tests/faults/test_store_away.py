"""A store that refuses, hangs or breaks off, seen through a real mount: what is here stays readable, what is not fails
after a bound, writes follow the mode, and everything heals without a remount."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from faultproxy import CALM, FaultProxy, Weather
from mounting import Machine, eventually
from servers import S3Server

from modelfs.process import alive
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

TIMEOUT = 2.0  # --store-timeout of these mounts
# A request that hangs is given up after TIMEOUT, and one that begins just before that may take as long again; the rest
# is for a slow machine. 100 readers one after the other would take 100 times TIMEOUT.
BOUND = 12 * TIMEOUT
DATA = os.urandom(9_000_000)
ALL = bool(os.environ.get("MODELFS_ALL_FAULTS"))  # every way of being away for every test: a minute more
AWAY = {"refuses": Weather(refuse=True), "hangs": Weather(hang=True), "breaks off": Weather(reset_response=1.0)}


@dataclass(frozen=True)
class Away:
    """A store behind a proxy: ``url`` goes through it, ``direct`` does not."""

    proxy: FaultProxy
    url: str
    direct: str

    def mount(self, machine: Machine, name: str = "mnt", cache: str = "cache", **options: object) -> Path:
        return machine.mount(self.url, name, cache, store_timeout=TIMEOUT, drain_timeout=3.0, **options)


@pytest.fixture
def away(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Away]:
    """An S3 store behind a proxy that fails as told."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with FaultProxy(s3_server.endpoint) as proxy:
        direct, url = (f"{s3_bucket}/p?endpoint={at}&region=us-east-1" for at in (s3_server.endpoint, proxy.endpoint))
        store = open_store(direct, create=True)
        Repository.create(store)
        store.close()
        yield Away(proxy, url, direct)


def _error_of(action: Callable[[], object]) -> int | None:
    try:
        action()
    except OSError as error:
        return error.errno
    return None


@pytest.mark.parametrize("how", AWAY if ALL else ["hangs"])
def test_reading_while_the_store_is_away(machine: Machine, away: Away, how: str) -> None:
    mnt = away.mount(machine, cache="first")
    (mnt / "dir").mkdir()
    (mnt / "dir/here").write_bytes(DATA)
    files = [f"dir/f{i}" for i in range(100)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda i: (mnt / files[i]).write_bytes(DATA[i : i + 5000]), range(100)))
    machine.umount(mnt)
    mnt = away.mount(machine, cache="second")
    assert (mnt / "dir/here").read_bytes() == DATA
    assert len(os.listdir(mnt / "dir")) == 101
    away.proxy.weather = AWAY[how]
    began = time.monotonic()
    with ThreadPoolExecutor(100) as pool:
        errors = list(pool.map(lambda name: _error_of((mnt / name).read_bytes), files))
    assert errors == [errno.EIO] * 100
    assert time.monotonic() - began < BOUND, "readers waited one after the other"
    assert away.proxy.faults.total()
    # From now on it is known: uncached reads fail at once, what is here is read, also by who opens it anew.
    began = time.monotonic()
    assert {_error_of((mnt / name).read_bytes) for name in files} == {errno.EIO}
    assert time.monotonic() - began < BOUND
    assert (mnt / "dir/here").read_bytes() == DATA
    assert (mnt / "dir/here").stat().st_size == len(DATA)
    assert len(os.listdir(mnt / "dir")) == 101
    away.proxy.weather = CALM
    eventually(lambda: _error_of((mnt / "dir/f7").read_bytes) is None, "the mount is well again", 60)
    assert all((mnt / name).read_bytes() == DATA[i : i + 5000] for i, name in enumerate(files))
    assert "is back after" in machine.log()


@pytest.mark.parametrize("how", ["refuses", "hangs"] if ALL else ["refuses"])
def test_writing_through_while_the_store_is_away(machine: Machine, away: Away, how: str) -> None:
    mnt = away.mount(machine)
    (mnt / "f").write_bytes(b"old")
    away.proxy.weather = AWAY[how]
    began = time.monotonic()
    assert _error_of(lambda: (mnt / "f").write_bytes(DATA)) == errno.EIO
    assert time.monotonic() - began < BOUND
    assert machine.status(mnt)["pending_files"] == 1
    assert machine.status(mnt)["last_error"]
    away.proxy.weather = CALM
    # It is still staged, and goes up by itself.
    eventually(lambda: not machine.status(mnt)["pending"], "the save has reached the store", 60)
    other = machine.mount(away.direct, "other", "cold")
    assert (other / "f").read_bytes() == DATA


def test_write_back_while_the_store_is_away(machine: Machine, away: Away) -> None:
    """close returns 0, the daemon is killed, the next mount waits for a store that is there: nothing is lost."""
    mnt = away.mount(machine, write_back=True)
    away.proxy.weather = AWAY["refuses"]
    (mnt / "a").write_bytes(DATA)
    os.rename(mnt / "a", mnt / "b")
    assert (mnt / "b").read_bytes() == DATA
    machine.kill(mnt)
    with pytest.raises(Exception, match="cannot reach"):
        away.mount(machine, write_back=True)
    away.proxy.weather = CALM
    mnt = away.mount(machine, write_back=True)
    assert (mnt / "b").read_bytes() == DATA
    away.proxy.weather = AWAY["hangs"]
    (mnt / "c").write_bytes(DATA[::-1])
    away.proxy.weather = CALM
    eventually(lambda: not machine.status(mnt)["pending"], "pending uploads go up by themselves", 60)
    other = machine.mount(away.direct, "other", "cold")
    assert (other / "b").read_bytes() == DATA
    assert (other / "c").read_bytes() == DATA[::-1]


def test_sigterm_while_the_store_hangs(machine: Machine, away: Away) -> None:
    """The daemon ends within its bound, requests are answered until then, and what is left is in the journal."""
    mnt = away.mount(machine, write_back=True)
    (mnt / "here").write_bytes(DATA)
    eventually(lambda: not machine.status(mnt)["pending"], "uploaded")
    away.proxy.weather = AWAY["hangs"]
    (mnt / "pending").write_bytes(DATA[::-1])
    pid = machine.pid(mnt)
    os.kill(pid, signal.SIGTERM)
    assert (mnt / "here").read_bytes() == DATA
    eventually(lambda: not alive(pid), "the daemon has ended", 3.0 + 5.0 + BOUND)
    assert not os.path.ismount(mnt)
    assert "stay in the journal of this machine" in machine.log()
    away.proxy.weather = CALM
    mnt = away.mount(machine)
    assert (mnt / "pending").read_bytes() == DATA[::-1]
