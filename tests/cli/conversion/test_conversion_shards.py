"""Models in several files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from converted import RNG, Arrays, get, grown, load_safetensors, same
from running import Run


def test_split_and_merge(modelfs: Run, store: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {f"layer.{i}.weight": RNG.standard_normal((500, 400)).astype(np.float32) for i in range(6)}
    arrays |= {f"layer.{i}.bias": RNG.standard_normal(400).astype(np.float32) for i in range(6)}
    save_file(arrays, tmp_path / "model.safetensors", {"format": "pt", "made": "by hand"})
    modelfs("put", store, "model.safetensors", "model.safetensors")
    size = (tmp_path / "model.safetensors").stat().st_size
    since = grown(store)
    facts = modelfs("split", store, "model.safetensors", "parts", "--max-size", "2MB", "--json").json
    assert since() < size / 100
    names = [file["path"] for file in facts["files"]]
    assert names[:-1] == [f"parts/model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)]
    assert names[-1] == "parts/model.safetensors.index.json"
    modelfs("get", store, "parts", "parts")
    index = json.loads((tmp_path / "parts/model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in arrays.values())
    found: Arrays = {}
    for shard in sorted(set(index["weight_map"].values())):
        part = load_safetensors(tmp_path / "parts" / shard)
        assert all(index["weight_map"][name] == shard for name in part)
        assert sum(array.nbytes for array in part.values()) <= 2_000_000
        found |= part
    same(found, arrays)
    # the same again is the same; back in one file it is what it was
    again = modelfs("split", store, "parts", "again", "--max-size", "2MB", "--json").json
    assert again["sent"] == 0
    modelfs("merge", store, "parts", "merged.safetensors")
    modelfs("merge", store, "parts/model.safetensors.index.json", "merged2.safetensors")
    assert since() < size / 100
    merged = get(modelfs, store, "merged.safetensors", tmp_path / "out").read_bytes()
    assert merged == get(modelfs, store, "merged2.safetensors", tmp_path / "out").read_bytes()
    same(load_safetensors(tmp_path / "out/merged.safetensors"), arrays)
    assert b'"made":"by hand"' in merged[:1000]
    # one file is enough: no index, as transformers does
    one = modelfs("split", store, "parts", "one", "--json").json
    assert [file["path"] for file in one["files"]] == ["one/model.safetensors"]


def test_shards_of_both_formats_and_from_an_older_commit(
    modelfs: Run, store: Path, tmp_path: Path, saved: Callable[[Any], str]
) -> None:
    import torch

    tied = torch.randn(300, 500)
    state = {"a": tied, "b": torch.randn(400, 500), "c": torch.randn(300, 500), "d": tied}
    saved(state, "pytorch_model.bin")
    saved({"other": torch.ones(3)}, "pytorch_model.bin")
    since = grown(store)
    for command in (
        ("split", f"{store}:main@2", "pytorch_model.bin", "parts", "--max-size", "1MB"),
        ("convert", store, "parts", "st/model.safetensors.index.json", "--max-size", "1MB"),
        ("convert", store, "st", "whole.pt"),
        ("merge", store, "parts", "whole.bin"),
    ):
        modelfs(*command)
        assert since() < 2_000_000 / 100
    modelfs("get", store, "parts", "parts")
    index = json.loads((tmp_path / "parts/pytorch_model.bin.index.json").read_text())["weight_map"]
    assert index["a"] == index["d"] == "pytorch_model-00001-of-00003.bin"
    for name, shard in index.items():
        assert torch.equal(torch.load(tmp_path / "parts" / shard, weights_only=True)[name], state[name])
    for path in ("whole.pt", "whole.bin"):
        found = torch.load(get(modelfs, store, path, tmp_path / "out"), weights_only=True)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
