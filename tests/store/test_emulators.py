"""Azure and Google Cloud Storage beyond the conformance suite: mounts, races, wrong keys, missing buckets."""

from __future__ import annotations

import base64
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from mounting import Machine
from servers import AzureServer, GcsServer

from modelfs.errors import AlreadyExistsError, NotFoundError, PermanentError, UnreachableError
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store


@pytest.mark.parametrize("name", ["azure_url", "gcs_url"])
def test_a_mount(name: str, request: pytest.FixtureRequest, machine: Machine) -> None:
    url = request.getfixturevalue(name)
    store = open_store(url, create=True)
    Repository.create(store)
    store.close()
    data = os.urandom(9_000_000)
    first = machine.mount(url)
    (first / "f").write_bytes(data)
    machine.umount(first)
    second = machine.mount(url, "second", "cold")
    assert (second / "f").read_bytes() == data
    machine.umount(second)


def test_wrong_key(azure_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"wrong").decode())
    with pytest.raises(UnreachableError, match="credentials"):
        open_store(azure_url)


def test_one_of_many_creates(gcs_url: str) -> None:
    store = open_store(gcs_url)

    def create(number: int) -> int | None:
        try:
            store.put_if_absent("commits/main/1", b"%d" % number)
        except AlreadyExistsError:
            return None
        return number

    with ThreadPoolExecutor(16) as pool:
        for round_ in range(10):
            won = [number for number in pool.map(create, range(16)) if number is not None]
            assert len(won) == 1, f"round {round_}"
            assert store.get("commits/main/1") == b"%d" % won[0]
            store.delete("commits/main/1")


@pytest.mark.parametrize("scheme", ["azure", "gcs"])
def test_a_missing_bucket_reads_as_no_store_and_cannot_be_written(scheme: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(f"{scheme}_url")  # the credentials
    server: AzureServer | GcsServer = request.getfixturevalue(f"{scheme}_server")
    store = open_store(f"{scheme}://no-such-bucket?endpoint={server.endpoint}")
    with pytest.raises(NotFoundError):
        store.get("format.json")
    with pytest.raises(PermanentError, match="bucket does not exist"):
        store.put("x", b"1")
