"""What the tests of `convert`, `split` and `merge` share: a model, the frameworks' own loaders, how a store grows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from running import Run

Arrays = dict[str, np.ndarray]
RNG = np.random.default_rng(7)


def model() -> Arrays:
    """What every format can hold: large and small tensors, a scalar, names that are paths."""
    return {
        "layer/0/w": RNG.standard_normal((1500, 1000)).astype(np.float32),
        "layer/0/b": RNG.standard_normal(1000).astype(np.float32),
        "layer/1/w": RNG.standard_normal((1700, 501)).astype(np.float16),
        "steps": np.arange(10),
        "scale": np.array(3.5, np.float64),
        "cube": RNG.standard_normal((3, 4, 5)),
        "zeros": np.zeros((300, 500), np.float32),
    }


def grown(store: Path) -> Callable[[], int]:
    """Bytes by which a store, metadata included, has grown since the last call."""
    before = 0

    def since() -> int:
        nonlocal before
        now = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
        before, grew = now, now - before
        return grew

    since()
    return since


def same(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert np.array_equal(found[name], array), name


def load_safetensors(path: Path) -> Arrays:
    from safetensors.numpy import load_file

    return load_file(path)


def load_torch(path: Path) -> Arrays:
    import torch

    return {name: tensor.numpy() for name, tensor in torch.load(path, weights_only=True).items()}


def load_npz(path: Path) -> Arrays:
    with np.load(path) as found:
        return dict(found)


def load_gguf(path: Path) -> Arrays:
    import gguf

    tensors = gguf.GGUFReader(path).tensors
    return {t.name: np.array(t.data).reshape([int(n) for n in reversed(t.shape)]) for t in tensors}


def load_hdf5(path: Path) -> Arrays:
    import h5py

    found: Arrays = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return {name: np.asarray(array) for name, array in found.items()}


def load_bundle(path: Path) -> Arrays:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(path.with_suffix("")))
    return {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}


LOADERS = {
    "safetensors": load_safetensors,
    "pt": load_torch,
    "npz": load_npz,
    "gguf": load_gguf,
    "h5": load_hdf5,
    "index": load_bundle,
}


def get(modelfs: Run, store: Path, path: str, into: Path) -> Path:
    """A file of the store, and the data of a bundle with its index."""
    into.mkdir(exist_ok=True)
    modelfs("get", store, path, into)
    if path.endswith(".index"):
        modelfs("get", store, path.removesuffix(".index") + ".data-00000-of-00001", into)
    return into / path.rpartition("/")[2]
