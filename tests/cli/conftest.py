"""Fixtures of the command line tier."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import Run, runner


@pytest.fixture
def modelfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``modelfs`` with its state and caches below the test's directory."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    return runner(tmp_path)


@pytest.fixture
def local_store(modelfs: Run, tmp_path: Path) -> Path:
    """A fresh local store."""
    modelfs("init", tmp_path / "a-store")
    return tmp_path / "a-store"
