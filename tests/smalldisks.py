"""Small disks of their own for tests: ext4 or XFS in a file, mounted through a loop device (takes root)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(directory: Path, size: int, kind: str = "ext4") -> Iterator[Path]:
    """An empty file system of ``size`` MiB (XFS: 300 or more) at ``directory``; skips the test where that is not
    possible."""
    mkfs = shutil.which(f"mkfs.{kind}") or shutil.which(f"mkfs.{kind}", path="/sbin:/usr/sbin")
    if os.geteuid() != 0 or mkfs is None:
        pytest.skip(f"no small disks: mounting a loop device takes root and mkfs.{kind}")
    image = directory.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(size << 20)
    options = ["-m", "0", "-O", "^has_journal"] if kind == "ext4" else []
    subprocess.run([mkfs, "-q", *options, image], check=True)
    directory.mkdir()
    mounted = subprocess.run(["mount", "-o", "loop", image, directory], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disks: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)
        image.unlink()


def free(directory: Path) -> int:
    """Bytes that its disk has left."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize
