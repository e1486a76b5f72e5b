"""Sources that mean harm and requests that cannot be: one clear line, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from converted import get, load_torch
from running import Run


def header(tensors: dict[str, Any], data: int) -> bytes:
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


def npz(path: Path, write: Callable[[Path], object]) -> bytes:
    write(path)
    return path.read_bytes()


def hostile(tmp_path: Path) -> dict[str, tuple[bytes, str]]:
    """Bytes, and a word of the one line about them."""
    import h5py

    def tensor(begin: int, end: int, *shape: int, dtype: str = "F32") -> dict[str, Any]:
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    made = tmp_path / "made"
    with h5py.File(made, "w") as file:
        file.create_dataset("c", data=np.zeros((100, 100)), chunks=(10, 10))
    chunked = made.read_bytes()
    f, g = np.asfortranarray(np.ones((3, 4))), np.array([1], ">i4")
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(print))
    bomb = made.read_bytes()
    return {
        "overlap": (header({"a": tensor(0, 8, 2), "b": tensor(4, 12, 2)}, 12), "'a' and 'b' overlap"),
        "outside": (header({"a": tensor(0, 8, 2)}, 4), "lies outside"),
        "far": (header({"a": tensor(2**62, 2**62 + 8, 2)}, 8), "lies outside"),
        "shape": (header({"a": tensor(0, 8, 3)}, 8), "8 bytes do not make F32 [3]"),
        "huge": (header({"a": tensor(0, 8, 2**40, 2**40)}, 8), "do not make"),
        "type": (header({"a": tensor(0, 8, 2, dtype="F31")}, 8), "type F31"),
        "twice": (header({"a": tensor(0, 8, 2)}, 8).replace(b"{", b'{"b":{},', 1), "makes no sense"),
        "name": (header({"a\n": tensor(0, 8, 2)}, 8), "no text"),
        "none": (header({}, 100), "no tensor"),
        "header": ((1 << 60).to_bytes(8, "little") + b"{" + bytes(5000), "no format"),
        "gguf": (b"GGUF\3\0\0\0" + b"\xff" * 16 + bytes(5000), "GGUF header makes no sense"),
        "deflated": (npz(tmp_path / "z.npz", lambda p: np.savez_compressed(p, a=np.ones(9))), "is compressed"),
        "fortran": (npz(tmp_path / "f.npz", lambda p: np.savez(p, a=f)), "'a' is in Fortran order"),
        "big": (npz(tmp_path / "b.npz", lambda p: np.savez(p, a=g)), "'a' is of type unknown"),
        "cut": (npz(tmp_path / "c.npz", lambda p: np.savez(p, a=f))[:-30], "zip archive makes no sense"),
        "chunked": (chunked, "'c' is not one plain run"),
        "bomb": (bomb, "there is no tensor"),
        "text": (b"hello " * 2000, "no format that can be converted"),
        "x.index": (b"hello " * 2000, "no index of a TensorFlow bundle"),
        "x.index.json": (b'{"weight_map": {"a": "../../x"}}', "names of shards make no sense"),
        "y.index.json": (b'{"weight_map": {"a": "absent"}}', "has no d/absent"),
        "z.index.json": (b'{"weight_map": [1]}', "no index of a sharded model"),
    }


def test_hostile_files_are_refused_in_one_line(modelfs: Run, store: Path, tmp_path: Path) -> None:
    cases = hostile(tmp_path)
    for name, (data, _) in cases.items():
        (tmp_path / name).write_bytes(data)
    modelfs("put", store, *cases, "d/")
    for name, (_, words) in cases.items():
        err = modelfs("convert", store, f"d/{name}", "out.safetensors", code=2).err
        assert words in err, (name, err)
        assert err.count("\n") == 1
    assert len(modelfs("log", store, "--json").json) == 2


def test_requests_that_cannot_be(modelfs: Run, store: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    def refused(*arguments: object) -> str:
        err = modelfs(*arguments, code=2).err
        assert err.startswith("modelfs: ")
        assert err.count("\n") == 1
        return err

    save_file({"a/b": np.ones(3, np.float32), "a": np.ones((1, 1, 1, 1, 1), np.float32)}, tmp_path / "m.safetensors")
    np.savez(tmp_path / "m.npz", **{"n" * 64: np.ones(3, np.float32)})
    modelfs("put", store, "m.safetensors", "m.npz", "d/")
    modelfs("put", store, "m.npz", "e/")
    source = "d/m.safetensors"
    assert "has no x" in refused("convert", store, "x", "y.pt")
    assert "no name of a known format" in refused("convert", store, source, "y.txt")
    assert "only safetensors and PyTorch come in several files" in refused("convert", store, source, "y.npz.index.json")
    assert "is a directory" in refused("convert", store, source, "e", "--to", "pt")
    assert "several models" in refused("convert", store, "d", "y.pt")
    assert "no `..`" in refused("convert", store, source, "../y.pt")
    assert "not a size" in refused("split", store, source, "parts", "--max-size", "many")
    assert "not an empty directory" in refused("split", store, source, "e")
    assert "come in several files" in refused("split", store, "d/m.npz", "parts")
    assert "changes formats" in refused("merge", store, source, "y.pt")
    assert "path in an HDF5 file" in refused("convert", store, source, "y.h5")
    assert "'a' has 5 dimensions; GGUF has room for 4" in refused("convert", store, source, "y.gguf")
    assert "at most 63 bytes" in refused("convert", store, "d/m.npz", "y.gguf")
    assert "convert [OPTIONS]" in modelfs("convert", "--help").out
    modelfs("convert", store, source, "y", "--to", "pt")
    assert load_torch(get(modelfs, store, "y", tmp_path / "out")).keys() == {"a", "a/b"}
