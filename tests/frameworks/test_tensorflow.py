"""tf.train.Checkpoint, CheckpointManager and tf.keras on a mount."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mounting import Machine, eventually

pytestmark = pytest.mark.tensorflow

Twice = Callable[[Callable[[Path], None], Callable[[Path], None]], None]


def test_checkpoint_manager(twice: Twice) -> None:
    import tensorflow as tf

    def variables() -> tf.train.Checkpoint:
        return tf.train.Checkpoint(step=tf.Variable(0), weights=tf.Variable(tf.zeros([500, 300])))

    def save(mnt: Path) -> None:
        checkpoint = variables()
        manager = tf.train.CheckpointManager(checkpoint, str(mnt / "run"), max_to_keep=2)
        for step in range(4):
            checkpoint.step.assign(step)
            checkpoint.weights.assign(tf.fill([500, 300], float(step)))
            manager.save()

    def check(mnt: Path) -> None:
        checkpoint = variables()
        manager = tf.train.CheckpointManager(checkpoint, str(mnt / "run"), max_to_keep=2)
        assert len(manager.checkpoints) == 2
        # The state file names absolute paths of the mount it was saved on: restore by the name beside it.
        latest = mnt / "run" / Path(manager.latest_checkpoint).name
        checkpoint.restore(str(latest)).assert_consumed()
        assert int(checkpoint.step) == 3
        assert np.all(checkpoint.weights.numpy() == 3.0)

    twice(save, check)


def test_keras_formats(twice: Twice) -> None:
    import keras

    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256, "relu"), keras.layers.Dense(3)])
    batch = np.ones((2, 64), dtype="float32")
    expected = model.predict(batch, verbose=0)

    def save(mnt: Path) -> None:
        model.save(mnt / "m.keras")
        model.save_weights(mnt / "m.weights.h5")

    def check(mnt: Path) -> None:
        assert np.array_equal(keras.models.load_model(mnt / "m.keras").predict(batch, verbose=0), expected)
        fresh = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256, "relu"), keras.layers.Dense(3)])
        fresh.load_weights(mnt / "m.weights.h5")
        assert np.array_equal(fresh.predict(batch, verbose=0), expected)

    twice(save, check)


def test_the_third_checkpoint_costs_what_changed_since_the_second(machine: Machine) -> None:
    """A bundle's data is written before its index, so where its tensors lie is told by the bundle before it: the second
    is cut at its tensors, the third is stored as differences to it."""
    import tensorflow as tf

    store = machine.new_store()
    mnt = machine.mount(store)
    random = np.random.default_rng(1)
    value = (random.standard_normal((1500, 500)) * 0.02).astype(np.float32)
    checkpoint = tf.train.Checkpoint(step=tf.Variable(0), weights=tf.Variable(value))
    costs, size = [], 0
    for step in range(4):
        checkpoint.step.assign(step)
        checkpoint.weights.assign_add(random.standard_normal(value.shape).astype(np.float32) * 1e-5)
        checkpoint.write(str(mnt / "run" / f"ckpt-{step}"))
        eventually(lambda: not machine.status(mnt)["pending"], "the store has everything that was written")
        before, size = size, stored(store)
        costs.append(size - before)
    assert costs[0] > 0.8 * value.nbytes
    assert max(costs[2:]) < 0.75 * costs[0]
    expected = checkpoint.weights.numpy()
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    restored = tf.train.Checkpoint(step=tf.Variable(0), weights=tf.Variable(tf.zeros(value.shape)))
    restored.read(str(again / "run" / "ckpt-3")).assert_consumed()
    assert np.array_equal(restored.weights.numpy(), expected)


def stored(store: str) -> int:
    """Bytes of all chunks."""
    return sum(path.stat().st_size for path in (Path(store) / "data").rglob("*") if path.is_file())
