"""Files on a mount: every way of writing that design and frameworks ask for."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
from pathlib import Path

import pytest
from mounting import Machine, eventually

MiB = 1 << 20


def noise(size: int, seed: int = 1) -> bytes:
    """Reproducible incompressible bytes."""
    import numpy as np

    return np.random.default_rng(seed).bytes(size)


def test_write_close_read(mnt: Path) -> None:
    data = noise(10 * MiB + 17)
    (mnt / "a.bin").write_bytes(data)
    assert (mnt / "a.bin").read_bytes() == data
    assert (mnt / "a.bin").stat().st_size == len(data)


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 256 * 1024, 5 * MiB, 33 * MiB + 5])
def test_sizes_survive_a_second_mount(machine: Machine, store: str, size: int) -> None:
    first = machine.mount(store)
    data = noise(size)
    (first / "f").write_bytes(data)
    machine.umount(first)
    second = machine.mount(store, "second", "cold-cache")
    assert (second / "f").stat().st_size == size
    assert (second / "f").read_bytes() == data


def test_close_to_open_between_mounts(machine: Machine, store: str) -> None:
    a = machine.mount(store, "a", "ca", refresh=0)
    b = machine.mount(store, "b", "cb", refresh=0)
    for i in range(5):
        (a / "f").write_bytes(b"version %d" % i)
        assert (b / "f").read_bytes() == b"version %d" % i


def test_refresh_brings_changes_of_others(machine: Machine, store: str) -> None:
    a = machine.mount(store, "a", "ca", refresh=0.1)
    b = machine.mount(store, "b", "cb", refresh=0.1)
    assert not (b / "new").exists()  # the kernel now remembers that there is nothing
    (a / "new").write_bytes(b"x" * 9000)
    eventually(lambda: (b / "new").exists(), "the new name on the other mount")
    assert (b / "new").read_bytes() == b"x" * 9000
    (a / "new").write_bytes(b"y" * 9000)
    eventually(lambda: (b / "new").read_bytes() == b"y" * 9000, "the new bytes on the other mount")
    (a / "new").unlink()
    eventually(lambda: not (b / "new").exists(), "the removal on the other mount")


def test_an_open_file_never_changes_under_its_reader(machine: Machine, store: str) -> None:
    a = machine.mount(store, "a", "ca", refresh=0)
    b = machine.mount(store, "b", "cb", refresh=0)
    old, new = noise(9 * MiB, 1), noise(9 * MiB, 2)
    (a / "f").write_bytes(old)
    with (b / "f").open("rb") as reader:
        first = reader.read(MiB)
        (a / "f").write_bytes(new)
        assert (b / "f").read_bytes() == new
        assert first + reader.read() == old


def test_random_rewrites(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    model = bytearray(noise(20 * MiB))
    path = mnt / "f"
    path.write_bytes(model)
    with path.open("r+b") as file:
        for i, offset in enumerate([0, 5 * MiB - 3, 19 * MiB, 7, 12 * MiB]):
            patch = noise(1000 + i, seed=i + 10)
            file.seek(offset)
            file.write(patch)
            model[offset : offset + len(patch)] = patch
    assert path.read_bytes() == model
    machine.umount(mnt)
    assert (machine.mount(store, "again", "cold") / "f").read_bytes() == model


def test_small_change_uploads_little(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    path = mnt / "f"
    path.write_bytes(noise(40 * MiB))

    def stored() -> int:
        return sum(p.stat().st_size for p in (Path(store) / "data").rglob("*") if p.is_file())

    before = stored()
    with path.open("r+b") as file:
        file.seek(20 * MiB)
        file.write(b"changed")
    assert 0 < stored() - before <= 16 * MiB


def test_append(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    expected = b""
    for i in range(10):
        with (mnt / "log").open("ab") as file:
            file.write(b"line %d\n" % i * 1000)
        expected += b"line %d\n" % i * 1000
    assert (mnt / "log").read_bytes() == expected
    machine.umount(mnt)
    assert (machine.mount(store, "again", "cold") / "log").read_bytes() == expected


def test_truncate_and_extend(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    data = noise(6 * MiB)
    path = mnt / "f"
    path.write_bytes(data)
    os.truncate(path, 3 * MiB)
    assert path.read_bytes() == data[: 3 * MiB]
    os.truncate(path, 5 * MiB)
    assert path.read_bytes() == data[: 3 * MiB] + bytes(2 * MiB)
    machine.umount(mnt)
    assert (machine.mount(store, "again", "cold") / "f").read_bytes() == data[: 3 * MiB] + bytes(2 * MiB)


def test_sparse_file_costs_nothing(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    with (mnt / "sparse").open("wb") as file:
        file.truncate(10 << 30)
        file.seek(5 << 30)
        file.write(b"middle")
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    assert (again / "sparse").stat().st_size == 10 << 30
    with (again / "sparse").open("rb") as file:
        file.seek((5 << 30) - 4)
        assert file.read(12) == b"\0\0\0\0middle\0\0"
    stored = sum(p.stat().st_size for p in Path(store).rglob("*") if p.is_file())
    assert stored < MiB


def test_shared_writable_mmap(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    path = mnt / "m"
    path.write_bytes(bytes(8 * MiB))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[5 * MiB : 5 * MiB + 5] = b"hello"
        view[-3:] = b"end"
    expected = bytearray(8 * MiB)
    expected[5 * MiB : 5 * MiB + 5], expected[-3:] = b"hello", b"end"
    assert path.read_bytes() == expected
    machine.umount(mnt)
    assert (machine.mount(store, "again", "cold") / "m").read_bytes() == expected


def test_exclusive_creation(mnt: Path) -> None:
    os.close(os.open(mnt / "x", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    with pytest.raises(FileExistsError):
        os.open(mnt / "x", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def test_unlinked_file_stays_readable_and_writable(mnt: Path) -> None:
    path = mnt / "gone"
    path.write_bytes(b"a" * 100_000)
    with path.open("r+b") as file:
        path.unlink()
        assert file.read() == b"a" * 100_000
        file.write(b"tail")
        file.seek(100_000)
        assert file.read() == b"tail"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert list(mnt.iterdir()) == []


def test_rename_then_close_publishes_under_the_new_name(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    (mnt / "model").write_bytes(b"old" * 5000)
    with (mnt / ".tmpX").open("wb") as file:
        file.write(b"new" * 5000)
        file.flush()
        os.rename(mnt / ".tmpX", mnt / "model")
    assert (mnt / "model").read_bytes() == b"new" * 5000
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    assert sorted(p.name for p in again.iterdir()) == ["model"]
    assert (again / "model").read_bytes() == b"new" * 5000


def test_duplicated_descriptor_written_after_a_flush(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    fd = os.open(mnt / "f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"first " * 1000)
    os.close(os.dup(fd))
    os.write(fd, b"second" * 1000)
    os.close(fd)
    machine.umount(mnt)
    assert (machine.mount(store, "again", "cold") / "f").read_bytes() == b"first " * 1000 + b"second" * 1000


def test_open_for_writing_without_writing_makes_no_version(machine: Machine, store: str, mnt: Path) -> None:
    (mnt / "f").write_bytes(b"x" * 10_000)
    before = machine.status(mnt)["commit"]
    os.close(os.open(mnt / "f", os.O_RDWR))
    fd = os.open(mnt, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    assert machine.status(mnt)["commit"] == before


def test_times_modes_and_owner(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    path = mnt / "f"
    path.write_bytes(b"x")
    os.chmod(path, 0o640)
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))
    os.chown(path, 1234, 2345)
    ino = path.stat().st_ino
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    info = (again / "f").stat()
    assert info.st_mode & 0o7777 == 0o640
    assert info.st_mtime_ns == 1_234_567_890_123_456_789
    assert (info.st_uid, info.st_gid) == (1234, 2345)
    assert ino > 0


def test_extended_attributes(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    path = mnt / "f"
    path.write_bytes(b"x")
    os.setxattr(path, "user.step", b"1000")
    os.setxattr(path, "user.empty", b"")
    assert sorted(os.listxattr(path)) == ["user.empty", "user.step"]
    os.removexattr(path, "user.empty")
    with pytest.raises(OSError) as missing:
        os.getxattr(path, "user.empty")
    assert missing.value.errno == errno.ENODATA
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    assert os.getxattr(again / "f", "user.step") == b"1000"


def test_locks(mnt: Path) -> None:
    (mnt / "lock").touch()
    with (mnt / "lock").open("r+b") as one, (mnt / "lock").open("r+b") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.lockf(two, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_inode_number_and_size_while_writing(mnt: Path) -> None:
    with (mnt / "f").open("wb", buffering=0) as file:
        ino = os.fstat(file.fileno()).st_ino
        for i in range(1, 5):
            file.write(b"x" * 100_000)
            assert (mnt / "f").stat().st_size == i * 100_000
            assert (mnt / "f").stat().st_ino == ino
    assert (mnt / "f").stat().st_ino == ino


def test_statfs_has_real_numbers(mnt: Path, store: str) -> None:
    shown, real = os.statvfs(mnt), os.statvfs(store)
    assert shown.f_blocks * shown.f_frsize == real.f_blocks * real.f_frsize
    assert shown.f_namemax == 255


def test_many_threads_one_mount(mnt: Path) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            data = noise(300_000, number)
            for round_ in range(5):
                path = mnt / f"t{number}-{round_}"
                path.write_bytes(data)
                assert path.read_bytes() == data
                path.rename(mnt / f"r{number}-{round_}")
        except Exception as error:  # noqa: BLE001  # handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(list(mnt.iterdir())) == 40


def test_history_is_mounted_read_only(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    (mnt / "f").write_bytes(b"one" * 4000)
    number = machine.status(mnt)["commit"]
    (mnt / "f").write_bytes(b"two" * 4000)
    past = machine.mount(store, "past", "cp", at=f"main@{number}")
    assert (past / "f").read_bytes() == b"one" * 4000
    with pytest.raises(OSError) as refused:
        (past / "g").write_bytes(b"")
    assert refused.value.errno == errno.EROFS
