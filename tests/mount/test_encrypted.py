"""Mounts of an encrypted store: the same promises, and nothing but sealed objects in the store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mounting import Machine, eventually
from safetensors.numpy import load_file, save_file

from modelfs.config import Secret
from modelfs.crypto.signing import SigningKey
from modelfs.errors import UsageError
from modelfs.repository.access import Access
from modelfs.repository.format import Format
from modelfs.repository.keyfiles import write_signing_key
from modelfs.repository.keyslots import encrypted, rotated
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

SECRET = Secret("key-file", os.urandom(32))
CANARY = b"canary-in-a-coal-mine"


@pytest.fixture
def sealed(machine: Machine) -> str:
    """A fresh encrypted store."""
    path = machine.directory / "sealed"
    store = open_store(str(path), create=True)
    Repository.create(store, *encrypted(Format(), SECRET, "first"))
    store.close()
    return str(path)


def objects(store: str) -> Iterator[tuple[Path, bytes]]:
    for path in Path(store).rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def test_save_and_load_through_a_second_machine(machine: Machine, sealed: str) -> None:
    weights = {
        f"layer{i}.weight": np.random.default_rng(i).standard_normal((700, 700)).astype(np.float32) for i in range(6)
    }
    mnt = machine.mount(sealed, secret=SECRET)
    save_file(weights, mnt / "model.safetensors")
    tuned = {name: value + np.float32(1e-4) for name, value in weights.items()}
    (mnt / "tuned").mkdir()
    save_file(tuned, mnt / "tuned" / "model.safetensors")
    (mnt / "notes.txt").write_bytes(CANARY * 3)
    (mnt / "big.txt").write_bytes(CANARY * 300_000)
    os.setxattr(mnt / "notes.txt", "user.note", CANARY)
    machine.umount(mnt)
    second = Machine(machine.directory / "second")
    try:
        other = second.mount(sealed, secret=SECRET, cache="empty", read_only=True)
        for name, expected in (("model.safetensors", weights), ("tuned/model.safetensors", tuned)):
            found = load_file(other / name)
            assert all(np.array_equal(found[key], value) for key, value in expected.items())
        assert (other / "big.txt").read_bytes() == CANARY * 300_000
        assert os.getxattr(other / "notes.txt", "user.note") == CANARY
        assert second.status(other)["fetched_chunks"] > 0
        second.umount(other)
        again = second.mount(sealed, secret=SECRET, cache="empty", read_only=True)
        assert (again / "big.txt").read_bytes() == CANARY * 300_000
        assert second.status(again)["fetched_chunks"] == 0, "the cache knows the ids of this store"
        assert second.status(again)["cache"]["damaged"] == 0
        second.umount(again)
    finally:
        second.close()
    for path, content in objects(sealed):
        assert CANARY not in content, path
        assert b"layer" not in content, path
        assert b"model.safetensors" not in content, path


def test_a_mount_without_the_key_is_refused(machine: Machine, sealed: str) -> None:
    for secret in (None, Secret("key-file", bytes(32)), Secret("passphrase", b"x")):
        with pytest.raises(UsageError):
            machine.mount(sealed, secret=secret)


def test_what_a_dead_mount_had_acknowledged_is_sealed_by_the_next(machine: Machine, sealed: str) -> None:
    mnt = machine.mount(sealed, secret=SECRET, write_back=True)
    machine.freeze_uploads(sealed)
    (mnt / "kept").write_bytes(CANARY * 100_000)
    machine.kill(mnt)
    machine.thaw_uploads(sealed)
    mnt = machine.mount(sealed, secret=SECRET)
    assert (mnt / "kept").read_bytes() == CANARY * 100_000
    machine.umount(mnt)
    assert all(CANARY not in content for _, content in objects(sealed))


def test_mounts_follow_a_rotation_of_the_keys(machine: Machine, sealed: str) -> None:
    mnt = machine.mount(sealed, secret=SECRET, refresh=0.1)
    (mnt / "before").write_bytes(b"before" * 10_000)
    store = open_store(sealed)
    repo = Repository.open(store, Access(secret=SECRET))
    assert repo.keys is not None
    repo.change_keys(rotated(repo.format, [repo.keys]))
    store.close()
    other = machine.mount(sealed, "other", "other-cache", secret=SECRET)
    (other / "after").write_bytes(b"after" * 10_000)
    eventually(lambda: (mnt / "after").exists(), "the commit of the new epoch is seen")
    assert (mnt / "after").read_bytes() == b"after" * 10_000
    (mnt / "mine").write_bytes(b"mine" * 10_000)
    eventually(lambda: (other / "mine").exists(), "and the other way")
    assert (other / "before").read_bytes() == b"before" * 10_000
    machine.umount(mnt)
    machine.umount(other)


def test_a_damaged_object_is_an_error_and_not_other_bytes(machine: Machine, sealed: str) -> None:
    mnt = machine.mount(sealed, secret=SECRET)
    (mnt / "f").write_bytes(os.urandom(1_000_000))
    machine.umount(mnt)
    for path in (Path(sealed) / "data").rglob("*"):
        if path.is_file():
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.chmod(0o644)
            path.write_bytes(content)
    mnt = machine.mount(sealed, cache="fresh", secret=SECRET)
    with pytest.raises(OSError, match="Input/output error"):
        (mnt / "f").read_bytes()
    assert "its seal does not fit" in machine.log()
    machine.umount(mnt)


def test_a_signing_mount_and_one_that_verifies(machine: Machine, store: str) -> None:
    key = SigningKey.new()
    path = machine.directory / "sign.key"
    write_signing_key(path, key)
    trusted = (str(key.public),)
    mnt = machine.mount(store, sign_with=path, refresh=0.1)
    (mnt / "signed").write_text("x")
    reader = machine.mount(store, "reader", "reader-cache", read_only=True, verify_with=trusted, refresh=0.1)
    assert (reader / "signed").read_text() == "x"
    writer = machine.mount(store, "writer", "writer-cache", sign_with=path, verify_with=trusted, refresh=0.1)
    (writer / "also").write_text("y")
    eventually(lambda: (reader / "also").exists(), "a signed commit is followed")
    stranger = machine.mount(store, "stranger", "stranger-cache")
    (stranger / "forged").write_text("z")
    eventually(lambda: (mnt / "forged").exists(), "who does not verify follows")
    eventually(lambda: "is not signed" in machine.status(reader)["last_error"], "who verifies says why not")
    assert sorted(os.listdir(reader)) == ["also", "signed"]
    with pytest.raises(OSError, match="Input/output error"):
        (writer / "more").write_text("not on top of that")
    for mountpoint in (mnt, reader, stranger):
        machine.umount(mountpoint)
