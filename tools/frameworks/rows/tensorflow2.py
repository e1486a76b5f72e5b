"""TensorFlow 2: tf.train.Checkpoint, CheckpointManager, SavedModel."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import rowkit
import tensorflow as tf

BATCH = tf.constant(np.linspace(-1, 1, 8 * 128, dtype=np.float32).reshape(8, 128))


class Network(tf.Module):
    """Two layers and a momentum for each."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(7)

        def variable(*shape: int) -> tf.Variable:
            return tf.Variable(random.standard_normal(shape).astype(np.float32) * 0.05)

        self.weights = [variable(128, 1024), variable(1024, 64)]
        self.momenta = [tf.Variable(tf.zeros_like(one)) for one in self.weights]
        self.step = tf.Variable(0, dtype=tf.int64)

    @tf.function(input_signature=[tf.TensorSpec([None, 128], tf.float32)])
    def __call__(self, batch: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(batch @ self.weights[0]) @ self.weights[1]

    def train(self) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self(BATCH) ** 2)
        for weight, momentum, slope in zip(self.weights, self.momenta, tape.gradient(loss, self.weights), strict=True):
            momentum.assign(0.9 * momentum + slope)
            weight.assign_sub(0.1 * momentum)
        self.step.assign_add(1)


def trained() -> Network:
    network = Network()
    for _ in range(3):
        network.train()
    return network


def weights(network: Network) -> list[np.ndarray]:
    return [value.numpy() for value in [*network.weights, *network.momenta, network.step]]


def predict(network: Network) -> tf.Tensor:
    return network(BATCH)


def save(network: Network, directory: Path) -> None:
    tf.train.Checkpoint(network=network).save(str(directory / "ckpt"))


def load(directory: Path) -> Network:
    network = Network()
    tf.train.Checkpoint(network=network).restore(tf.train.latest_checkpoint(str(directory))).assert_consumed()
    return network


def manager(network: Network, directory: Path) -> tf.train.CheckpointManager:
    return tf.train.CheckpointManager(tf.train.Checkpoint(network=network), str(directory), max_to_keep=2)


def save_managed(network: Network, directory: Path) -> None:
    managed = manager(network, directory)
    for _ in range(4):
        network.train()
        managed.save()
    assert len(managed.checkpoints) == 2


def load_managed(directory: Path) -> Network:
    network = Network()
    assert manager(network, directory).restore_or_initialize()
    return network


def save_model(network: Network, directory: Path) -> None:
    tf.saved_model.save(network, str(directory / "saved"))


def load_model(directory: Path) -> Network:
    return tf.saved_model.load(str(directory / "saved"))


row = rowkit.Row("TensorFlow 2", lambda: tf.__version__)
row.add("Checkpoint", "`tf.train.Checkpoint.save`, `restore`", trained, save, load, weights, predict)
row.add(
    "CheckpointManager",
    "4 saves with `max_to_keep=2`, a step of training before each; `restore_or_initialize`",
    trained,
    save_managed,
    load_managed,
    weights,
    predict,
)
row.add("SavedModel", "`tf.saved_model.save`, `load`", trained, save_model, load_model, weights, predict)

if __name__ == "__main__":
    row.main()
