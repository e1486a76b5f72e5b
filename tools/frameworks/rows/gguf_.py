"""GGUF: written, quantised, and edited in place by the gguf package."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gguf
import numpy as np
import rowkit
from gguf.constants import GGMLQuantizationType

Model = dict[str, np.ndarray]

LAYERS = 8
Q8 = GGMLQuantizationType.Q8_0


@rowkit.once
def plain() -> Model:
    random = np.random.default_rng(7)
    return {f"blk.{i}.weight": random.standard_normal((256, 256)).astype(np.float32) / 16 for i in range(LAYERS)}


@rowkit.once
def quantised() -> Model:
    return {name: gguf.quants.quantize(values, Q8) for name, values in plain().items()}


def weights(model: Model) -> Model:
    return model


def predict(model: Model) -> np.ndarray:
    x = np.linspace(-1, 1, 256, dtype=np.float32)
    for i in range(LAYERS):
        values = model[f"blk.{i}.weight"]
        x = np.tanh((values if values.dtype == np.float32 else gguf.quants.dequantize(values, Q8)) @ x)
    return x


def write(model: Model, path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    for name, values in model.items():
        writer.add_tensor(name, values, raw_dtype=None if values.dtype == np.float32 else Q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def save(model: Model, directory: Path) -> None:
    write(model, directory / "model.gguf")


def load(directory: Path) -> Model:
    reader = gguf.GGUFReader(directory / "model.gguf")
    return {
        tensor.name: tensor.data.reshape(256, -1) if tensor.tensor_type == Q8 else tensor.data.reshape(256, 256)
        for tensor in reader.tensors
    }


def save_edited(model: Model, directory: Path) -> None:
    """As gguf_set_metadata does: the file is mapped for writing, and a value is changed where it lies."""
    write(model, directory / "model.gguf")
    field = gguf.GGUFReader(directory / "model.gguf", "r+").get_field("llama.context_length")
    field.parts[field.data[0]][0] = 2048


def load_edited(directory: Path) -> Model:
    field = gguf.GGUFReader(directory / "model.gguf").get_field("llama.context_length")
    assert field.parts[field.data[0]][0] == 2048
    return load(directory)


row = rowkit.Row("GGUF", lambda: f"gguf {metadata.version('gguf')}")
row.add("float32", "`GGUFWriter`, `GGUFReader`", plain, save, load, weights, predict)
row.add("Q8_0", "`quants.quantize`, `GGUFWriter`, `GGUFReader`", quantised, save, load, weights, predict)
row.add("edited in place", "`GGUFReader(path, 'r+')`", plain, save_edited, load_edited, weights, predict)

if __name__ == "__main__":
    row.main()
