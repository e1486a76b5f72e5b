"""Full disks under the cache, the journal and the store, through real mounts on small disks: the writer is told at
write, fsync or close, nobody sees half a save, the cache gives way first, and reads go on."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import Machine, eventually
from running import runner
from smalldisks import free, small_disk

from modelfs.fuse.claim import lift
from modelfs.fuse.mountpoint import mount_table

MB = 1_000_000
OLD = os.urandom(3 * MB)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """64 MiB."""
    with small_disk(tmp_path / "disk", 64) as directory:
        yield directory


@pytest.fixture
def small_machine(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Journal and cache lie on the small disk, its stores elsewhere."""
    monkeypatch.setenv("XDG_STATE_HOME", str(disk / "state"))
    machine = Machine(tmp_path / "machine")
    try:
        yield machine
    finally:
        machine.close()


def _save(path: Path, data: bytes) -> int | None:
    """Write a file as programs do; the errno that write, fsync or close gave."""
    try:
        with path.open("wb") as file:
            for start in range(0, len(data), MB):
                file.write(data[start : start + MB])
    except OSError as error:
        return error.errno
    return None


def _cold(machine: Machine, store: str, directory: Path) -> dict[str, bytes]:
    """What the store holds, by a mount with nothing of its own."""
    mnt = machine.mount(store, "cold", str(directory / "cold-cache"), read_only=True)
    found = {p.name: p.read_bytes() for p in mnt.iterdir() if p.is_file()}
    machine.umount(mnt)
    return found


@pytest.mark.parametrize(
    "write_back", [True, False] if os.environ.get("MODELFS_ALL_FAULTS") else [True], ids=lambda on: f"write-back {on}"
)
def test_journal_and_cache_on_a_full_disk(small_machine: Machine, disk: Path, tmp_path: Path, write_back: bool) -> None:
    machine = small_machine
    store = machine.new_store()
    mnt = machine.mount(store, cache=str(disk / "cache"), write_back=write_back)
    big, other = os.urandom(30 * MB), os.urandom(40 * MB)
    for name, data in {"f": OLD, "big": big}.items():
        assert _save(mnt / name, data) is None
    eventually(lambda: not machine.status(mnt)["pending"], "uploaded")
    assert machine.status(mnt)["cache"]["bytes"] > 20 * MB
    # The disk has no room for this beside what is cached: the cache gives way.
    assert free(disk) < len(other)
    assert _save(mnt / "other", other) is None
    eventually(lambda: not machine.status(mnt)["pending"], "uploaded")
    # Nor does it have room for this at all.
    assert _save(mnt / "f", os.urandom(80 * MB)) == errno.ENOSPC
    assert _save(mnt / "new", os.urandom(80 * MB)) == errno.ENOSPC
    eventually(lambda: not (mnt / "new").exists(), "half a save is given up")
    eventually(lambda: (mnt / "f").stat().st_size == len(OLD), "the version before is back")
    assert (mnt / "f").read_bytes() == OLD
    assert (mnt / "big").read_bytes() == big
    # It goes on as if nothing had been.
    assert _save(mnt / "f", big) is None
    eventually(lambda: not machine.status(mnt)["pending"], "uploaded")
    assert _cold(machine, store, tmp_path) == {"f": big, "big": big, "other": other}
    machine.umount(mnt)


def test_reads_bypass_a_full_cache(small_machine: Machine, disk: Path, tmp_path: Path) -> None:
    machine = small_machine
    store = machine.new_store()
    data = os.urandom(90 * MB)
    (tmp_path / "f").write_bytes(data)
    subprocess.run([sys.executable, "-m", "modelfs", "put", store, tmp_path / "f", "f"], check=True)
    with (disk / "filler").open("wb") as filler, pytest.raises(OSError):
        while True:
            filler.write(bytes(MB))
            filler.flush()
    mnt = machine.mount(store, cache=str(disk / "cache"), read_only=True)
    assert (mnt / "f").read_bytes() == data
    assert machine.status(mnt)["cache"]["refused"] > 0


