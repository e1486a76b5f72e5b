"""HDFS beyond the conformance suite: a mount, failures half-way, NameNodes that are silent, URLs."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faultproxy import CALM, FaultProxy, Weather
from mounting import Machine
from servers import HdfsServer

from modelfs import limits
from modelfs.errors import (
    AlreadyExistsError,
    ExtraMissingError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    TransientError,
    UnreachableError,
    UsageError,
)
from modelfs.repository.repository import Repository
from modelfs.store.hdfs import HdfsStore, JavaError, open_hdfs
from modelfs.store.open import open_store
from modelfs.store.retry import RetryStore

BOTH = pytest.mark.parametrize("scheme", ["hdfs", "webhdfs"])


@pytest.fixture(params=["hdfs", "webhdfs"])
def url(request: pytest.FixtureRequest) -> str:
    """A directory that is not there yet, by each of the protocols."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def bare(url: str) -> Iterator[HdfsStore]:
    """The backend without retries."""
    store = open_hdfs(url)
    yield store
    store.close()


def _instead(store: HdfsStore, monkeypatch: pytest.MonkeyPatch, rename: Callable[..., None]) -> Callable[..., None]:
    original = store._client.rename
    monkeypatch.setattr(store._client, "rename", rename)
    return original


def test_a_mount(url: str, machine: Machine) -> None:
    store = open_store(url, create=True)
    Repository.create(store)
    store.close()
    data = os.urandom(9_000_000)
    first = machine.mount(url)
    (first / "dir").mkdir()
    (first / "dir/f").write_bytes(data)
    (first / "dir/f").rename(first / "dir/g")
    machine.umount(first)
    second = machine.mount(url, "second", "cold")
    assert os.listdir(second / "dir") == ["g"]
    assert (second / "dir/g").read_bytes() == data
    with (second / "dir/g").open("rb") as file:
        file.seek(5_345_678)
        assert file.read(100) == data[5_345_678:5_345_778]
    machine.umount(second)


@pytest.mark.parametrize("write", ["put", "put_if_absent"])
def test_what_was_not_finished_is_under_no_key(
    bare: HdfsStore, url: str, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: str, target: str, *, replace: bool) -> None:
        raise OSError("the machine went down")

    _instead(bare, monkeypatch, fail)
    with pytest.raises(TransientError, match="went down"):
        getattr(bare, write)("data/a", b"x" * 10_000)
    other = open_store(url)
    assert other.size("data/a") is None
    assert list(other.list("")) == []
    other.close()


@pytest.mark.parametrize("error", [OSError, FileNotFoundError])
def test_a_rename_whose_answer_was_lost(bare: HdfsStore, error: type[OSError], monkeypatch: pytest.MonkeyPatch) -> None:
    """FileNotFoundError: the library asked again by itself, and the temporary file had its name already."""
    lost = [2]

    def lose(source: str, target: str, *, replace: bool) -> None:
        original(source, target, replace=replace)
        if lost:
            lost.pop()
            raise error("connection lost")

    original = _instead(bare, monkeypatch, lose)
    store = RetryStore(bare, first=0.001)
    store.put_if_absent("commits/1", b"ours")
    assert store.get("commits/1") == b"ours"
    with pytest.raises(AlreadyExistsError):
        store.put_if_absent("commits/1", b"theirs")
    lost.append(2)
    store.put("gc/state", b"new")
    assert store.get("gc/state") == b"new"


def test_a_directory_that_was_removed_meanwhile_is_made_again(bare: HdfsStore, url: str) -> None:
    bare.put("data/aa/1", b"1")
    bare.delete("data/aa/1")
    bare.delete("data/aa")
    RetryStore(bare, first=0.001).put("data/aa/2", b"2")
    assert [found.key for found in bare.list("")] == ["data/aa/2"]


def test_listings_are_sorted_and_dated(bare: HdfsStore) -> None:
    for key in ("b/2", "a/1/x", "b/10", "a.b", "a/0"):
        bare.put(key, b"1")
    found = list(bare.list(""))
    assert [info.key for info in found] == ["a.b", "a/0", "a/1/x", "b/10", "b/2"]
    assert all(info.mtime > 1e9 for info in found)
    assert list(bare.list("a.b/")) == []


