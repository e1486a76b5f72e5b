"""What is loaded and saved: one model of bf16 weights, as safetensors and as a PyTorch file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

SAFETENSORS = "model.safetensors"
TORCH = "model.pt"
TENSORS = 100  # so that one is 1 % of the file

Weights = dict[str, torch.Tensor]


def make_weights(size: int, seed: int = 1) -> Weights:
    """``size`` bytes of weights in bf16, as large as those of a trained transformer."""
    generator = torch.Generator().manual_seed(seed)
    count = size // TENSORS // 2
    return {
        f"model.layers.{i:03d}.weight": (torch.randn(count, generator=generator) * 0.02).to(torch.bfloat16)
        for i in range(TENSORS)
    }


def write_both(weights: Weights, directory: Path) -> None:
    """The model in both formats."""
    save_file(weights, directory / SAFETENSORS)
    torch.save(weights, directory / TORCH)


def touch_all(weights: Weights) -> None:
    """Use a byte of every page: what is mapped is not read before that."""
    for tensor in weights.values():
        tensor.view(torch.uint8)[::4096].sum()


def _safetensors(path: Path) -> None:
    touch_all(load_file(path))


def _torch(path: Path) -> None:
    touch_all(torch.load(path))


def _torch_mapped(path: Path) -> None:
    touch_all(torch.load(path, mmap=True))


def _read(path: Path) -> None:
    """The whole file in one read, into memory that was there before."""
    buffer = memoryview(bytearray(8 << 20))
    fd = os.open(path, os.O_RDONLY)
    while os.readv(fd, [buffer]):
        pass
    os.close(fd)


# What programs do to load a model: (name, file, how). Each touches every page.
LOADS: list[tuple[str, str, Callable[[Path], None]]] = [
    ("safetensors.torch.load_file", SAFETENSORS, _safetensors),
    ("torch.load", TORCH, _torch),
    ("torch.load(mmap=True)", TORCH, _torch_mapped),
]
READ: tuple[str, str, Callable[[Path], None]] = ("read()", SAFETENSORS, _read)


def one_tensor(path: Path, number: int) -> None:
    """Load a single tensor of the safetensors file."""
    with safe_open(path, "pt") as file:
        touch_all({"": file.get_tensor(f"model.layers.{number:03d}.weight")})
