"""Directories that are this user's alone: caches, journals, logs, what was seen of stores.

`pathlib` gives its mode to the last directory only, and the user's mask to those above it; here every one that has to
be made is 0700. One that exists stays as its owner made it.
"""

from __future__ import annotations

from pathlib import Path


def private_directory(path: Path) -> None:
    """Make a directory, and those above it that are missing. OSError."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)
