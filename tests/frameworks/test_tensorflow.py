"""tf.train.Checkpoint, CheckpointManager and tf.keras on a mount."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

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
