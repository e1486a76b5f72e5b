"""Every format to every other: the frameworks' own loaders read it, and the store hardly grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converted import LOADERS, RNG, get, grown, load_bundle, load_safetensors, model, same
from running import Run

SUFFIXES = [pytest.param(s, marks=pytest.mark.tensorflow if s == "index" else ()) for s in LOADERS]


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
