"""LightGBM: the text of a model, and a data set in its binary format."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import lightgbm
import numpy as np
import rowkit

X = np.random.default_rng(7).standard_normal((2000, 20))
Y = (X[:, :4].sum(axis=1) + X[:, 4] * X[:, 5] > 0).astype(int)
OPTIONS = {"objective": "binary", "seed": 7, "num_threads": 1, "deterministic": True, "verbose": -1}


@rowkit.once
def trained() -> lightgbm.Booster:
    return lightgbm.train(OPTIONS, lightgbm.Dataset(X, Y), 100)


def weights(booster: lightgbm.Booster) -> str:
    return json.dumps(booster.dump_model()["tree_info"], sort_keys=True)


def predict(booster: lightgbm.Booster) -> np.ndarray:
    return booster.predict(X[:50])


def save(booster: lightgbm.Booster, directory: Path) -> None:
    booster.save_model(directory / "model.txt")


def load(directory: Path) -> lightgbm.Booster:
    return lightgbm.Booster(model_file=directory / "model.txt")


def save_data(booster: lightgbm.Booster, directory: Path) -> None:
    lightgbm.Dataset(X, Y).save_binary(directory / "data.bin")


def train_again(directory: Path) -> lightgbm.Booster:
    """The model comes back by training on the data set that was saved."""
    return lightgbm.train(OPTIONS, lightgbm.Dataset(directory / "data.bin"), 100)


row = rowkit.Row("LightGBM", lambda: lightgbm.__version__)
row.add("text", "`save_model`, `Booster(model_file=)`", trained, save, load, weights, predict)
row.add(
    "data set",
    "`Dataset.save_binary`; trained again from it, timed with the load",
    trained,
    save_data,
    train_again,
    weights,
    predict,
)

if __name__ == "__main__":
    row.main()
