"""safetensors on a mount: it saves through a temporary sibling, chmod and rename, and loads through mmap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from mounting import Machine
from safetensors import safe_open
from safetensors.torch import load_file, save_file

Twice = Callable[[Callable[[Path], None], Callable[[Path], None]], None]


def _tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {f"w{i}": torch.randn(300 + i, 1000, generator=generator) for i in range(12)}


def test_overwrite(twice: Twice) -> None:
    def save(mnt: Path) -> None:
        save_file({"old": torch.ones(2_000_000)}, mnt / "m.safetensors")
        save_file(_tensors(), mnt / "m.safetensors")

    def check(mnt: Path) -> None:
        assert set(load_file(mnt / "m.safetensors")) == set(_tensors())

    twice(save, check)


def test_one_tensor_of_a_large_file_fetches_little(machine: Machine) -> None:
    """One tensor of 1 % of a 2 GB file: under 3 % of its bytes come; neither daemon ever holds 400 MB."""
    store = machine.new_store()
    mnt = machine.mount(store)
    tensors = {f"t{i:03}": torch.empty(2_500_000, dtype=torch.int64).random_() for i in range(100)}
    save_file(tensors, mnt / "big.safetensors")
    assert _peak_memory(machine.pid(mnt)) < 400e6
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    size = (again / "big.safetensors").stat().st_size
    assert size > 2e9
    with safe_open(again / "big.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("t050"), tensors["t050"])
    assert 0 < machine.status(again)["fetched_bytes"] < 0.03 * size
    loaded = load_file(again / "big.safetensors")
    assert torch.equal(loaded["t099"], tensors["t099"])
    assert _peak_memory(machine.pid(again)) < 400e6


def _peak_memory(pid: int) -> int:
    """Most bytes that the process ever had in memory of its own, plus what it maps of files."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")
