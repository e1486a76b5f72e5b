"""TensorFlow on a mount, beyond what `test_matrix` has: what bundles cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mounting import Machine, eventually

pytestmark = pytest.mark.tensorflow


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
