"""One mount at a mount point, and nothing written beside it.

`Claim` is held by a daemon from before it mounts until it is unmounted: of several mounts that begin at once exactly
one wins, and the others say who did. While it is mounted, and after the daemon died, the bare directory under the mount
cannot be written: a training that goes on after a crash fails there instead of filling the wrong disk in silence. Root
gets the immutable flag (it ignores modes; ioctl_iflags(2)), others mode 0. What was done is noted beside the registry
of mounts, so that the next mount or `modelfs umount` knows its own mark and takes it away; a clean unmount does it at
once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import stat
import struct
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from modelfs import config, limits
from modelfs.errors import UsageError
from modelfs.fuse.mountpoint import detach, is_dead, mounted_at
from modelfs.private import private_directory
from modelfs.process import ending

log = logging.getLogger(__name__)

# <linux/fs.h>: _IOR('f', 1, long), _IOW('f', 2, long); the kernel reads and writes an int.
_GET_FLAGS: Final = 0x80086601
_SET_FLAGS: Final = 0x40086602
_IMMUTABLE: Final = 0x10


@dataclass(frozen=True, slots=True)
class Mark:
    """What was done to a bare directory. ``mode``: the permission bits that it had."""

    device: int
    inode: int
    mode: Annotated[int, Meta(ge=0, le=0o7777)]
    immutable: bool


class Claim:
    """The right to mount at one place; make it with `take`."""

    def __init__(self, mountpoint: Path, lock: int) -> None:
        self._mountpoint = mountpoint
        self._lock = lock
        self._bare = -1

    @classmethod
    def take(cls, mountpoint: Path, *, nonempty: bool = False) -> Claim:
        """Claim a mount point, and heal what a dead daemon left there. UsageError when another process has it (one
        that is ending is waited for), or nothing may be mounted there."""
        path = config.mounts_directory() / f"{config.mount_key(mountpoint)}.lock"
        private_directory(path.parent)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + limits.DEAD_SESSION_WAIT
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pid = _number(os.pread(fd, 20, 0))
                if pid is None or not ending(pid) or time.monotonic() > deadline:
                    os.close(fd)
                    raise UsageError(_taken(mountpoint, pid)) from None
                time.sleep(limits.DEAD_SESSION_POLL)
        os.pwrite(fd, b"%-19d\n" % os.getpid(), 0)
        claim = cls(mountpoint, fd)
        try:
            _prepare(mountpoint, nonempty=nonempty)
            claim._hold()
        except BaseException:
            claim.release()
            raise
        return claim

    def _hold(self) -> None:
        """Hold on to the bare directory."""
        self._bare = os.open(self._mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._bare, fcntl.LOCK_EX | fcntl.LOCK_NB)  # against other users' daemons
        except BlockingIOError as error:
            raise UsageError(_taken(self._mountpoint, None)) from error
        if mounted_at(self._mountpoint, fuse=True) is not None:
            raise UsageError(_taken(self._mountpoint, None))

    def protect(self) -> None:
        """Make the bare directory unwritable, as far as this user and the file system can."""
        facts = os.fstat(self._bare)
        mark = Mark(facts.st_dev, facts.st_ino, stat.S_IMODE(facts.st_mode), immutable=os.geteuid() == 0)
        try:
            _mark_file(self._mountpoint).write_text(json.dumps(asdict(mark)))
            if mark.immutable:
                _set_immutable(self._bare, True)
            else:
                os.fchmod(self._bare, 0)
        except OSError as error:
            _mark_file(self._mountpoint).unlink(missing_ok=True)
            log.info(
                "%s: while nothing is mounted there, the bare directory can be written (%s)", self._mountpoint, error
            )

    def release(self) -> None:
        """The bare directory is as it was before, and others may mount there. May be called again."""
        if self._bare >= 0:
            try:
                _lift(self._mountpoint, self._bare)
            except OSError as error:
                log.warning("%s stays unwritable until the next mount there: %s", self._mountpoint, error)
            os.close(self._bare)
        if self._lock >= 0:
            os.close(self._lock)
        self._bare = self._lock = -1


def _prepare(mountpoint: Path, *, nonempty: bool) -> None:
    """Make sure that a mount may go there, healing a dead one. UsageError otherwise."""
    if is_dead(mountpoint):
        log.warning("%s: the daemon of an earlier mount is gone; unmounting what it left", mountpoint)
        detach(mountpoint, lazy=True)
    if (entry := mounted_at(mountpoint, fuse=True)) is not None:
        raise UsageError(f"{mountpoint} is mounted already: {entry.fstype} {entry.source}")
    lift(mountpoint)
    try:
        names = os.listdir(mountpoint)
    except FileNotFoundError as error:
        raise UsageError(f"the mount point {mountpoint} does not exist (mkdir it first)") from error
    except NotADirectoryError as error:
        raise UsageError(f"the mount point {mountpoint} is not a directory") from error
    except OSError as error:
        raise UsageError(f"the mount point {mountpoint} cannot be used: {error.strerror}") from error
    if names and not nonempty:
        raise UsageError(f"the mount point {mountpoint} is not empty (a mount would hide what is in it)")


def lift(mountpoint: Path) -> bool:
    """Undo what a mount that died did to its bare directory; True if there was something. Nothing may be mounted."""
    if not _mark_file(mountpoint).exists():
        return False
    with contextlib.suppress(OSError):  # gone, or it lies on something that is
        return _lift(mountpoint, None)
    return False


def _lift(mountpoint: Path, fd: int | None) -> bool:
    path = _mark_file(mountpoint)
    try:
        mark = msgspec.json.decode(path.read_bytes(), type=Mark)
    except (OSError, ValueError, RecursionError):  # cut by a power loss
        return False
    facts = mountpoint.stat() if fd is None else os.fstat(fd)
    if (facts.st_dev, facts.st_ino) == (mark.device, mark.inode):
        if mark.immutable:
            opened = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if fd is None else os.dup(fd)
            try:
                _set_immutable(opened, False)
            finally:
                os.close(opened)
        elif fd is None:
            mountpoint.chmod(mark.mode)
        else:
            os.fchmod(fd, mark.mode)
    path.unlink(missing_ok=True)
    return True


def _set_immutable(fd: int, wanted: bool) -> None:
    """OSError where the file system has no such flag, or CAP_LINUX_IMMUTABLE is missing."""
    flags = struct.unpack("i", fcntl.ioctl(fd, _GET_FLAGS, bytes(4)))[0]
    flags = flags | _IMMUTABLE if wanted else flags & ~_IMMUTABLE
    fcntl.ioctl(fd, _SET_FLAGS, struct.pack("i", flags))


def _mark_file(mountpoint: Path) -> Path:
    return config.mounts_directory() / f"{config.mount_key(mountpoint)}.bare"


def _taken(mountpoint: Path, pid: int | None) -> str:
    process = f" by process {pid}" if pid is not None else " by another process"
    entry = mounted_at(mountpoint, fuse=True)
    if entry is not None:
        return f"{mountpoint} is mounted already: {entry.fstype} {entry.source}{process if pid is not None else ''}"
    return f"{mountpoint} is being mounted or unmounted{process}"


def _number(text: bytes) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
