"""A mount that writes and deletes while collections run all the time with a grace period of two seconds."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

from mounting import Machine, eventually

from modelfs.repository.gc import Collection
from modelfs.repository.repository import Repository
from modelfs.repository.retention import Retention
from modelfs.store.open import open_store

GRACE = 2.0
RUN_FOR = float(os.environ.get("MODELFS_GC_SECONDS", "12"))


def collect(store_url: str, *, exclusive: bool = False, grace: float = GRACE) -> int:
    """One run; how many objects it deleted."""
    store = open_store(store_url)
    try:
        repo = Repository.open(store)
        return Collection(repo, Retention(last=1), grace, exclusive=exclusive).run().deleted
    finally:
        store.close()


def test_a_mount_that_writes_while_collections_run(machine: Machine, store: str) -> None:
    collect(store, exclusive=True)  # makes the short grace period known to who opens the store from now on
    mnt = machine.mount(store)
    done, deleted, failures = threading.Event(), [0], []

    def collections() -> None:
        try:
            while not done.is_set():
                deleted[0] += collect(store)
                done.wait(0.3)
        except BaseException as error:  # noqa: BLE001  # handed to the test's own thread
            failures.append(error)

    thread = threading.Thread(target=collections)
    thread.start()
    dice = random.Random(7)
    # Few contents, so that what is saved is what was garbage a moment ago, again and again.
    contents = [dice.randbytes(300_000 + 1000 * i) for i in range(6)]
    model: dict[str, bytes] = {}
    try:
        until = time.monotonic() + RUN_FOR
        while time.monotonic() < until and not failures:
            name = f"f{dice.randrange(4)}"
            if name in model and dice.random() < 0.4:
                (mnt / name).unlink()
                del model[name]
            elif name in model and dice.random() < 0.3:
                os.rename(mnt / name, mnt / f"{name}-moved")
                model[f"{name}-moved"] = model.pop(name)
            else:
                model[name] = b"".join(dice.choices(contents, k=2))
                (mnt / name).write_bytes(model[name])
            if dice.random() < 0.2:
                time.sleep(GRACE * dice.random() * 2)
    finally:
        done.set()
        thread.join()
    assert not failures
    assert deleted[0] > 0, "nothing was deleted, so nothing was tested"
    machine.umount(mnt)
    fresh = machine.mount(store, "fresh", "another-cache", read_only=True)
    assert {name: (fresh / name).read_bytes() for name in os.listdir(fresh)} == model
    machine.umount(fresh)
    time.sleep(GRACE + 0.1)
    collect(store)
    time.sleep(GRACE + 0.1)
    collect(store)
    assert not list((Path(store) / "gc" / "condemned").glob("*"))


def test_a_deleted_branch_can_be_read_where_it_is_mounted_and_not_written(machine: Machine, store: str) -> None:
    opened = open_store(store)
    repo = Repository.open(opened)
    head = repo.head()
    assert head is not None
    repo.commit("dev", None, head.commit.root, "")
    mnt = machine.mount(store, branch="dev", refresh=0.1)
    (mnt / "f").write_bytes(b"x" * 100_000)
    repo.end_branch("dev")
    opened.close()
    eventually(lambda: "was deleted" in machine.log(), "the mount has heard of it")
    assert (mnt / "f").read_bytes() == b"x" * 100_000
    failed = False
    try:
        with (mnt / "g").open("wb") as file:
            file.write(b"y" * 100_000)
            os.fsync(file.fileno())
    except OSError:
        failed = True
    assert failed, "an acknowledged write must be in the store"
