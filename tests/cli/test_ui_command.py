"""`modelfs ui` as it is asked for, and what can be wrong with that."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from browsing import browsing
from running import Run

from modelfs.config import mounts_directory


@pytest.fixture
def modelfs(in_process: Run) -> Run:
    return in_process


def refused(modelfs: Run, *arguments: object) -> str:
    """The one line that says why."""
    err = modelfs("ui", *arguments, code=2).err
    assert err.startswith("modelfs: ")
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1", ":x", "[::1]:8585", "127.0.0.1:65536"])
def test_what_is_no_address(modelfs: Run, address: str) -> None:
    assert f"--listen {address}: not HOST:PORT" in refused(modelfs, "--listen", address)


def test_addresses_where_nobody_can_listen(modelfs: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot listen there" in refused(modelfs, "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert "cannot listen there" in refused(modelfs, "--listen", "192.0.2.1:0")
    assert "cannot listen there" in refused(modelfs, "--listen", "no-such-host.invalid:0")


def test_what_is_neither_a_mount_nor_a_store(modelfs: Run, tmp_path: Path) -> None:
    assert "no such directory" in refused(modelfs, tmp_path / "none", "--listen", ":0")
    (tmp_path / "plain").mkdir()
    assert "no modelfs store" in refused(modelfs, tmp_path / "plain", "--listen", ":0")
    assert "nosuch:// is no kind" in refused(modelfs, "nosuch://x/y", "--listen", ":0")
    assert "none" in refused(modelfs, "@none", "--listen", ":0")


def test_secrets_that_do_not_fit(modelfs: Run, tmp_path: Path, local_store: Path) -> None:
    (tmp_path / "key").write_bytes(bytes(32))
    (tmp_path / "key").chmod(0o600)
    assert "not encrypted" in refused(modelfs, local_store, "--key-file", tmp_path / "key", "--listen", ":0")
    assert "No such file" in modelfs("ui", "--key-file", tmp_path / "none", "--listen", ":0", code=2).err


def test_a_missing_extra_is_named(modelfs: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("modelfs.ui.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hypercorn", None)
    monkeypatch.setitem(sys.modules, "hypercorn.trio", None)
    assert "pip install 'modelfs[ui]'" in refused(modelfs)


def test_it_starts_without_mounts_and_without_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with browsing("--no-token") as browser:
        assert "?" not in browser.url
        assert browser.raw("/")[0] == 200
        assert "Nothing is mounted" in browser.get("/").text
        assert browser.get("/status.json").body == "[]"
    assert not mounts_directory().exists()
