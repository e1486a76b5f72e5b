"""Fixtures of the mount tier: everything here goes through the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import Machine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine with its own state and cache directories."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    made = Machine(tmp_path / "machine")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def store(machine: Machine) -> str:
    """A fresh local store."""
    return machine.new_store()


@pytest.fixture
def mnt(machine: Machine, store: str) -> Path:
    """A read-write mount of a fresh store."""
    return machine.mount(store)
