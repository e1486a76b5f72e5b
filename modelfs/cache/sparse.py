"""Locked sparse files: the primitives on which several processes share one cache directory.

A cache file is named by its manifest id. Who reads it holds flock LOCK_SH, who takes bytes away from it holds LOCK_EX.
A lock counts only while the path still names the locked inode, so both ways of opening check that after locking.
Locks belong to the open file description: two descriptors exclude each other within one process as well.
Used by every module of the cache; nothing here knows the index.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Final

from modelfs.ids import ID_LENGTH, ManifestId

_FALLOC_FL_KEEP_SIZE: Final = 0x01
_FALLOC_FL_PUNCH_HOLE: Final = 0x02
_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW

# <linux/fs.h>: _IOW(0x94, 13, struct file_clone_range)
_FICLONERANGE: Final = 0x4020940D
_CLONE_RANGE: Final = Struct("=qQQQ")  # source, offset, length, offset in the target

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2

# The os module has posix_fallocate only, which cannot punch; CDLL lets go of the GIL and keeps errno per thread.
_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_fallocate.restype = ctypes.c_int
_renameat2 = _libc.renameat2
_renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_renameat2.restype = ctypes.c_int


def path_of(files: Path, manifest: ManifestId) -> Path:
    """Where the cache file of ``manifest`` lies below the directory ``files``."""
    name = manifest.hex()
    return files / name[:2] / name


def stored(files: Path) -> Iterator[tuple[Path, ManifestId]]:
    """Every cache file below ``files``; anything with another name is not ours and left out."""
    for folder in sorted(files.iterdir()):
        if len(folder.name) != 2 or not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            try:
                manifest = ManifestId(bytes.fromhex(path.name))
            except ValueError:
                continue
            if len(manifest) == ID_LENGTH and path == path_of(files, manifest):
                yield path, manifest


def open_shared(path: Path, *, create: bool) -> int | None:
    """A descriptor with LOCK_SH on the file that ``path`` names; None when there is none and ``create`` is false.

    Waits while an evictor holds the file, which takes milliseconds. Raises OSError.
    """
    while True:
        try:
            fd = _open(path, create=create)
        except FileNotFoundError:
            if create:
                raise
            return None
        if _locked(fd, path, fcntl.LOCK_SH):
            return fd


def open_exclusive(path: Path) -> int | None:
    """A descriptor with LOCK_EX on the file, created if need be; None when somebody else holds it. Raises OSError."""
    while True:
        fd = _open(path, create=True)
        try:
            if _locked(fd, path, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return fd
        except BlockingIOError:
            return None


def unused(fd: int) -> bool:
    """True when nobody but ``fd``, locked exclusively, has the file open.

    A file that the kernel reads for a mount (passthrough) may be mapped by a program long after every lock on it is
    gone. The kernel grants a write lease (fcntl(2), F_SETLEASE) only to who has a file alone, mappings included.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno != errno.EAGAIN  # a disk without leases has no passthrough either
    return True


def _open(path: Path, *, create: bool) -> int:
    if not create:
        return os.open(path, _OPEN)
    try:
        return os.open(path, _OPEN | os.O_CREAT, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return os.open(path, _OPEN | os.O_CREAT, 0o600)


def _locked(fd: int, path: Path, operation: int) -> bool:
    """Lock ``fd``; False (and closed) when the path names another file by the time the lock is granted."""
    try:
        fcntl.flock(fd, operation)
        here = os.fstat(fd)
        try:
            there = path.lstat()
        except FileNotFoundError:
            there = None
    except BaseException:
        os.close(fd)
        raise
    if there is not None and (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
        return True
    os.close(fd)
    return False


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """pwrite all of ``data``. Raises OSError; what was written before it stays."""
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)


def put_in_place(path: Path, target: Path) -> None:
    """Rename ``path`` to ``target``, which exists. Raises OSError.

    They change places, and what was at ``target`` is removed: ext4 begins to write a file to the disk that is renamed
    over another, gigabytes in the middle of a close. Where files cannot change places they are renamed.
    """
    if _renameat2(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE) == 0:
        path.unlink()
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        raise OSError(code, os.strerror(code))
    path.rename(target)


def punch(fd: int, offset: int, length: int) -> None:
    """Give the disk space of a range back; it reads as zeros afterwards. Only under LOCK_EX. Raises OSError."""
    if length and _fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset, length):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def copy(source: int, at: int, target: int, to: int, length: int) -> bool:
    """Have ``length`` bytes of one file in another (or at a second place of it). True when the disk shares the blocks
    (XFS, btrfs, at offsets that are alike within a block), False when they were copied. Raises OSError."""
    block = os.fstat(target).st_blksize
    head = min(length, -at % block)
    middle = (length - head) // block * block
    shared = at % block == to % block and middle > 0 and _clone(source, at + head, target, to + head, middle)
    ranges = [(0, head), (head + middle, length)] if shared else [(0, length)]
    for done, end in ranges:
        while done < end:
            moved = os.copy_file_range(source, target, end - done, at + done, to + done)
            if not moved:
                raise OSError(errno.EIO, "a cache file ended early")
            done += moved
    return shared


def _clone(source: int, at: int, target: int, to: int, length: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONERANGE, _CLONE_RANGE.pack(source, at, length, to))
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV, errno.ENOTTY):
            return False
        raise
    return True


def merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The (offset, length) ranges sorted, neighbours joined: blocks at a joint are given back as well."""
    out: list[tuple[int, int]] = []
    for offset, length in sorted(ranges):
        if out and out[-1][0] + out[-1][1] == offset:
            out[-1] = (out[-1][0], out[-1][1] + length)
        else:
            out.append((offset, length))
    return out
