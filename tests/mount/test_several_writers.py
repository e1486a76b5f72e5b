"""Two mounts of one store that write at the same time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from mounting import Machine, eventually

from modelfs.repository.repository import Repository
from modelfs.store.open import open_store


def test_two_mounts_write_different_files(machine: Machine, store: str) -> None:
    a = machine.mount(store, "a", "ca", refresh=0.2)
    b = machine.mount(store, "b", "cb", refresh=0.2)
    failures: list[BaseException] = []

    def work(mnt: Path, tag: str) -> None:
        try:
            for i in range(100):
                (mnt / f"{tag}-{i}").write_bytes(f"{tag} {i} ".encode() * 1000)
        except Exception as error:  # noqa: BLE001  # handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=args) for args in ((a, "a"), (b, "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    expected = {f"{tag}-{i}" for tag in "ab" for i in range(100)}
    for mnt in (a, b):
        eventually(lambda mnt=mnt: set(os.listdir(mnt)) == expected, "all 200 files on both")
        for name in expected:
            tag, number = name.split("-")
            assert (mnt / name).read_bytes() == f"{tag} {number} ".encode() * 1000


def test_same_path_from_two_mounts(machine: Machine, store: str) -> None:
    a = machine.mount(store, "a", "ca", refresh=0)
    b = machine.mount(store, "b", "cb", refresh=0)
    versions = {"a": b"a" * 5_000_000, "b": b"b" * 5_000_000}
    barrier = threading.Barrier(2)

    def work(mnt: Path, tag: str) -> None:
        barrier.wait()
        (mnt / "same").write_bytes(versions[tag])

    threads = [threading.Thread(target=work, args=args) for args in ((a, "a"), (b, "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    final = (a / "same").read_bytes()
    assert final in versions.values()
    assert (b / "same").read_bytes() == final
    repo = Repository.open(open_store(store))
    kept = set()
    for record in repo.log("main"):
        entry = repo.find(record.commit.root, b"same")
        if entry is not None:
            kept.add(entry.content)
    assert len(kept) == 2  # the version that lost is in the history


def test_a_writer_with_an_open_handle_is_not_lost(machine: Machine, store: str) -> None:
    a = machine.mount(store, "a", "ca", refresh=0.1)
    b = machine.mount(store, "b", "cb", refresh=0.1)
    (a / "f").write_bytes(b"start" * 2000)
    eventually(lambda: (b / "f").exists(), "the file on the other mount")
    with (b / "f").open("r+b") as writer:
        before = machine.status(b)["commit"]
        (a / "f").write_bytes(b"other" * 2000)
        eventually(lambda: machine.status(b)["commit"] > before, "the other's commit")
        writer.write(b"BBBBB")
    eventually(lambda: (a / "f").read_bytes() == b"BBBBB" + b"start" * 1999, "the later commit wins")
