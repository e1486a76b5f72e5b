"""Azure beyond the conformance suite: a mount, wrong keys, a container that is not there."""

from __future__ import annotations

import base64
import os

import pytest
from mounting import Machine
from servers import AzureServer

from modelfs.errors import NotFoundError, PermanentError, UnreachableError
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store


def test_a_mount(azure_url: str, machine: Machine) -> None:
    store = open_store(azure_url, create=True)
    Repository.create(store)
    store.close()
    data = os.urandom(9_000_000)
    first = machine.mount(azure_url)
    (first / "f").write_bytes(data)
    machine.umount(first)
    second = machine.mount(azure_url, "second", "cold")
    assert (second / "f").read_bytes() == data
    machine.umount(second)


def test_wrong_key(azure_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"wrong").decode())
    with pytest.raises(UnreachableError, match="credentials"):
        open_store(azure_url)


def test_missing_container_reads_as_no_store_and_cannot_be_written(azure_server: AzureServer, azure_url: str) -> None:
    store = open_store(f"az://no-such-container?endpoint={azure_server.endpoint}")
    with pytest.raises(NotFoundError):
        store.get("format.json")
    with pytest.raises(PermanentError, match="bucket does not exist"):
        store.put("x", b"1")
