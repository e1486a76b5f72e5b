"""TensorFlow 1, as TensorFlow 2 still has it: graphs, sessions, and tf.compat.v1.train.Saver with a global step."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import rowkit
import tensorflow as tf

tf1 = tf.compat.v1
tf1.disable_eager_execution()

BATCH = np.linspace(-1, 1, 8 * 128, dtype=np.float32).reshape(8, 128)
Answer = dict[str, list[np.ndarray]]


def build() -> tuple[tf.Tensor, tf.Operation]:
    """The graph: a network and its training."""
    random = np.random.default_rng(7)

    def variable(name: str, *shape: int) -> tf.Variable:
        initial = random.standard_normal(shape).astype(np.float32) * 0.05
        return tf1.get_variable(name, initializer=initial)

    batch = tf1.placeholder(tf.float32, [None, 128], name="batch")
    logits = tf.identity(tf.nn.relu(batch @ variable("first", 128, 1024)) @ variable("second", 1024, 64), name="logits")
    step = tf1.train.get_or_create_global_step()
    optimizer = tf1.train.MomentumOptimizer(0.1, 0.9)
    return logits, optimizer.minimize(tf.reduce_mean(logits**2), global_step=step)


def look(session: tf1.Session) -> Answer:
    """The values of all variables and the answer to the batch, which outlive the session."""
    variables = sorted(tf1.global_variables(), key=lambda one: one.name)
    return {
        "weights": [np.asarray(value) for value in session.run(variables)],
        "predictions": [session.run("logits:0", {"batch:0": BATCH})],
    }


def nothing() -> Answer:
    """Filled by the save, which trains between its checkpoints."""
    return {}


def save(answer: Answer, directory: Path) -> None:
    with tf.Graph().as_default(), tf1.Session() as session:
        _, train = build()
        # Relative: otherwise the file `checkpoint` names the directory that was saved to, wherever it is loaded from.
        saver = tf1.train.Saver(max_to_keep=2, save_relative_paths=True)
        session.run(tf1.global_variables_initializer())
        for _ in range(4):
            session.run(train, {"batch:0": BATCH})
            saver.save(session, str(directory / "model.ckpt"), global_step=tf1.train.get_global_step())
        answer.update(look(session))


def load(directory: Path) -> Answer:
    with tf.Graph().as_default(), tf1.Session() as session:
        build()
        latest = tf.train.latest_checkpoint(str(directory))
        assert latest.endswith("model.ckpt-4"), latest
        tf1.train.Saver().restore(session, latest)
        assert session.run(tf1.train.get_global_step()) == 4
        return look(session)


def load_graph(directory: Path) -> Answer:
    with tf.Graph().as_default(), tf1.Session() as session:
        latest = tf.train.latest_checkpoint(str(directory))
        tf1.train.import_meta_graph(f"{latest}.meta").restore(session, latest)
        return look(session)


def weights(answer: Answer) -> list[np.ndarray]:
    return answer["weights"]


def predict(answer: Answer) -> list[np.ndarray]:
    return answer["predictions"]


CALLS = "4 saves with `max_to_keep=2` and `global_step`, training timed with them"
row = rowkit.Row("TensorFlow 1", lambda: f"{tf.__version__}, compat.v1")
row.add("Saver", f"{CALLS}; `restore`", nothing, save, load, weights, predict)
row.add("Saver, meta graph", f"{CALLS}; `import_meta_graph`", nothing, save, load_graph, weights, predict)

if __name__ == "__main__":
    row.main()
