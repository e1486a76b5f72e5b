"""Mount points as the kernel sees them: the mount table, dead mounts, unmounting, kernel read-ahead."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from modelfs import limits
from modelfs.errors import ModelfsError, UsageError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of /proc/self/mountinfo (proc(5))."""

    device: str  # major:minor
    path: str
    fstype: str
    source: str


def mount_table() -> list[MountEntry]:
    """All mounts of this mount namespace, in order."""
    entries = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        path = fields[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
        entries.append(MountEntry(fields[2], path, tail[0], tail[1]))
    return entries


def mounted_at(mountpoint: Path, *, fuse: bool = False) -> MountEntry | None:
    """The topmost mount at exactly this path, without touching it (a dead mount would fail). ``fuse``: if it is one of
    FUSE."""
    wanted = os.path.normpath(Path.cwd() / mountpoint)
    found = None
    for entry in mount_table():
        if entry.path == wanted:
            found = entry
    return None if fuse and found is not None and not found.fstype.startswith("fuse") else found


def is_dead(mountpoint: Path) -> bool:
    """True when a FUSE mount stands there whose daemon is gone.

    statfs is asked because the kernel never answers it from memory; a daemon that lives and does not answer within
    `limits.CONTROL_TIMEOUT` is not dead.
    """
    answer: list[int | None] = []

    def ask() -> None:
        try:
            os.statvfs(mountpoint)
        except OSError as error:
            answer.append(error.errno)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(limits.CONTROL_TIMEOUT)
    return bool(answer) and answer[0] in (errno.ENOTCONN, errno.ECONNABORTED)


def check_fuse() -> None:
    """UsageError when this machine cannot mount at all."""
    device = Path("/dev/fuse")
    if not device.exists():
        raise UsageError("there is no /dev/fuse here: load the fuse module, or give the container --device /dev/fuse")
    if shutil.which("fusermount3") is None:
        raise UsageError("fusermount3 is not installed (Debian package fuse3)")
    if not os.access(device, os.R_OK | os.W_OK):
        raise UsageError("/dev/fuse may not be opened by this user")


def detach(mountpoint: Path, *, lazy: bool = False) -> None:
    """Unmount. ModelfsError with the reason ("busy", …) when the kernel refuses."""
    if os.geteuid() == 0 and shutil.which("umount"):
        command = ["umount", "-i", *(["-l"] if lazy else []), "--", str(mountpoint)]
    else:
        tool = shutil.which("fusermount3")
        if tool is None:
            raise UsageError("fusermount3 is not installed (Debian package fuse3)")
        command = [tool, "-u", *(["-z"] if lazy else []), "--", str(mountpoint)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelfsError(f"{mountpoint}: unmounting took more than 60 s") from error
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise ModelfsError(f"{mountpoint}: {reason[-1] if reason else 'could not be unmounted'}")


def tune(mountpoint: Path) -> bool:
    """Raise what the kernel reads ahead on the mount and what it lets programs write before the daemon has taken it;
    False when that is not allowed (it takes root).

    The kernel keeps its strict limit for FUSE (a mount whose daemon is stuck must not fill memory with dirty pages),
    only less of one: 1 % makes saves 1.5 to 2 times slower.
    """
    entry = mounted_at(mountpoint)
    if entry is None:
        return False
    knobs = Path(f"/sys/class/bdi/{entry.device}")
    try:
        (knobs / "read_ahead_kb").write_text(str(limits.KERNEL_READAHEAD // limits.KiB))
        (knobs / "max_ratio").write_text(str(limits.KERNEL_DIRTY_PERCENT))
    except OSError as error:
        log.info("the kernel's read-ahead and write limits stay at their defaults (%s)", error)
        return False
    return True
