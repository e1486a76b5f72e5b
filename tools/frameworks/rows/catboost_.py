"""CatBoost: cbm, and training that writes snapshots and goes on from them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import catboost
import numpy as np
import rowkit

X = np.random.default_rng(7).standard_normal((2000, 20))
Y = (X[:, :4].sum(axis=1) + X[:, 4] * X[:, 5] > 0).astype(int)


def classifier(rounds: int, **options: object) -> catboost.CatBoostClassifier:
    return catboost.CatBoostClassifier(
        iterations=rounds, depth=6, random_seed=7, thread_count=1, verbose=False, learning_rate=0.1, **options
    )


@rowkit.once
def trained() -> catboost.CatBoostClassifier:
    return classifier(100, allow_writing_files=False).fit(X, Y)


def weights(model: catboost.CatBoostClassifier) -> list[np.ndarray]:
    return [model.get_leaf_values(), model.get_leaf_weights()]


def predict(model: catboost.CatBoostClassifier) -> np.ndarray:
    return model.predict_proba(X[:50])


def save(model: catboost.CatBoostClassifier, directory: Path) -> None:
    model.save_model(directory / "model.cbm")


def load(directory: Path) -> catboost.CatBoostClassifier:
    return catboost.CatBoostClassifier().load_model(directory / "model.cbm")


def snapshots(rounds: int, directory: Path) -> catboost.CatBoostClassifier:
    options = {"save_snapshot": True, "snapshot_file": "snapshot", "snapshot_interval": 0, "train_dir": str(directory)}
    return classifier(rounds, **options).fit(X, Y)


def train(model: catboost.CatBoostClassifier, directory: Path) -> None:
    snapshots(50, directory)


def train_on(directory: Path) -> catboost.CatBoostClassifier:
    """50 rounds come from the snapshot, 50 are trained: the model of 100 rounds without a break."""
    return snapshots(100, directory)


row = rowkit.Row("CatBoost", lambda: catboost.__version__)
row.add("cbm", "`save_model`, `load_model`", trained, save, load, weights, predict)
row.add(
    "snapshot",
    "training of 50 rounds with `save_snapshot`, timed with it; 50 more from the snapshot",
    trained,
    train,
    train_on,
    weights,
    predict,
)

if __name__ == "__main__":
    row.main()