def test_names_can_be_removed_on_a_full_disk(small_machine: Machine, disk: Path) -> None:
    """rm works when nothing else does, or nobody could make room."""
    machine = small_machine
    store = machine.new_store()
    mnt = machine.mount(store, cache=str(disk / "cache"))
    for i in range(50):
        (mnt / f"f{i}").write_bytes(b"%d" % i)
    with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
        while True:
            filler.write(bytes(4096))
    for i in range(49):
        (mnt / f"f{i}").unlink()
    (mnt / "f49").rename(mnt / "last")
    assert os.listdir(mnt) == ["last"]
    eventually(lambda: not machine.status(mnt)["pending"], "committed")
    (disk / "filler").unlink()


def test_what_was_acknowledged_stays_when_the_disk_fills(small_machine: Machine, disk: Path, tmp_path: Path) -> None:
    """--write-back, the store away, the journal's disk full: the acknowledged version survives a failed overwrite of
    it and a kill."""
    machine = small_machine
    store = machine.new_store()
    mnt = machine.mount(store, cache=str(disk / "cache"), write_back=True)
    machine.freeze_uploads(store)
    acknowledged = os.urandom(20 * MB)
    assert _save(mnt / "f", acknowledged) is None
    assert _save(mnt / "f", os.urandom(80 * MB)) == errno.ENOSPC
    eventually(lambda: (mnt / "f").stat().st_size == len(acknowledged), "the acknowledged version is back")
    assert (mnt / "f").read_bytes() == acknowledged
    fd = os.open(mnt / "f", os.O_WRONLY)
    with pytest.raises(OSError) as failure:  # in place, over what was acknowledged
        for start in range(0, 80 * MB, MB):
            os.pwrite(fd, os.urandom(MB), start)
        os.fsync(fd)
    with contextlib.suppress(OSError):
        os.close(fd)
    assert failure.value.errno == errno.ENOSPC
    machine.kill(mnt)
    machine.thaw_uploads(store)
    # What nobody acknowledged still fills the disk: it is kept until somebody says that it may go.
    run = runner(tmp_path)
    [session] = run("journal", "ls", "--json").json
    assert {one["path"] for one in session["files"] if one["state"] == "pending"} == {"f"}
    for half in [Path(one["file"]).name for one in session["files"] if one["state"] == "unfinished"]:
        run("journal", "drop", f"{session['session']}/{half}", "--yes")
    mnt = machine.mount(store, cache=str(disk / "cache"), write_back=True)
    assert (mnt / "f").read_bytes() == acknowledged


def test_a_full_store(machine: Machine, disk: Path, tmp_path: Path) -> None:
    store = str(disk / "store")
    machine.new_store(store)
    mnt = machine.mount(store)
    (mnt / "f").write_bytes(OLD)
    with (disk / "filler").open("wb") as filler:
        filler.write(bytes(40 * MB))
    data = os.urandom(30 * MB)
    assert _save(mnt / "f", data) == errno.ENOSPC
    assert machine.status(mnt)["pending_files"] == 1
    assert "No space left" in machine.status(mnt)["last_error"]
    assert _cold(machine, store, tmp_path) == {"f": OLD}
    (disk / "filler").unlink()
    eventually(lambda: not machine.status(mnt)["pending"], "what stayed staged goes up", 30)
    assert _cold(machine, store, tmp_path) == {"f": data}


def test_a_store_over_its_quota(machine: Machine, store: str, tmp_path: Path) -> None:
    flag = tmp_path / "over-quota"
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    program = Path(__file__).with_name("quotadaemon.py")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, program, store, mnt, tmp_path / "cache", flag], stderr=log)
    try:
        eventually(lambda: any(entry.path == str(mnt) for entry in mount_table()), "mounted")
        (mnt / "f").write_bytes(OLD)
        flag.touch()
        data = os.urandom(5 * MB)
        assert _save(mnt / "f", data) == errno.EDQUOT
        fd = os.open(mnt / "g", os.O_WRONLY | os.O_CREAT)
        os.write(fd, data)
        with pytest.raises(OSError) as failure:
            os.fsync(fd)
        with contextlib.suppress(OSError):
            os.close(fd)
        assert failure.value.errno == errno.EDQUOT
        assert _cold(machine, store, tmp_path) == {"f": OLD}
        flag.unlink()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert _cold(machine, store, tmp_path)["f"] == data
    finally:
        process.kill()
        process.wait()
        while any(entry.path == str(mnt) for entry in mount_table()):
            subprocess.run(["umount", "-l", mnt], check=True)
        lift(mnt)
