"""PaddlePaddle: state dictionaries, an inference program of jit.save, a distributed checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import paddle
import rowkit
from paddle import nn

numbers = np.random.RandomState(7)
X = numbers.randn(256, 64).astype("float32")
Y = (X[:, :8].sum(axis=1) > 0).astype("int64")


class Trained:
    """A network and, where it was kept, its optimizer."""

    def __init__(self, network: Any, optimizer: Any = None) -> None:
        self.network = network
        self.optimizer = optimizer


def untrained() -> Trained:
    """Three layers and a normalisation, 1.3 MB."""
    paddle.seed(7)
    with paddle.utils.unique_name.guard():  # the same names in every process, as the optimizer's state needs them
        network = nn.Sequential(
            nn.Linear(64, 512), nn.ReLU(), nn.BatchNorm1D(512), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 2)
        )
        return Trained(network, paddle.optimizer.Adam(parameters=network.parameters()))


@rowkit.once
def trained() -> Trained:
    """Four steps of Adam."""
    model = untrained()
    for begin in range(0, 256, 64):
        answer = model.network(paddle.to_tensor(X[begin : begin + 64]))
        nn.functional.cross_entropy(answer, paddle.to_tensor(Y[begin : begin + 64])).backward()
        model.optimizer.step()
        model.optimizer.clear_grad()
    model.network.eval()
    return model


def weights(model: Trained) -> dict[str, Any]:
    found = {name: value.numpy() for name, value in model.network.state_dict().items()}
    if model.optimizer is not None:
        state = model.optimizer.state_dict().items()
        found.update({f"adam {name}": value.numpy() for name, value in state if hasattr(value, "numpy")})
    return found


def renamed_weights(model: Trained) -> list[Any]:
    """All arrays in an order of their own: jit.save names parameters anew and writes them by these names."""
    return sorted(value.numpy().tobytes() for value in model.network.state_dict().values())


def predict(model: Trained) -> Any:
    with paddle.no_grad():
        return nn.functional.softmax(model.network(paddle.to_tensor(X[:20]))).numpy()


def state_save(model: Trained, directory: Path) -> None:
    paddle.save(model.network.state_dict(), str(directory / "net.pdparams"))
    paddle.save(model.optimizer.state_dict(), str(directory / "net.pdopt"))


def state_load(directory: Path) -> Trained:
    model = untrained()
    model.network.set_state_dict(paddle.load(str(directory / "net.pdparams")))
    model.optimizer.set_state_dict(paddle.load(str(directory / "net.pdopt")))
    model.network.eval()
    return model


@rowkit.once
def only_network() -> Trained:
    return Trained(trained().network)


def jit_save(model: Trained, directory: Path) -> None:
    paddle.jit.save(model.network, str(directory / "net"), [paddle.static.InputSpec([None, 64], "float32", "x")])


def jit_load(directory: Path) -> Trained:
    loaded = paddle.jit.load(str(directory / "net"))
    loaded.eval()
    return Trained(loaded)


def distributed_save(model: Trained, directory: Path) -> None:
    paddle.distributed.save_state_dict(model.network.state_dict(), str(directory / "checkpoint"))


def distributed_load(directory: Path) -> Trained:
    network = untrained().network
    paddle.distributed.load_state_dict(network.state_dict(), str(directory / "checkpoint"))
    network.eval()
    return Trained(network)


row = rowkit.Row("PaddlePaddle", lambda: paddle.__version__)
row.add(
    "state_dict",
    "`paddle.save`, `paddle.load` of network and optimizer",
    trained,
    state_save,
    state_load,
    weights,
    predict,
)
row.add("jit", "`paddle.jit.save`, `jit.load`", only_network, jit_save, jit_load, renamed_weights, predict)
row.add(
    "distributed",
    "`paddle.distributed.save_state_dict`, `load_state_dict`, one rank",
    only_network,
    distributed_save,
    distributed_load,
    weights,
    predict,
)

if __name__ == "__main__":
    row.main()
