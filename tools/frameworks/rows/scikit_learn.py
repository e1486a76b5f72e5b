"""scikit-learn: pickle, joblib (read and mapped), skops."""

from __future__ import annotations

import pickle
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import joblib
import numpy as np
import rowkit
import sklearn
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

Models = dict[str, Pipeline | RandomForestClassifier]

X, Y = make_classification(n_samples=1000, n_features=40, n_informative=12, n_classes=3, random_state=7)


@rowkit.once
def model() -> Models:
    """A pipeline whose network has a megabyte of weights, and a forest of 60 trees."""
    warnings.simplefilter("ignore")  # three rounds do not converge
    network = MLPClassifier((512, 256), max_iter=3, random_state=7)
    return {
        "network": make_pipeline(StandardScaler(), network).fit(X, Y),
        "forest": RandomForestClassifier(60, random_state=7).fit(X, Y),
    }


def weights(models: Models) -> list[np.ndarray]:
    trees = [np.ascontiguousarray(tree.tree_.value) for tree in models["forest"].estimators_]
    return [*models["network"][-1].coefs_, *models["network"][-1].intercepts_, *trees]


def predict(models: Models) -> list[np.ndarray]:
    return [models[name].predict_proba(X[:20]) for name in sorted(models)]


def pickle_save(models: Models, directory: Path) -> None:
    with open(directory / "model.pkl", "wb") as file:
        pickle.dump(models, file, protocol=5)


def pickle_load(directory: Path) -> Models:
    with open(directory / "model.pkl", "rb") as file:
        return pickle.load(file)


def joblib_save(models: Models, directory: Path) -> None:
    joblib.dump(models, directory / "model.joblib")


def joblib_load(directory: Path) -> Models:
    return joblib.load(directory / "model.joblib")


def joblib_map(directory: Path) -> Models:
    return joblib.load(directory / "model.joblib", mmap_mode="r")


def packed_save(models: Models, directory: Path) -> None:
    joblib.dump(models, directory / "model.joblib", compress=3)


def skops_save(models: Models, directory: Path) -> None:
    from skops.io import dump

    dump(models, directory / "model.skops")


def skops_load(directory: Path) -> Models:
    from skops.io import get_untrusted_types, load

    return load(directory / "model.skops", trusted=get_untrusted_types(file=directory / "model.skops"))


row = rowkit.Row("scikit-learn", lambda: sklearn.__version__)
row.add("pickle", "`pickle.dump`, `pickle.load`", model, pickle_save, pickle_load, weights, predict)
row.add("joblib", "`joblib.dump`, `joblib.load`", model, joblib_save, joblib_load, weights, predict)
row.add("joblib mapped", "the same with `mmap_mode='r'`", model, joblib_save, joblib_map, weights, predict)
row.add("joblib packed", "`joblib.dump(compress=3)`", model, packed_save, joblib_load, weights, predict)
row.add("skops", "`skops.io.dump`, `load`", model, skops_save, skops_load, weights, predict, needs=["skops"])

if __name__ == "__main__":
    row.main()
