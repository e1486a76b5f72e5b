"""safetensors: files of PyTorch and NumPy, whole and by tensor."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import rowkit
import safetensors
import safetensors.numpy
import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]
Arrays = dict[str, np.ndarray]


@rowkit.once
def tensors() -> Tensors:
    generator = torch.Generator().manual_seed(3)
    made = {f"layer{i}.weight": torch.randn(256, 256, generator=generator) for i in range(12)}
    return {**made, "half": torch.randn(1 << 18, generator=generator).to(torch.bfloat16)}


@rowkit.once
def arrays() -> Arrays:
    return {name: value.numpy() for name, value in tensors().items() if value.dtype != torch.bfloat16}


def same(value: object) -> object:
    return value


def predict(state: Tensors | Arrays) -> torch.Tensor:
    x = torch.linspace(-1, 1, 256)
    for i in range(12):
        x = torch.tanh(torch.as_tensor(state[f"layer{i}.weight"]) @ x / 16)
    return x


def save(state: Tensors, directory: Path) -> None:
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})


def load(directory: Path) -> Tensors:
    return load_file(directory / "model.safetensors")


def load_slices(directory: Path) -> Tensors:
    found = {}
    with safetensors.safe_open(directory / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  it is no dictionary
            part = file.get_slice(name)
            half = part.get_shape()[0] // 2
            found[name] = torch.cat([part[:half], part[half:]])
    return found


def save_numpy(state: Arrays, directory: Path) -> None:
    safetensors.numpy.save_file(state, directory / "model.safetensors")


def load_numpy(directory: Path) -> Arrays:
    return safetensors.numpy.load_file(directory / "model.safetensors")


row = rowkit.Row("safetensors", lambda: safetensors.__version__)
row.add("PyTorch", "`save_file`, `load_file`", tensors, save, load, same, predict)
row.add("by slices", "`save_file`, `safe_open`, `get_slice`", tensors, save, load_slices, same, predict)
row.add("NumPy", "`safetensors.numpy`", arrays, save_numpy, load_numpy, same, predict)

if __name__ == "__main__":
    row.main()
