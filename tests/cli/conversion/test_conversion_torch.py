"""What is peculiar to PyTorch's files: types, shared storages, views, pickles."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from converted import get, grown, load_safetensors
from mounting import Machine
from running import Run


def test_types_that_only_some_have_and_tensors_that_share_a_storage(
    modelfs: Run, store: Path, tmp_path: Path, saved: Callable[[Any], str]
) -> None:
    import torch
    from safetensors.torch import load_file

    large = torch.randn(1500, 1000)
    state = {
        "embedding": large,
        "head": large,
        "rows": large[10:11],
        "bf16": torch.randn(900, 1024).bfloat16(),
        "f8": torch.randn(40, 8).to(torch.float8_e4m3fn),
        "u16": torch.tensor([1, 2, 65535], dtype=torch.uint16),
        "flags": torch.tensor([True, False]),
        "complex": torch.randn(4, dtype=torch.complex64),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3.5),
    }

    def check(found: dict[str, Any]) -> None:
        assert found.keys() == state.keys()
        for name, tensor in state.items():
            assert found[name].dtype == tensor.dtype
            assert found[name].shape == tensor.shape
            # as bytes: not every type can be compared
            assert torch.equal(found[name].flatten().view(torch.uint8), tensor.flatten().view(torch.uint8)), name

    since = grown(store)
    saved(state)
    size = since()
    modelfs("convert", store, "m.pt", "m.safetensors")
    modelfs("convert", store, "m.safetensors", "n.pt")
    modelfs("convert", store, "m.pt", "o.pt")
    assert since() < size / 100
    check(load_file(get(modelfs, store, "m.safetensors", tmp_path / "out")))
    check(torch.load(get(modelfs, store, "n.pt", tmp_path / "out"), weights_only=True, mmap=True))
    tied = torch.load(get(modelfs, store, "o.pt", tmp_path / "out"), weights_only=True)
    check(tied)
    assert tied["embedding"].data_ptr() == tied["head"].data_ptr()
    assert (tmp_path / "out/o.pt").stat().st_size < (tmp_path / "out/n.pt").stat().st_size - large.nbytes + 10_000
    line = modelfs("convert", store, "m.pt", "m.npz", code=2).err
    assert "'bf16' is BF16; NumPy has no such element type" in line


def test_what_is_in_a_training_checkpoint(
    modelfs: Run, store: Path, tmp_path: Path, saved: Callable[[Any], str]
) -> None:
    import torch
    from safetensors.torch import load_file

    net = torch.nn.Linear(400, 300)
    moments = {i: {"step": torch.tensor(4.0), "exp_avg": torch.randn(300)} for i in range(2)}
    optimizer = {"state": moments, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1]}]}
    saved({"epoch": 3, "model": net.state_dict(), "optimizer": optimizer, "net": net.weight})
    done = modelfs("convert", store, "m.pt", "m.safetensors")
    assert "epoch" in done.err
    found = load_file(get(modelfs, store, "m.safetensors", tmp_path / "out"))
    assert torch.equal(found["model.weight"], net.weight)
    assert torch.equal(found["optimizer.state.1.exp_avg"], moments[1]["exp_avg"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sparse = torch.eye(300).to_sparse()
    refusals = {
        "'t' is a strided view": {"t": net.weight.t()},
        "'s' is a strided view": {"s": torch.zeros(8, 8)[:, :2]},
        "'x' is a strided view": {"x": torch.zeros(3, 1).expand(3, 4)},
        "'a' is not a plain one (_rebuild_sparse": {"a": sparse},
        "there is no tensor": {"a": 1, "b": [2, 3]},
        "of no tensor whose name": {("a", "b"): torch.zeros(3)},
        "'a.b' is in it twice": {"a": {"b": torch.zeros(2)}, "a.b": torch.ones(2)},
    }
    for words, value in refusals.items():
        saved(value, "bad.pt")
        assert words in modelfs("convert", store, "bad.pt", "x.safetensors", code=2).err


def test_converted_files_are_read_on_a_mount(
    modelfs: Run, store: Path, machine: Machine, saved: Callable[[Any], str]
) -> None:
    import torch
    from safetensors.torch import load_file

    state = {"w": torch.randn(700, 800), "b": torch.randn(800)}
    saved(state)
    modelfs("convert", store, "m.pt", "m.safetensors")
    modelfs("convert", store, "m.safetensors", "n.pt")
    mounted = machine.mount(str(store))
    for found in (
        load_file(mounted / "m.safetensors"),
        torch.load(mounted / "n.pt", weights_only=True, mmap=True),
    ):
        assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


def test_a_pickle_is_never_run(modelfs: Run, store: Path, tmp_path: Path, saved: Callable[[Any], str]) -> None:
    import torch

    saved({"w": torch.ones(500, 500), "bomb": Bomb()})
    modelfs("convert", store, "m.pt", "m.safetensors")
    assert load_safetensors(get(modelfs, store, "m.safetensors", tmp_path / "out")).keys() == {"w"}
    assert not (tmp_path / "exploded").exists()
