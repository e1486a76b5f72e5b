"""``modelfs://`` as fsspec finds it where the package is installed; here it is said to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from mounting import Machine

from modelfs.filesystem.spec import ModelFileSystem

fsspec.register_implementation("modelfs", ModelFileSystem, clobber=True)


@pytest.fixture
def opened(machine: Machine) -> Iterator[Any]:
    """Opens file systems with a cache of the pretend machine, and ends them with the test."""
    made: list[ModelFileSystem] = []

    def open_one(store: str, cache: str = "cache", **options: Any) -> ModelFileSystem:
        fs = ModelFileSystem(
            store=store, cache_dir=machine.directory / cache, skip_instance_cache=True, **{"refresh": 0, **options}
        )
        made.append(fs)
        return fs

    yield open_one
    for fs in made:
        fs.close()


@pytest.fixture
def fs(opened: Any, store: str) -> ModelFileSystem:
    """A file system on a fresh store."""
    made: ModelFileSystem = opened(store)
    return made


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Where a test may write a program."""
    return tmp_path / "program.py"
