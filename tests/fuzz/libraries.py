"""Writes the seeds of ``corpus/formats/`` with the libraries that own the formats: ``python -m fuzz.libraries``."""

from __future__ import annotations

import io
import pickle
import sys
import tempfile
from pathlib import Path

from fuzz.targets import CORPUS

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))


def main() -> None:
    """Make them all anew."""
    import h5py
    import numpy as np
    import torch
    from safetensors.numpy import save
    from test_formats import to_gguf, to_hdf5, to_hdf5_latest, to_msgpack, to_npz, to_onnx, to_torch
    from test_tfbundle import INDEX

    arrays = {"layer.weight": np.ones((2, 3), np.float32), "layer.bias": np.zeros(4, np.int16)}
    npy = io.BytesIO()
    np.save(npy, arrays["layer.weight"])
    chunked = io.BytesIO()
    with h5py.File(chunked, "w") as file:
        file.create_dataset("group/chunked", data=np.ones((4, 6), np.float32), chunks=(2, 3))
    module = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), module)
    scratch = tempfile.TemporaryDirectory()
    to_gguf.directory = scratch.name  # type: ignore[attr-defined]
    files = {
        "safetensors-small": save(arrays),
        "zip-torch": to_torch(arrays),
        "zip-module": module.getvalue(),
        "zip-npz": to_npz(arrays),
        "npy-small": npy.getvalue(),
        "hdf5-old": to_hdf5(arrays),
        "hdf5-latest": to_hdf5_latest(arrays),
        "hdf5-chunked": chunked.getvalue(),
        "gguf-small": to_gguf(arrays),
        "onnx-small": to_onnx(arrays),
        "flax-small": to_msgpack(arrays),
        "pickle-plain": pickle.dumps({"a": [1, 2.5, "x", (b"y", None)]}, protocol=2),
        "tensorflow-index": INDEX,
    }
    import zipfile

    for name in ("zip-torch", "zip-module"):
        with zipfile.ZipFile(io.BytesIO(files[name])) as archive:
            (member,) = [n for n in archive.namelist() if n.endswith("data.pkl")]
            files[name.replace("zip", "pickle")] = archive.read(member)
    (CORPUS / "formats").mkdir(exist_ok=True, parents=True)
    for name, data in files.items():
        (CORPUS / "formats" / name).write_bytes(data)


if __name__ == "__main__":
    main()
