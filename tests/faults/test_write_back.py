"""--write-back and kill -9, through real mounts: what close acknowledged stays as it was, whatever came after it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from mounting import Machine, hand_over

OLD = os.urandom(300_000)
NEW = os.urandom(300_000)


@pytest.fixture
def frozen(machine: Machine, store: str) -> Path:
    """A mount with --write-back whose store takes nothing."""
    mnt = machine.mount(store, write_back=True)
    machine.freeze_uploads(store)
    return mnt


def _after_a_kill(machine: Machine, store: str, mnt: Path, *descriptors: int) -> dict[str, bytes]:
    machine.kill(mnt)
    for descriptor in descriptors:
        with pytest.raises(OSError):
            os.close(descriptor)
    machine.thaw_uploads(store)
    again = machine.mount(store, write_back=True)
    found = {p.name: p.read_bytes() for p in again.iterdir()}
    machine.umount(again)
    return found


def test_attributes_set_after_the_close(machine: Machine, store: str, frozen: Path, tmp_path: Path) -> None:
    """As cp -p and shutil.copy2 do: the bytes are not forgotten for the mode."""
    (tmp_path / "f").write_bytes(OLD)
    os.utime(tmp_path / "f", ns=(1, 1_000_000_007))
    (tmp_path / "f").chmod(0o640)
    shutil.copy2(tmp_path / "f", frozen / "f")
    os.setxattr(frozen / "f", "user.note", b"kept")
    assert _after_a_kill(machine, store, frozen) == {"f": OLD}
    cold = machine.mount(store, "cold", "cold")
    facts = (cold / "f").stat()
    assert (facts.st_mode & 0o777, facts.st_mtime_ns) == (0o640, 1_000_000_007)
    assert os.getxattr(cold / "f", "user.note") == b"kept"


@pytest.mark.parametrize("how", ["from nothing", "in place", "cut off"])
def test_a_later_save_that_was_not_closed(machine: Machine, store: str, frozen: Path, how: str) -> None:
    (frozen / "f").write_bytes(OLD)
    fd = os.open(frozen / "f", os.O_RDWR | (os.O_TRUNC if how == "from nothing" else 0))
    if how == "cut off":
        os.ftruncate(fd, 1000)
    os.pwrite(fd, NEW[:150_000], 500)
    hand_over(fd)
    assert _after_a_kill(machine, store, frozen, fd) == {"f": OLD}
    assert "an unfinished file" in machine.log()


def test_an_append_that_was_not_closed(machine: Machine, store: str, frozen: Path) -> None:
    whole = OLD[: 64 * 4096]  # of pages: the kernel would write a last one that is not full again
    (frozen / "f").write_bytes(whole)
    fd = os.open(frozen / "f", os.O_WRONLY | os.O_APPEND)
    os.write(fd, NEW)
    hand_over(fd)
    assert _after_a_kill(machine, store, frozen, fd) == {"f": whole}
    assert f"{len(NEW)} bytes behind it were written later and never acknowledged, and are not kept" in machine.log()


def test_saves_over_each_other(machine: Machine, store: str, frozen: Path) -> None:
    expected = bytearray(OLD)
    (frozen / "f").write_bytes(OLD)
    for i in range(5):
        with (frozen / "f").open("r+b") as file:
            file.seek(i * 1000)
            file.write(NEW[:500])
        expected[i * 1000 : i * 1000 + 500] = NEW[:500]
    with (frozen / "f").open("ab") as file:
        file.write(b"tail")
    (frozen / "g").write_bytes(OLD)
    os.rename(frozen / "g", frozen / "h")
    assert _after_a_kill(machine, store, frozen) == {"f": bytes(expected) + b"tail", "h": OLD}


def test_copies_do_not_pile_up(machine: Machine, frozen: Path) -> None:
    """Each save over an acknowledged one copies that away, and the copy goes with the next acknowledgement."""
    (frozen / "f").write_bytes(OLD)
    for i in range(10):
        with (frozen / "f").open("r+b") as file:
            file.write(b"%d" % i)
    [stage] = (machine.directory.parent / "state/modelfs/journal").glob("*/main/*/stage")
    assert len(os.listdir(stage)) <= 2


def test_a_staged_file_that_is_cut(machine: Machine, store: str, frozen: Path) -> None:
    """Never uploaded with zeros for what is missing; kept, and said."""
    (frozen / "whole").write_bytes(NEW)
    (frozen / "cut").write_bytes(OLD)
    [stage] = (machine.directory.parent / "state/modelfs/journal").glob("*/main/*/stage")
    [victim] = [path for path in stage.iterdir() if path.read_bytes() == OLD]
    machine.kill(frozen)
    os.truncate(victim, 200_000)
    machine.thaw_uploads(store)
    again = machine.mount(store)
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {"whole": NEW}
    assert "b'cut', 200000 bytes (it has 200000 bytes where 300000 were acknowledged)" in machine.log()
    assert victim.read_bytes() == OLD[:200_000]
    machine.umount(again)
    machine.mount(store)
    assert victim.exists(), "a second mount does not forget it"


def test_a_log_that_is_cut(machine: Machine, store: str, frozen: Path) -> None:
    """What stands before the damage is replayed, what stands behind it is kept aside."""
    for i in range(5):
        (frozen / f"f{i}").write_bytes(OLD[i:])
    machine.kill(frozen)
    [log] = (machine.directory.parent / "state/modelfs/journal").glob("*/main/*/log")
    data = bytearray(log.read_bytes())
    data[data.rindex(b"f3")] ^= 1
    log.write_bytes(data)
    machine.thaw_uploads(store)
    again = machine.mount(store)
    found = {p.name: p.read_bytes() for p in again.iterdir()}
    assert found == {name: OLD[int(name[1:]) :] for name in found}
    assert {"f0", "f1", "f2"} <= found.keys() < {f"f{i}" for i in range(5)}
    assert "no record, as after a power loss" in machine.log()
    assert list(log.parent.glob("torn-*"))
