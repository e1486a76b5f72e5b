"""Keras 3: .keras, .h5 and .weights.h5."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
import rowkit

BATCH = np.linspace(-1, 1, 16 * 128, dtype=np.float32).reshape(16, 128)


def build() -> keras.Model:
    layers = [keras.layers.Dense(1024, "relu"), keras.layers.LayerNormalization(), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential([keras.Input((128,)), *layers])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@rowkit.once
def trained() -> keras.Model:
    keras.utils.set_random_seed(7)
    model = build()
    model.fit(BATCH, np.arange(16) % 10, epochs=2, verbose=0, shuffle=False)
    return model


def weights(model: keras.Model) -> list[np.ndarray]:
    return model.get_weights()


def predict(model: keras.Model) -> np.ndarray:
    return model.predict(BATCH, verbose=0)


def save(model: keras.Model, directory: Path) -> None:
    model.save(directory / "model.keras")


def load(directory: Path) -> keras.Model:
    return keras.models.load_model(directory / "model.keras")


def save_hdf5(model: keras.Model, directory: Path) -> None:
    model.save(directory / "model.h5")


def load_hdf5(directory: Path) -> keras.Model:
    return keras.models.load_model(directory / "model.h5")


def save_weights(model: keras.Model, directory: Path) -> None:
    model.save_weights(directory / "model.weights.h5")


def load_weights(directory: Path) -> keras.Model:
    model = build()
    model.load_weights(directory / "model.weights.h5")
    return model


row = rowkit.Row("Keras", lambda: f"{keras.__version__} on {keras.backend.backend()}")
row.add(".keras", "`model.save`, `load_model`", trained, save, load, weights, predict)
row.add(".h5", "`model.save`, `load_model`", trained, save_hdf5, load_hdf5, weights, predict)
row.add(".weights.h5", "`save_weights`, `load_weights`", trained, save_weights, load_weights, weights, predict)

if __name__ == "__main__":
    row.main()
