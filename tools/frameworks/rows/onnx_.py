"""ONNX with external data, run by ONNX's reference and by ONNX Runtime."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import onnx
import rowkit
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

BATCH = np.linspace(-1, 1, 16 * 256, dtype=np.float32).reshape(16, 256)


class Loaded(NamedTuple):
    model: onnx.ModelProto
    predictions: np.ndarray


@rowkit.once
def made() -> Loaded:
    """Four layers as a graph, half a megabyte each."""
    random = np.random.default_rng(7)
    nodes, tensors, last = [], [], "x"
    for i, (rows, columns) in enumerate([(256, 512), (512, 256), (256, 512), (512, 10)]):
        values = random.standard_normal((rows, columns)).astype(np.float32) / 16
        tensors.append(numpy_helper.from_array(values, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"m{i}"]))
        nodes.append(helper.make_node("Tanh", [f"m{i}"], [f"t{i}"]))
        last = f"t{i}"
    floats = onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(*end) for end in (("x", floats, [None, 256]), (last, floats, [None, 10]))]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return Loaded(model, ReferenceEvaluator(model).run(None, {"x": BATCH})[0])


def weights(loaded: Loaded) -> list[np.ndarray]:
    return [numpy_helper.to_array(tensor) for tensor in loaded.model.graph.initializer]


def predict(loaded: Loaded) -> np.ndarray:
    return loaded.predictions


def save(loaded: Loaded, directory: Path) -> None:
    whole = copy.deepcopy(loaded.model)  # saving moves the tensors out of it
    onnx.save_model(whole, directory / "model.onnx", save_as_external_data=True, location="model.data")


def save_apart(loaded: Loaded, directory: Path) -> None:
    whole = copy.deepcopy(loaded.model)
    onnx.save_model(whole, directory / "model.onnx", save_as_external_data=True, all_tensors_to_one_file=False)


def load(directory: Path) -> Loaded:
    model = onnx.load(directory / "model.onnx")
    return Loaded(model, ReferenceEvaluator(model).run(None, {"x": BATCH})[0])


def load_runtime(directory: Path) -> Loaded:
    import onnxruntime

    session = onnxruntime.InferenceSession(directory / "model.onnx", providers=["CPUExecutionProvider"])
    return Loaded(onnx.load(directory / "model.onnx"), session.run(None, {"x": BATCH})[0])


def version() -> str:
    try:
        import onnxruntime
    except ImportError:
        return onnx.__version__
    return f"{onnx.__version__}, ONNX Runtime {onnxruntime.__version__}"


ONE = "`onnx.save_model(save_as_external_data=True)`"
row = rowkit.Row("ONNX", version)
row.add("external data", f"{ONE}, `onnx.load`", made, save, load, weights, predict)
row.add("a file for each tensor", "`all_tensors_to_one_file=False`", made, save_apart, load, weights, predict)
row.add(
    "ONNX Runtime",
    f"{ONE}, `InferenceSession`",
    made,
    save,
    load_runtime,
    weights,
    predict,
    needs=["onnxruntime"],
)

if __name__ == "__main__":
    row.main()
