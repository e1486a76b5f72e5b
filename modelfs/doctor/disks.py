"""Where the cache and the journal lie: room, and what the file system can do."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from modelfs import config, limits
from modelfs.cache.sparse import punch
from modelfs.doctor.finding import Finding, fail, ok, warn
from modelfs.fuse.mountpoint import mount_table

_FICLONE = 0x40049409  # include/uapi/linux/fs.h
_FILE = 4 * limits.MiB
_PAGE = 64 * limits.KiB  # ext4, XFS, btrfs have smaller blocks
_VOLATILE = frozenset({"tmpfs", "ramfs", "overlay"})  # an overlay is a container's, which goes away
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.sshfs", "lustre"})


def check_disks(cache_dir: Path | None) -> Iterator[Finding]:
    """Checks of the disks below the cache (``cache_dir``, None: the default place) and the journal."""
    yield from _check("cache", cache_dir or config.cache_root(), journal=False)
    yield from _check("journal", config.journals_directory(), journal=True)


def _check(name: str, wanted: Path, *, journal: bool) -> Iterator[Finding]:
    place = wanted
    while not place.exists():  # nothing is made that would stay
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield fail(name, f"{place} cannot be written", "change its permissions, or say where else (--cache-dir, XDG_…)")
        return
    yield _room(name, place)
    yield _kind(name, place, journal=journal)
    yield _holes(name, place)
    if not journal:
        yield _reflink(name, place)


def _room(name: str, place: Path) -> Finding:
    disk = os.statvfs(place)
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    said = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free at {place}"
    if free < limits.DISK_LITTLE:
        return fail(name, said, "make room: what is being written stays here until it is in the store")
    if free < total * limits.CACHE_DISK_FREE_SHARE:
        share = f"{limits.CACHE_DISK_FREE_SHARE:.0%}"
        return warn(name, said, f"the cache leaves {share} of its disk free and cannot grow: make room, or --cache-dir")
    return ok(name, said)


def _kind(name: str, place: Path, *, journal: bool) -> Finding:
    path = place.resolve()
    below = [entry for entry in mount_table() if path.is_relative_to(entry.path)]
    kind = max(below, key=lambda entry: len(entry.path)).fstype if below else "unknown"
    if journal and kind in _VOLATILE:
        advice = "set XDG_STATE_HOME to a disk: what is written back must survive a restart"
        return warn(name, f"{kind}, which a restart may empty", advice)
    if kind in _NETWORK:
        return warn(name, f"{kind}, which lies on another machine", "take a local disk: locks and the index want one")
    return ok(name, kind)


def _holes(name: str, place: Path) -> Finding:
    """Sparse files, punching, and finding holes again: caches evict with them, journals tell what was written."""
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            fd = file.fileno()
            os.ftruncate(fd, _FILE)
            os.pwrite(fd, b"x" * _PAGE * 4, 0)
            os.fsync(fd)
            full = os.fstat(fd).st_blocks * 512
            punch(fd, _PAGE, 2 * _PAGE)
            punched = os.fstat(fd).st_blocks * 512
            hole = os.lseek(fd, 0, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return fail(name, "the disk is full", "make room")
        return fail(name, f"holes cannot be punched ({error.strerror})", "take ext4, XFS or btrfs")
    if full >= _FILE:
        return warn(name, "files are not sparse here", "take ext4, XFS or btrfs: files read in part take all")
    if punched >= full or hole > _PAGE:
        return warn(name, "punched holes free nothing here", "take ext4, XFS or btrfs: the cache frees nothing")
    return ok(name, "sparse files, and holes can be punched")


def _reflink(name: str, place: Path) -> Finding:
    with tempfile.TemporaryFile(dir=place) as one, tempfile.TemporaryFile(dir=place) as other:
        one.write(b"x" * _PAGE)
        one.flush()
        try:
            fcntl.ioctl(other.fileno(), _FICLONE, one.fileno())
        except OSError:
            return ok(name, "no reflinks: copies on this disk take room of their own")
    return ok(name, "reflinks: copies on this disk share room")
