"""Some bytes of the cache's disk that are given up when it is full: without, the index cannot even note an eviction.

Held as a file beside the index while a cache is open and after it was closed; whoever finds the disk full drops it, and
it is taken again when there is room.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from modelfs import limits

_NAME: Final = "ballast"


def take(directory: Path) -> None:
    """Hold the ballast of a cache directory, if the disk has room for more than that."""
    path = directory / _NAME
    with contextlib.suppress(OSError):  # full, or a file system that cannot: then there is none
        disk = os.statvfs(directory)
        if path.exists() or disk.f_bavail * disk.f_frsize < 2 * limits.CACHE_BALLAST:
            return
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, limits.CACHE_BALLAST)
        finally:
            os.close(fd)


def drop(directory: Path) -> bool:
    """Give the ballast up; False when there was none."""
    try:
        (directory / _NAME).unlink()
    except OSError:
        return False
    return True