def test_a_gateway_that_does_not_know_the_options_of_renames(
    hdfs_server: HdfsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelfs.store.webhdfs import WebClient

    original = WebClient._json

    def without(self: WebClient, *what: str, **parameters: Any) -> dict[str, Any]:
        parameters.pop("renameoptions", None)
        return original(self, *what, **parameters)

    monkeypatch.setattr(WebClient, "_json", without)
    store = open_hdfs(f"{hdfs_server.webhdfs}/{tmp_path.name}-gateway")
    store.put_if_absent("c/1", b"first")
    monkeypatch.setattr(store, "size", lambda key: None)  # so that the rename has to find out
    with pytest.raises(AlreadyExistsError):
        store.put_if_absent("c/1", b"second")
    with pytest.raises(PermanentError, match="cannot rename over"):
        store.put("c/1", b"second")
    assert store.get("c/1") == b"first"


@BOTH
def test_who_may_not_write(hdfs_server: HdfsServer, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HADOOP_USER_NAME", "somebody")
    store = open_store(f"{getattr(hdfs_server, scheme)}/not-yours")
    with pytest.raises(PermissionDeniedError) as failure:
        store.put("x", b"1")
    assert "\n" not in str(failure.value)
    store.close()


@BOTH
def test_a_namenode_that_falls_silent_and_comes_back(hdfs_server: HdfsServer, scheme: str, tmp_path: Path) -> None:
    host = getattr(hdfs_server, scheme).partition("://")[2]
    with FaultProxy(f"http://{host}") as proxy:
        store = open_hdfs(f"{scheme}://127.0.0.1:{proxy.port}/{tmp_path.name}-{scheme}", timeout=5.0)
        store.put("a", b"1")
        store._client._timeout = 0.5  # type: ignore[attr-defined]
        if scheme == "webhdfs":
            store.close()
            store = open_hdfs(f"{scheme}://127.0.0.1:{proxy.port}/{tmp_path.name}-{scheme}", timeout=0.5)
        for weather in (Weather(hang=True), Weather(refuse=True)):
            proxy.weather = weather
            with pytest.raises(TransientError):
                store.get("a")
            proxy.weather = CALM
            assert RetryStore(store, first=0.01).get("a") == b"1"
        store.close()


def test_a_name_service_whose_first_namenode_is_gone(
    hdfs_server: HdfsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        settings = {
            "dfs.ha.namenodes.lake": "gone,active",
            "dfs.namenode.rpc-address.lake.gone": f"127.0.0.1:{unused.getsockname()[1]}",
            "dfs.namenode.rpc-address.lake.active": hdfs_server.hdfs.partition("://")[2],
        }
        lines = (f"<property><name>{key}</name><value>{value}</value></property>" for key, value in settings.items())
        (tmp_path / "hdfs-site.xml").write_text(f"<configuration>{''.join(lines)}</configuration>")
        monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
        for _ in range(3):
            store = open_store(f"hdfs://lake/{tmp_path.name}-service")
            store.put("a", b"1")
            assert store.get("a") == b"1"
            store.close()


@BOTH
def test_nobody_there(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_OPEN_TIMEOUT", 2.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        for listens in (False, True):
            if listens:
                silent.listen()
            with pytest.raises(UnreachableError) as failure:
                open_store(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/x")
            assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    "url",
    [
        "hdfs://",
        "hdfs:///x",
        "hdfs://me@host/x",
        "hdfs://me:secret@host/x",
        "webhdfs://me:secret@host/x",
        "webhdfs://host:99999999/x",
        "webhdfs://host/x?user.name=root",
    ],
)
def test_urls_that_make_no_sense(url: str) -> None:
    with pytest.raises(UsageError) as failure:
        open_store(url)
    assert "secret" not in str(failure.value)
    assert "\n" not in str(failure.value)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "modelfs.store.hdfsnative", raising=False)
    monkeypatch.setitem(sys.modules, "hdfs_native", None)
    with pytest.raises(ExtraMissingError, match=r"modelfs\[hdfs\]"):
        open_store("hdfs://127.0.0.1:1/x")


@pytest.mark.parametrize(
    ("raised", "read", "written"),
    [
        (FileNotFoundError("x"), NotFoundError, TransientError),
        (TimeoutError("x"), TransientError, TransientError),
        (ValueError("x"), PermanentError, PermanentError),
        (JavaError("org.apache.hadoop.ipc.StandbyException", "x"), TransientError, TransientError),
        (JavaError("SafeModeException", "x\n\tat java"), TransientError, TransientError),
        (
            JavaError("o.a.h.security.token.SecretManager$InvalidToken", "x"),
            PermissionDeniedError,
            PermissionDeniedError,
        ),
        (JavaError("AccessControlException", "/a (is not a directory)"), NotFoundError, PermanentError),
        (JavaError("ParentNotDirectoryException", "x"), NotFoundError, PermanentError),
        (JavaError("DSQuotaExceededException", "x"), PermanentError, PermanentError),
    ],
)
def test_what_failures_mean(raised: Exception, read: type[Exception], written: type[Exception]) -> None:
    class Failing:
        def __getattr__(self, name: str) -> Callable[..., None]:
            def fail(*what: object, **named: object) -> None:
                raise raised

            return fail

    store = HdfsStore("hdfs://h/x", "/x", Failing())  # type: ignore[arg-type]
    with pytest.raises(read) as failure:
        store.get("a")
    assert type(failure.value) is read
    assert "\n" not in str(failure.value)
    with pytest.raises(written) as failure:
        store.put("a", b"x")
    assert type(failure.value) is written
