"""Fixtures of the command line tier."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import Run, inside, runner


@pytest.fixture
def modelfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``modelfs`` with its state and caches below the test's directory."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    return runner(tmp_path)


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """As ``modelfs``, in this process and in the test's directory: for tests of many commands."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    return inside(tmp_path, monkeypatch, capsys)


@pytest.fixture
def local_store(modelfs: Run, tmp_path: Path) -> Path:
    """A fresh local store."""
    modelfs("init", tmp_path / "a-store")
    return tmp_path / "a-store"
