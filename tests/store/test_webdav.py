"""WebDAV on nginx, beyond what every backend promises: logins, claims, and the same files over plain HTTP."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mounting import Machine
from sqlservers import WebServer

from modelfs import limits
from modelfs.errors import (
    AlreadyExistsError,
    ExtraMissingError,
    ReadOnlyError,
    UnreachableError,
    UsageError,
)
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store
from modelfs.store.webdav import WebdavStore


@pytest.mark.parametrize("url", ["dav://", "davs:///path", "dav://host/x?y=1", "webdav://me:hunter2@host/x"])
def test_nonsense_is_one_clear_line(url: str) -> None:
    with pytest.raises(UsageError) as failure:
        open_store(url)
    assert "\n" not in str(failure.value)
    assert "hunter2" not in str(failure.value)


def test_the_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "modelfs.store.webdav")
    monkeypatch.setitem(sys.modules, "webdav4", None)
    with pytest.raises(ExtraMissingError, match=r"modelfs\[webdav\]"):
        open_store("dav://127.0.0.1:1/x")


def test_logins_come_from_netrc(webdav_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(webdav_url.replace("//", "//modelfs@")).close()
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    for content in ("", "machine 127.0.0.1 login modelfs password hunter2\n"):
        netrc.write_text(content)
        with pytest.raises(UnreachableError, match="refuses these credentials") as failure:
            open_store(webdav_url)
        assert "hunter2" not in str(failure.value)
    netrc.write_text("machine x login me hunter2 word\n")
    with pytest.raises(UsageError, match=f"{netrc} line") as broken:
        open_store(webdav_url)
    assert "hunter2" not in str(broken.value)


def test_silent_and_closed_ports(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_OPEN_TIMEOUT", 1.0)
    with pytest.raises(UnreachableError, match="does not answer"):
        open_store(f"dav://127.0.0.1:{silent_port}/x")
    with pytest.raises(UnreachableError):
        open_store("dav://127.0.0.1:1/x")


def test_a_claim_whose_owner_died_is_taken_over(
    webdav_url: str, web_server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = WebdavStore(webdav_url)
    stopped = threading.Event()

    def die(*arguments: object, **words: object) -> None:
        stopped.set()
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(store._client, "move", die)
        patch.setattr(store, "_remove_folder", lambda path: None)
        with pytest.raises(SystemExit):
            store.put_if_absent("commits/1", b"never")
    assert stopped.is_set()
    root = web_server.root / urlsplit(webdav_url).path.strip("/")
    assert [path.name[:6] for path in (root / ".tmp").iterdir()] == ["claim-"]
    monkeypatch.setattr(limits, "WEBDAV_CLAIM", 0.2)
    store.put_if_absent("commits/1", b"second")
    assert store.get("commits/1") == b"second"
    with pytest.raises(AlreadyExistsError):
        store.put_if_absent("commits/1", b"third")
    assert list((root / ".tmp").iterdir()) == []
    store.close()


def test_many_races_on_a_server_with_two_processes(webdav_url: str) -> None:
    stores = [open_store(webdav_url) for _ in range(4)]
    for number in range(40):
        start = threading.Barrier(len(stores))

        def create(at: int, key: str = f"commits/{number}", start: threading.Barrier = start) -> bool:
            start.wait(30)
            try:
                stores[at].put_if_absent(key, bytes([at]) * 1000)
            except AlreadyExistsError:
                return False
            return True

        with ThreadPoolExecutor(len(stores)) as pool:
            won = list(pool.map(create, range(len(stores))))
        assert won.count(True) == 1
        assert stores[0].get(f"commits/{number}") == bytes([won.index(True)]) * 1000
    for store in stores:
        store.close()


def test_the_same_store_over_http(webdav_url: str, web_server: WebServer, machine: Machine) -> None:
    """Written over WebDAV, mounted read-only from a plain web server."""
    store = open_store(webdav_url)
    Repository.create(store)
    store.close()
    data = os.urandom(10_000_000)
    mnt = machine.mount(webdav_url, "dav")
    (mnt / "model").write_bytes(data)
    machine.umount(mnt)
    url = webdav_url.replace(web_server.dav, web_server.http)
    with pytest.raises(UsageError, match="cannot be written"):
        machine.mount(url, "writing", cache="another")
    mnt = machine.mount(url, "http", cache="another", read_only=True)
    assert (mnt / "model").read_bytes() == data
    machine.umount(mnt)
    plain = open_store(url)
    assert plain.get_range("format.json", 0, 1) == b"{"
    assert plain.get_range("format.json", 1 << 20, 10) == b""
    assert plain.size("nothing") is None
    with pytest.raises(ReadOnlyError):
        plain.put("x", b"1")
    plain.close()
