"""A mount that met damage reads and writes rightly as soon as fsck has repaired it, without a remount."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from mounting import Machine
from spoiling import spoil

from modelfs.repository.fsck import Findings, Fsck
from modelfs.repository.repair import Repair
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store


def repaired(store: str, mirror: str) -> Findings:
    repo, other = Repository.open(open_store(store)), Repository.open(open_store(mirror))
    return Fsck(repo, Repair(repo, (), other)).run(read_data=True)


@pytest.mark.parametrize("how", ["missing", "flipped"])
@pytest.mark.parametrize("area", ["data", "meta"])
def test_damage_is_an_error_until_it_is_repaired(machine: Machine, store: str, area: str, how: str) -> None:
    first = machine.mount(store)
    data = os.urandom(6 << 20)
    (first / "dir").mkdir()
    (first / "dir" / "f").write_bytes(data)
    machine.umount(first)
    shutil.copytree(store, machine.directory / "mirror")
    objects = [p for p in (Path(store) / area).rglob("*") if p.is_file()]
    assert objects
    for path in objects:
        if how == "missing":
            path.unlink()
        else:
            spoil(path)
    if area == "meta":  # the root stays readable, or nothing could be mounted
        head = Repository.open(open_store(str(machine.directory / "mirror"))).resolve(None)
        key = Path("meta") / head.commit.root.content.hex()[:2] / head.commit.root.content.hex()[2:]
        shutil.copy(machine.directory / "mirror" / key, Path(store) / key)
    mnt = machine.mount(store, "again", "cold")
    with pytest.raises(OSError) as failure:
        (mnt / "dir" / "f").read_bytes()
    assert failure.value.errno == errno.EIO
    found = repaired(store, str(machine.directory / "mirror"))
    assert len(found.damages)
    assert not found.damages.left()
    assert (mnt / "dir" / "f").read_bytes() == data
    (mnt / "dir" / "copy").write_bytes(data)  # deduplicated against what was bad a moment ago
    machine.umount(mnt)
    third = machine.mount(store, "third", "cold3")
    assert (third / "dir" / "copy").read_bytes() == data
    machine.umount(third)
    assert not len(Fsck(Repository.open(open_store(store))).run(read_data=True).damages)
