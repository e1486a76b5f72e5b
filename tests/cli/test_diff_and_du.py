"""What commands tell of tensors: diff, du by codec and path, put with a base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from running import Run
from safetensors.numpy import save_file


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {"big.weight": (600, 512), "other.weight": (300, 512), "small.bias": (512,)}
    return {name: (random.standard_normal(shape) * 0.02).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def history(modelfs: Run, local_store: Path, tmp_path: Path) -> Path:
    """main@2: a checkpoint and a note; main@3: 1,001 numbers changed, a tensor more."""
    source = tmp_path / "m.safetensors"
    tensors = weights()
    save_file(tensors, source)
    (tmp_path / "note").write_text("first")
    modelfs("put", local_store, source, tmp_path / "note", "run/")
    tensors["big.weight"].reshape(-1)[5000:6000] += 1.0
    tensors["small.bias"][7] = -3.0
    tensors["new.bias"] = np.zeros(10, np.float32)
    save_file(tensors, source)
    (tmp_path / "note").write_text("second")
    modelfs("put", local_store, source, tmp_path / "note", "run/")
    return local_store


def test_diff_tells_which_tensors_changed_and_by_how_many_bytes(modelfs: Run, history: Path) -> None:
    changes = {c["path"]: c for c in modelfs("diff", history, "main@2", "main@3", "--json").json}
    assert {path: c["change"] for path, c in changes.items()} == {"run/m.safetensors": "M", "run/note": "M"}
    tensors = {t["name"]: t for t in changes["run/m.safetensors"]["tensors"]}
    old, new = weights(), weights()
    new["big.weight"].reshape(-1)[5000:6000] += 1.0
    new["small.bias"][7] = -3.0
    for name in ("big.weight", "small.bias"):
        differing = np.count_nonzero(old[name].view(np.uint8) != new[name].view(np.uint8))
        assert tensors[name]["changed_bytes"] == differing > 0
    assert tensors["new.bias"]["before"] is None
    assert tensors["new.bias"]["after"] == {"dtype": "F32", "shape": [10], "bytes": 40}
    assert set(tensors) == {"big.weight", "small.bias", "new.bias"}


def test_diff_for_people(modelfs: Run, history: Path) -> None:
    lines = modelfs("diff", history, "main@2", "main@3").out.splitlines()
    assert lines[0].startswith("M run/m.safetensors")
    assert lines[1].split()[:4] == ["M", "big.weight", "F32", "600x512"]
    assert "A new.bias" in lines[2]
    assert lines[-1].startswith("M run/note")
    names = modelfs("diff", history, "main@2", "main@3", "--names").out.splitlines()
    assert [line.split()[:2] for line in names] == [["M", "run/m.safetensors"], ["M", "run/note"]]
    assert modelfs("diff", history, "main@3", "main@3").out == ""
    first = modelfs("diff", history, "main@1", "main@2").out.splitlines()
    assert [line.split()[:2] for line in first] == [["A", "run"], ["A", "run/m.safetensors"], ["A", "run/note"]]
    gone = modelfs("diff", history, "main@2", "main@1", "run/note").out
    assert gone.split()[:2] == ["D", "run/note"]


def test_du_by_codec_and_by_path(modelfs: Run, history: Path) -> None:
    report = modelfs("du", history, "--by", "codec", "--json").json
    assert sum(row["chunks"] for row in report["codecs"].values()) == report["chunks"]
    assert sum(row["stored"] for row in report["codecs"].values()) + len("second") == report["stored"]
    assert report["bases"] > 0  # the second version of the table is differences to the first, which is history
    assert report["codecs"]["delta"]["stored"] < 0.3 * report["codecs"]["delta"]["plain"]
    modelfs("cp", history, "run/m.safetensors", "copy.safetensors")
    [copy, run] = modelfs("du", history, "--by", "path", "--json").json["paths"]
    assert (copy["path"], run["path"]) == ("copy.safetensors", "run/")
    assert copy["only_here"] == run["only_here"] == 0
    assert copy["stored"] > 0
    shown = modelfs("du", history, "--by", "path").out
    assert "ONLY HERE" in shown
    assert "of other versions" in shown


def test_put_finds_its_base_or_is_told(modelfs: Run, local_store: Path, tmp_path: Path) -> None:
    source = tmp_path / "m.safetensors"
    tensors = weights()
    save_file(tensors, source)
    cost = modelfs("put", local_store, source, "a/b/c/", "--json").json["sent"]
    for name in tensors:
        tensors[name] *= np.float32(1.0001)
    save_file(tensors, source)
    told = modelfs("put", local_store, source, "x/y/z/", "--base", "a/b", "--json").json["sent"]
    assert told < 0.8 * cost
    for name in tensors:
        tensors[name] *= np.float32(1.0001)
    save_file(tensors, source)
    beside = modelfs("put", local_store, source, "a/b/d/", "--json").json["sent"]
    assert beside < 0.8 * cost
    modelfs("get", local_store, "a/b/d/m.safetensors", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_compression_is_part_of_the_store(modelfs: Run, tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "m.safetensors")
    sizes = {}
    for level in ("none", "fast", "balanced", "small"):
        store = tmp_path / level
        modelfs("init", store, "--compression", level)
        sizes[level] = modelfs("put", store, tmp_path / "m.safetensors", "m", "--json").json["sent"]
    assert sizes["none"] >= sizes["fast"] > sizes["balanced"] >= sizes["small"]
    once = modelfs("put", tmp_path / "none", tmp_path / "m.safetensors", "n", "--compression", "small", "--json").json
    assert once["sent"] == 0  # what is there is not stored again in another way


def test_bad_input_is_one_line(modelfs: Run, history: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    for arguments, what in (
        (("diff", history, "main@2", "main@99"), "main@99"),
        (("diff", history, "main@2", "main@3", "nowhere"), "nowhere"),
        (("put", history, tmp_path / "f", "g", "--base", "nowhere"), "--base nowhere"),
        (("put", history, tmp_path / "f", "g", "--compression", "much"), "much"),
        (("du", history, "--by", "colour"), "colour"),
    ):
        failed = modelfs(*arguments, code=2)
        assert what in failed.err
        assert "Traceback" not in failed.err
