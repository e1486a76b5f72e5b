"""Fixtures of the framework tier: real save and load functions on real mounts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mounting import Machine


@pytest.fixture
def twice(machine: Machine) -> Callable[[Callable[[Path], None], Callable[[Path], None]], None]:
    """Run ``save`` on a mount, ``check`` there, then ``check`` on a second mount with an empty cache."""

    def run(save: Callable[[Path], None], check: Callable[[Path], None]) -> None:
        store = machine.new_store()
        first = machine.mount(store)
        save(first)
        check(first)
        contents = {p.relative_to(first): p.read_bytes() for p in sorted(first.rglob("*")) if p.is_file()}
        machine.umount(first)
        second = machine.mount(store, "second", "cold")
        check(second)
        assert {p.relative_to(second): p.read_bytes() for p in sorted(second.rglob("*")) if p.is_file()} == contents
        machine.umount(second)

    return run
