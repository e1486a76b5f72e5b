"""Chainer: NPZ and HDF5 serializers, and a trainer's snapshots.

Its last version is of 2022 and calls names that NumPy 1.24 removed: the environment has NumPy 1.23, the row no shim."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import chainer
import numpy as np
import rowkit
from chainer import functions, links, serializers, training
from chainer.training import extensions

numbers = np.random.RandomState(7)
X = numbers.randn(256, 64).astype("f")
Y = (X[:, :8].sum(axis=1) > 0).astype("i")


class Network(chainer.Chain):
    """Three layers and a normalisation, which has persistent values beside its parameters; 1.3 MB."""

    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.first = links.Linear(64, 512)
            self.norm = links.BatchNormalization(512)
            self.second = links.Linear(512, 512)
            self.third = links.Linear(512, 2)

    def forward(self, x: Any) -> Any:
        return self.third(functions.relu(self.second(functions.relu(self.norm(self.first(x))))))


def untrained() -> training.Trainer:
    """A trainer for two epochs that has not begun; the seed makes it the same in every process."""
    np.random.seed(7)
    model = links.Classifier(Network())
    optimizer = chainer.optimizers.Adam().setup(model)
    batches = chainer.iterators.SerialIterator(chainer.datasets.TupleDataset(X, Y), 64)
    return training.Trainer(training.StandardUpdater(batches, optimizer), (2, "epoch"), out=str(rowkit.scratch()))


@rowkit.once
def trained() -> training.Trainer:
    trainer = untrained()
    trainer.run()
    return trainer


def optimizer(trainer: training.Trainer) -> Any:
    return trainer.updater.get_optimizer("main")


def weights(trainer: training.Trainer) -> dict[str, Any]:
    """Parameters, what Adam keeps for each, and the normalisation's averages."""
    target = optimizer(trainer).target
    found: dict[str, Any] = {}
    for name, parameter in target.namedparams():
        found[name] = np.ascontiguousarray(parameter.array)
        found.update({f"{name} {kind}": value for kind, value in parameter.update_rule.state.items()})
    norm = target.predictor.norm
    return {**found, "mean": norm.avg_mean, "variance": norm.avg_var, "step": int(optimizer(trainer).t)}


def predict(trainer: training.Trainer) -> Any:
    with chainer.using_config("train", False), chainer.no_backprop_mode():
        return functions.softmax(optimizer(trainer).target.predictor(X[:20])).array


def npz_save(trainer: training.Trainer, directory: Path) -> None:
    serializers.save_npz(str(directory / "model.npz"), optimizer(trainer).target)
    serializers.save_npz(str(directory / "optimizer.npz"), optimizer(trainer))


def npz_load(directory: Path) -> training.Trainer:
    trainer = untrained()
    serializers.load_npz(str(directory / "model.npz"), optimizer(trainer).target)
    serializers.load_npz(str(directory / "optimizer.npz"), optimizer(trainer))
    return trainer


def hdf5_save(trainer: training.Trainer, directory: Path) -> None:
    serializers.save_hdf5(str(directory / "model.h5"), optimizer(trainer).target)
    serializers.save_hdf5(str(directory / "optimizer.h5"), optimizer(trainer))


def hdf5_load(directory: Path) -> training.Trainer:
    trainer = untrained()
    serializers.load_hdf5(str(directory / "model.h5"), optimizer(trainer).target)
    serializers.load_hdf5(str(directory / "optimizer.h5"), optimizer(trainer))
    return trainer


def snapshots_save(trainer: training.Trainer, directory: Path) -> None:
    """A training with a snapshot each epoch, of which the last two stay."""
    again = untrained()
    again.out = str(directory)
    again.extend(extensions.snapshot(n_retains=2), trigger=(2, "iteration"))
    again.run()


def snapshots_load(directory: Path) -> training.Trainer:
    trainer = untrained()
    trainer.out = str(directory)
    trainer.extend(extensions.snapshot(n_retains=2, autoload=True), trigger=(2, "iteration"))
    trainer.run()  # takes the newest snapshot, which is of the end
    return trainer


row = rowkit.Row("Chainer", lambda: f"{chainer.__version__} with NumPy {np.__version__}")
row.add("npz", "`serializers.save_npz`, `load_npz`", trained, npz_save, npz_load, weights, predict)
row.add("hdf5", "`serializers.save_hdf5`, `load_hdf5`", trained, hdf5_save, hdf5_load, weights, predict)
row.add(
    "snapshots",
    "`extensions.snapshot(n_retains=2)`, `autoload=True`",
    trained,
    snapshots_save,
    snapshots_load,
    weights,
    predict,
)

if __name__ == "__main__":
    row.main()
