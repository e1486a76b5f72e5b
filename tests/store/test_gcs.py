"""Google Cloud Storage beyond the conformance suite: a mount, races, a bucket that is not there."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from mounting import Machine
from servers import GcsServer

from modelfs.errors import AlreadyExistsError, NotFoundError, PermanentError
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store


def test_a_mount(gcs_url: str, machine: Machine) -> None:
    store = open_store(gcs_url, create=True)
    Repository.create(store)
    store.close()
    data = os.urandom(9_000_000)
    first = machine.mount(gcs_url)
    (first / "f").write_bytes(data)
    machine.umount(first)
    second = machine.mount(gcs_url, "second", "cold")
    assert (second / "f").read_bytes() == data
    machine.umount(second)


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


def test_missing_bucket_reads_as_no_store_and_cannot_be_written(gcs_server: GcsServer, gcs_url: str) -> None:
    store = open_store(f"gs://no-such-bucket?endpoint={gcs_server.endpoint}")
    with pytest.raises(NotFoundError):
        store.get("format.json")
    with pytest.raises(PermanentError, match="bucket does not exist"):
        store.put("x", b"1")
