"""Fixtures of the tests of `convert`, `split` and `merge`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import Run


@pytest.fixture
def modelfs(in_process: Run) -> Run:
    return in_process


@pytest.fixture
def store(modelfs: Run, tmp_path: Path) -> Path:
    """A fresh local store."""
    modelfs("init", tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def saved(modelfs: Run, store: Path, tmp_path: Path) -> Callable[[Any], str]:
    """torch.save an object and put it: its path in the store."""
    import torch

    def save(value: Any, name: str = "m.pt") -> str:
        torch.save(value, tmp_path / name)
        modelfs("put", store, name, name)
        return name

    return save
