"""Small disks of their own for tests: ext4 in a file, mounted through a loop device (takes root)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(directory: Path, size: int) -> Iterator[Path]:
    """An empty ext4 of ``size`` MiB at ``directory``; skips the test where that is not possible."""
    mkfs = shutil.which("mkfs.ext4") or shutil.which("mkfs.ext4", path="/sbin:/usr/sbin")
    if os.geteuid() != 0 or mkfs is None:
        pytest.skip("no small disks: mounting a loop device takes root and mkfs.ext4")
    image = directory.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(size << 20)
    subprocess.run([mkfs, "-q", "-m", "0", "-O", "^has_journal", image], check=True)
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
