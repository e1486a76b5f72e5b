"""convert, split and merge: the frameworks' own loaders read what they make, and the store hardly grows."""

from __future__ import annotations

import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mounting import Machine
from running import Run, inside

Arrays = dict[str, np.ndarray]
RNG = np.random.default_rng(7)


@pytest.fixture
def modelfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """In this process: there are many commands."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    return inside(tmp_path, monkeypatch, capsys)


@pytest.fixture
def store(modelfs: Run, tmp_path: Path) -> Path:
    """A fresh local store."""
    modelfs("init", tmp_path / "store")
    return tmp_path / "store"


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


# -- the frameworks' own loaders ------------------------------------------------------------------------------------


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
SUFFIXES = [pytest.param(s, marks=pytest.mark.tensorflow if s == "index" else ()) for s in LOADERS]


def get(modelfs: Run, store: Path, path: str, into: Path) -> Path:
    """A file of the store, and the data of a bundle with its index."""
    into.mkdir(exist_ok=True)
    modelfs("get", store, path, into)
    if path.endswith(".index"):
        modelfs("get", store, path.removesuffix(".index") + ".data-00000-of-00001", into)
    return into / path.rpartition("/")[2]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_is_read_by_its_framework_and_makes_every_other(
    modelfs: Run, store: Path, tmp_path: Path, suffix: str
) -> None:
    pytest.importorskip("google_crc32c")
    arrays = model()
    size = sum(array.nbytes for array in arrays.values())
    np.savez(tmp_path / "m.npz", **arrays)
    modelfs("put", store, "m.npz", "m.npz")
    since = grown(store)
    modelfs("convert", store, "m.npz", f"a.{suffix}")
    assert since() < size / 100
    same(LOADERS[suffix](get(modelfs, store, f"a.{suffix}", tmp_path / "out")), arrays)
    for target, load in LOADERS.items():
        if target == "index" and suffix != "npz":
            continue  # a bundle is read once: TensorFlow takes seconds
        facts = modelfs("convert", store, f"a.{suffix}", f"b/{suffix}.{target}", "--json").json
        assert since() < size / 100
        assert facts["tensors"] == len(arrays)
        assert facts["sent"] + facts["shared"] > 0
        if target != "index":
            same(load(get(modelfs, store, f"b/{suffix}.{target}", tmp_path / "out")), arrays)
    modelfs("fsck", store)


@pytest.mark.parametrize("suffix", LOADERS)
def test_a_converted_file_is_cut_as_if_it_had_been_saved(
    modelfs: Run, store: Path, tmp_path: Path, suffix: str
) -> None:
    """So a framework that saves the same model later shares its chunks."""
    pytest.importorskip("google_crc32c")
    np.savez(tmp_path / "m.npz", **model())
    modelfs("put", store, "m.npz", "m.npz")
    modelfs("convert", store, "m.npz", f"a/m.{suffix}")
    get(modelfs, store, f"a/m.{suffix}", tmp_path / "b")
    assert modelfs("put", store, "b", "b", "--json").json["sent"] == 0
    for path in (tmp_path / "b").iterdir():
        here, there = (modelfs("stat", store, f"{place}/{path.name}", "--json").json for place in "ab")
        assert here.get("manifest") == there.get("manifest")


# -- PyTorch --------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(modelfs: Run, store: Path, tmp_path: Path) -> Callable[[Any], str]:
    """torch.save an object and put it: its path in the store."""
    import torch

    def save(value: Any, name: str = "m.pt") -> str:
        torch.save(value, tmp_path / name)
        modelfs("put", store, name, name)
        return name

    return save


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
        "u16": torch.arange(7, dtype=torch.uint16),
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
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(2, 400)).sum().backward()
    optimizer.step()
    saved({"epoch": 3, "model": net.state_dict(), "optimizer": optimizer.state_dict(), "net": net.weight})
    done = modelfs("convert", store, "m.pt", "m.safetensors")
    assert "epoch" in done.err
    found = load_file(get(modelfs, store, "m.safetensors", tmp_path / "out"))
    assert torch.equal(found["model.weight"], net.weight)
    assert torch.equal(found["optimizer.state.1.exp_avg"], optimizer.state_dict()["state"][1]["exp_avg"])
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


# -- other frameworks' own files ------------------------------------------------------------------------------------


@pytest.mark.tensorflow
def test_keras_weights_survive_a_round_trip(modelfs: Run, store: Path, tmp_path: Path) -> None:
    import keras

    def build() -> Any:
        return keras.Sequential([keras.Input((64,)), keras.layers.Dense(2560, "relu"), keras.layers.Dense(300)])

    network, batch = build(), np.ones((2, 64), np.float32)
    network.save_weights(tmp_path / "k.weights.h5")
    modelfs("put", store, "k.weights.h5", "k.weights.h5")
    since = grown(store)
    modelfs("convert", store, "k.weights.h5", "k.safetensors")
    modelfs("convert", store, "k.safetensors", "l.weights.h5")
    assert since() < (tmp_path / "k.weights.h5").stat().st_size / 100
    fresh = build()
    fresh.load_weights(get(modelfs, store, "l.weights.h5", tmp_path / "out"))
    assert np.array_equal(fresh.predict(batch, verbose=0), network.predict(batch, verbose=0))


@pytest.mark.tensorflow
def test_bundles_of_both_kinds(modelfs: Run, store: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    pytest.importorskip("google_crc32c")
    value = RNG.standard_normal((1500, 500)).astype(np.float32)
    checkpoint = tf.train.Checkpoint(step=tf.Variable(7), weights=tf.Variable(value))
    checkpoint.write(str(tmp_path / "b" / "ckpt"))
    modelfs("put", store, "b", "b")
    since = grown(store)
    done = modelfs("convert", store, "b/ckpt", "m.safetensors")
    assert "_CHECKPOINTABLE_OBJECT_GRAPH" in done.err
    assert since() < value.nbytes / 100
    found = load_safetensors(get(modelfs, store, "m.safetensors", tmp_path / "out"))
    same({"w": found["weights/.ATTRIBUTES/VARIABLE_VALUE"]}, {"w": value})
    # names as a tf.compat.v1 Saver has them, which tf.train.Checkpoint finds by name, too
    np.savez(tmp_path / "n.npz", weights=value, step=np.array(9))
    modelfs("put", store, "n.npz", "n.npz")
    modelfs("convert", store, "n.npz", "c/n.index")
    index = get(modelfs, store, "c/n.index", tmp_path / "out")
    same(load_bundle(index), {"weights": value, "step": np.array(9)})
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variable = tf.compat.v1.get_variable("weights", value.shape)
        tf.compat.v1.train.Saver({"weights": variable}).restore(session, str(index.with_suffix("")))
        assert np.array_equal(session.run(variable), value)


def test_a_source_that_was_cut_by_content_keeps_the_chunks_inside_its_tensors(
    modelfs: Run, store: Path, tmp_path: Path
) -> None:
    """As TensorFlow's first bundle on a mount, whose index is written after the data."""
    pytest.importorskip("google_crc32c")
    arrays = {"w": RNG.standard_normal(6_000_000).astype(np.float32), "b": np.ones(3, np.float32)}
    np.savez(tmp_path / "n.npz", **arrays)
    modelfs("put", store, "n.npz", "n.npz")
    modelfs("convert", store, "n.npz", "n.index")
    modelfs("init", "other")
    index = get(modelfs, store, "n.index", tmp_path / "out")
    data = index.with_suffix(".data-00000-of-00001")
    for file in (data, index):  # as TensorFlow writes them
        (tmp_path / "alone" / file.name).parent.mkdir(exist_ok=True)
        file.rename(tmp_path / "alone" / file.name)
        modelfs("put", "other", tmp_path / "alone" / file.name, file.name)
        (tmp_path / "alone" / file.name).unlink()
    facts = modelfs("convert", "other", "n", "n.safetensors", "--json").json
    assert arrays["w"].nbytes / 2 < facts["shared"] < arrays["w"].nbytes
    same(load_safetensors(get(modelfs, tmp_path / "other", "n.safetensors", tmp_path / "out")), arrays)


# -- in several files -----------------------------------------------------------------------------------------------


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


# -- what cannot be -------------------------------------------------------------------------------------------------


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
        archive.writestr("a/data.pkl", pickle.dumps(Bomb()))
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
