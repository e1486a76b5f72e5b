"""Flipped and missing bytes, in the store and in the cache: never wrong data."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from mounting import Machine


def _flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0x20]))


def _chunks(store: str) -> list[Path]:
    return sorted(p for p in (Path(store) / "data").rglob("*") if p.is_file())


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "swapped"])
def test_damaged_chunk_in_the_store(machine: Machine, store: str, damage: str) -> None:
    data = os.urandom(20 << 20)
    mnt = machine.mount(store)
    (mnt / "f").write_bytes(data)
    machine.umount(mnt)
    chunks = _chunks(store)
    victim = chunks[0]
    os.chmod(victim, 0o600)
    if damage == "flipped":
        _flip(victim, victim.stat().st_size // 2)
    elif damage == "cut":
        os.truncate(victim, victim.stat().st_size // 2)
    elif damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(chunks[1].read_bytes())
    again = machine.mount(store, "again", "cold")
    with pytest.raises(OSError) as failure:
        (again / "f").read_bytes()
    assert failure.value.errno == errno.EIO
    name = victim.parent.name + victim.name
    assert name in machine.log("again")
    # Saving the same bytes again puts a good chunk in its place.
    (again / "f").write_bytes(data)
    machine.umount(again)
    assert (machine.mount(store, "third", "cold3") / "f").read_bytes() == data


def test_damaged_chunk_in_the_cache_is_fetched_again(machine: Machine, store: str) -> None:
    data = os.urandom(20 << 20)
    mnt = machine.mount(store)
    (mnt / "f").write_bytes(data)
    machine.umount(mnt)
    mnt = machine.mount(store, "second", "warm")
    assert (mnt / "f").read_bytes() == data
    machine.umount(mnt)
    files = [p for p in (machine.directory / "warm" / "files").rglob("*") if p.is_file()]
    assert files
    for path in files:
        for offset in range(1000, path.stat().st_size, 3 << 20):
            _flip(path, offset)
    mnt = machine.mount(store, "second", "warm")
    assert (mnt / "f").read_bytes() == data
    assert machine.status(mnt)["fetched_chunks"] > 0
