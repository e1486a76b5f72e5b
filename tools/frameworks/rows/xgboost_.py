"""XGBoost: JSON and UBJSON."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import rowkit
import xgboost

X = np.random.default_rng(7).standard_normal((2000, 20))
Y = (X[:, :4].sum(axis=1) + X[:, 4] * X[:, 5] > 0).astype(int)


@rowkit.once
def trained() -> xgboost.Booster:
    options = {"max_depth": 6, "objective": "binary:logistic", "seed": 7, "nthread": 1}
    return xgboost.train(options, xgboost.DMatrix(X, Y), num_boost_round=100)


def weights(booster: xgboost.Booster) -> list[str]:
    return booster.get_dump(with_stats=True, dump_format="json")


def predict(booster: xgboost.Booster) -> np.ndarray:
    return booster.predict(xgboost.DMatrix(X[:50]))


def save_json(booster: xgboost.Booster, directory: Path) -> None:
    booster.save_model(directory / "model.json")


def load_json(directory: Path) -> xgboost.Booster:
    return xgboost.Booster(model_file=directory / "model.json")


def save_ubj(booster: xgboost.Booster, directory: Path) -> None:
    booster.save_model(directory / "model.ubj")


def load_ubj(directory: Path) -> xgboost.Booster:
    booster = xgboost.Booster()
    booster.load_model(directory / "model.ubj")
    return booster


row = rowkit.Row("XGBoost", lambda: xgboost.__version__)
row.add("json", "`save_model`, `Booster(model_file=)`", trained, save_json, load_json, weights, predict)
row.add("ubj", "`save_model`, `load_model`", trained, save_ubj, load_ubj, weights, predict)

if __name__ == "__main__":
    row.main()
