"""PyTorch on a mount, beyond what `test_matrix` has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from mounting import Machine

Twice = Callable[[Callable[[Path], None], Callable[[Path], None]], None]


def _state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {
        "embed": torch.randn(5000, 256, generator=generator),
        "half": torch.randn(1 << 20, generator=generator).to(torch.bfloat16),
        "step": torch.tensor(1000),
    }


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_storage_from_file_shared(twice: Twice) -> None:
    def save(mnt: Path) -> None:
        tensor = torch.from_file(str(mnt / "shared.bin"), shared=True, size=100_000, dtype=torch.float32)
        tensor[:] = torch.arange(100_000, dtype=torch.float32)
        del tensor

    def check(mnt: Path) -> None:
        tensor = torch.from_file(str(mnt / "shared.bin"), shared=False, size=100_000, dtype=torch.float32)
        assert torch.equal(tensor, torch.arange(100_000, dtype=torch.float32))

    twice(save, check)


def test_distributed_checkpoint_in_one_process(twice: Twice) -> None:
    import torch.distributed.checkpoint as dcp

    def save(mnt: Path) -> None:
        for _ in range(2):  # the second save overwrites the first
            dcp.save(_state(), checkpoint_id=str(mnt / "dcp"), no_dist=True)

    def check(mnt: Path) -> None:
        loaded = {key: torch.zeros_like(value) for key, value in _state().items()}
        dcp.load(loaded, checkpoint_id=str(mnt / "dcp"), no_dist=True)
        assert _same(loaded, _state())

    twice(save, check)


def test_saving_again_with_one_layer_changed_costs_that_layer(machine: Machine) -> None:
    from safetensors.torch import save_file

    store = machine.new_store()
    mnt = machine.mount(store)
    state = {f"layer{i}": torch.randn(1 << 20) for i in range(8)}
    save_file(state, mnt / "a.safetensors")

    def stored() -> int:
        return sum(p.stat().st_size for p in (Path(store) / "data").rglob("*") if p.is_file())

    before = stored()
    state["layer3"] = torch.randn(1 << 20)
    save_file(state, mnt / "b.safetensors")
    assert stored() - before <= 5 << 20
