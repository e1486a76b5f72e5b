"""PyTorch: torch.save and torch.load, and distributed checkpoints of several processes (gloo)."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import rowkit
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn

State = dict[str, Any]

BATCH = torch.linspace(-1, 1, 16 * 256).reshape(16, 256)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.LayerNorm(1024), nn.Linear(1024, 512), nn.Linear(512, 10))


@rowkit.once
def trained() -> State:
    """A network and its optimiser after three steps, and weights in half precision. The slopes are drawn, not summed
    up: sums of floats depend on how many threads there happen to be."""
    torch.manual_seed(7)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "half": torch.randn(1 << 18).to(torch.bfloat16),
    }


def tensors() -> State:
    """What distributed checkpoints have: the model alone."""
    return {"model": dict(trained()["model"])}


def weights(state: State) -> State:
    return state


def predict(state: State) -> torch.Tensor:
    model = network()
    model.load_state_dict(state["model"])
    return model(BATCH)


def save(state: State, directory: Path) -> None:
    torch.save(state, directory / "checkpoint.pt")


def load(directory: Path) -> State:
    return torch.load(directory / "checkpoint.pt", weights_only=True)


def load_mapped(directory: Path) -> State:
    return torch.load(directory / "checkpoint.pt", mmap=True, weights_only=True)


def load_pickled(directory: Path) -> State:
    return torch.load(directory / "checkpoint.pt", weights_only=False)


def save_module(state: State, directory: Path) -> None:
    model = network()
    model.load_state_dict(state["model"])
    torch.save(model, directory / "module.pt")


def load_module(directory: Path) -> State:
    return {"model": dict(torch.load(directory / "module.pt", weights_only=False).state_dict())}


def save_legacy(state: State, directory: Path) -> None:
    torch.save(state, directory / "checkpoint.pt", _use_new_zipfile_serialization=False)


def empty() -> State:
    return {"model": {name: torch.zeros_like(value) for name, value in network().state_dict().items()}}


def sharded(state: State) -> State:
    """The state as DTensors: every process of the group has its rows of each tensor."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return {"model": {name: distribute_tensor(value, mesh, [Shard(0)]) for name, value in state["model"].items()}}


def rank(number: int, ranks: int, action: str, directory: str, shared: str) -> None:
    """One process of a group that saves or loads. The first leaves the seconds, and what was loaded, in ``shared``."""
    dist.init_process_group("gloo", init_method=f"file://{shared}/rendezvous", rank=number, world_size=ranks)
    state = sharded(tensors() if action == "save" else empty())
    dist.barrier()
    begin = time.perf_counter()
    if action == "save":
        dcp.save(state, checkpoint_id=directory)
    else:
        dcp.load(state, checkpoint_id=directory)
    seconds = time.perf_counter() - begin
    whole = {"model": {name: value.full_tensor() for name, value in state["model"].items()}}
    if number == 0:
        torch.save({"seconds": seconds, **whole}, f"{shared}/answer.pt")
    dist.barrier()  # gloo aborts a process of which another one leaves in the middle of a collective
    dist.destroy_process_group()


def group(ranks: int, action: str, directory: Path) -> State:
    with tempfile.TemporaryDirectory() as shared:
        torch.multiprocessing.spawn(rank, (ranks, action, str(directory), shared), nprocs=ranks)
        answer = torch.load(f"{shared}/answer.pt", weights_only=True)
    rowkit.took(answer.pop("seconds"))
    return answer


def save_two(state: State, directory: Path) -> None:
    group(2, "save", directory)


def load_two(directory: Path) -> State:
    return group(2, "load", directory)


def save_four(state: State, directory: Path) -> None:
    group(4, "save", directory)


def load_alone(directory: Path) -> State:
    state = empty()
    dcp.load(state, checkpoint_id=str(directory), no_dist=True)
    return state


def save_async(state: State, directory: Path) -> None:
    with tempfile.TemporaryDirectory() as shared:
        dist.init_process_group("gloo", init_method=f"file://{shared}/rendezvous", rank=0, world_size=1)
        begin = time.perf_counter()
        dcp.async_save(state, checkpoint_id=str(directory)).result()
        rowkit.took(time.perf_counter() - begin)
        dist.destroy_process_group()


row = rowkit.Row("PyTorch", lambda: torch.__version__)
row.add("torch.save", "`torch.load(weights_only=True)`", trained, save, load, weights, predict)
row.add("torch.save, mapped", "`torch.load(mmap=True)`", trained, save, load_mapped, weights, predict)
row.add("torch.save, pickle", "`torch.load(weights_only=False)`", trained, save, load_pickled, weights, predict)
row.add("torch.save, legacy", "without a zip archive", trained, save_legacy, load, weights, predict)
row.add("torch.save of a module", "the module itself", tensors, save_module, load_module, weights, predict)
row.add("DCP, 2 ranks", "`dcp.save` and `dcp.load` by 2 ranks (gloo)", tensors, save_two, load_two, weights, predict)
row.add("DCP, 4 ranks", "`dcp.save` by 4, `dcp.load` by 1", tensors, save_four, load_alone, weights, predict)
row.add("DCP, async", "`dcp.async_save`, `dcp.load`", tensors, save_async, load_alone, weights, predict)

if __name__ == "__main__":
    row.main()
