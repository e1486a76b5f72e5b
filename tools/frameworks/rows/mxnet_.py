"""Apache MXNet: Gluon parameters and trainer states, an exported network, Module checkpoints, arrays.

Its last version is of 2022 and calls names that NumPy 1.24 removed: the environment has NumPy 1.23, the row no shim."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mxnet as mx
import numpy as np
import rowkit
from mxnet import autograd, gluon

numbers = np.random.RandomState(7)
X = numbers.randn(256, 64).astype("f")
Y = (X[:, :8].sum(axis=1) > 0).astype("f")


class Trained:
    """A network and, with Gluon, the trainer that holds its momenta."""

    def __init__(self, network: Any, trainer: Any = None) -> None:
        self.network = network
        self.trainer = trainer


def network() -> Any:
    """Three layers and a normalisation, 1.3 MB."""
    made = gluon.nn.HybridSequential(prefix="net_")
    with made.name_scope():
        made.add(gluon.nn.Dense(512, activation="relu", in_units=64))
        made.add(gluon.nn.BatchNorm(in_channels=512))
        made.add(gluon.nn.Dense(512, activation="relu", in_units=512), gluon.nn.Dense(2, in_units=512))
    return made


def trainer_of(network: Any) -> Any:
    return gluon.Trainer(network.collect_params(), "adam", kvstore=None)


@rowkit.once
def trained() -> Trained:
    """Four steps of Adam."""
    mx.random.seed(7)
    np.random.seed(7)
    made = network()
    made.initialize(mx.init.Xavier())
    made.hybridize()
    trainer = trainer_of(made)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for begin in range(0, 256, 64):
        with autograd.record():
            value = loss(made(mx.nd.array(X[begin : begin + 64])), mx.nd.array(Y[begin : begin + 64]))
        value.backward()
        trainer.step(64)
    mx.nd.waitall()
    return Trained(made, trainer)


def weights(model: Trained) -> dict[str, Any]:
    found = {name: parameter.data().asnumpy() for name, parameter in model.network.collect_params().items()}
    if model.trainer is not None:
        for index, (mean, variance) in model.trainer._updaters[0].states.items():
            found[f"adam {index}"] = [mean.asnumpy(), variance.asnumpy()]
    return found


def predict(model: Trained) -> Any:
    return mx.nd.softmax(model.network(mx.nd.array(X[:20]))).asnumpy()


def gluon_save(model: Trained, directory: Path) -> None:
    model.network.save_parameters(str(directory / "net.params"))
    model.trainer.save_states(str(directory / "net.states"))


def gluon_load(directory: Path) -> Trained:
    made = network()
    made.load_parameters(str(directory / "net.params"))
    trainer = trainer_of(made)
    trainer.load_states(str(directory / "net.states"))
    return Trained(made, trainer)


@rowkit.once
def exportable() -> Trained:
    return Trained(trained().network)


def export_save(model: Trained, directory: Path) -> None:
    model.network.export(str(directory / "net"), epoch=4)


def export_load(directory: Path) -> Trained:
    return Trained(
        gluon.SymbolBlock.imports(str(directory / "net-symbol.json"), ["data"], str(directory / "net-0004.params"))
    )


def batches() -> Any:
    return mx.io.NDArrayIter(X, Y, 64, label_name="softmax_label")


@rowkit.once
def module() -> Any:
    """A Module of symbols, two epochs."""
    mx.random.seed(7)
    np.random.seed(7)
    hidden = mx.sym.Activation(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=512, name="one"), act_type="relu")
    hidden = mx.sym.Activation(mx.sym.FullyConnected(hidden, num_hidden=512, name="two"), act_type="relu")
    made = mx.mod.Module(
        mx.sym.SoftmaxOutput(mx.sym.FullyConnected(hidden, num_hidden=2, name="three"), name="softmax")
    )
    made.fit(batches(), num_epoch=2, optimizer="adam", initializer=mx.init.Xavier(), kvstore=None)
    return made


def module_weights(made: Any) -> dict[str, Any]:
    """Parameters, and what Adam keeps for each."""
    parameters, other = made.get_params()
    found = {name: value.asnumpy() for name, value in {**parameters, **other}.items()}
    for index, (mean, variance) in made._updater.states.items():
        found[f"adam {index}"] = [mean.asnumpy(), variance.asnumpy()]
    return found


def module_predict(made: Any) -> Any:
    return made.predict(batches()).asnumpy()[:20]


def module_save(made: Any, directory: Path) -> None:
    made.save_checkpoint(str(directory / "module"), 2, save_optimizer_states=True)


def module_load(directory: Path) -> Any:
    made = mx.mod.Module.load(str(directory / "module"), 2, load_optimizer_states=True)
    made.bind(batches().provide_data, batches().provide_label)
    made.init_optimizer(kvstore=None, optimizer="adam")
    return made


def arrays_save(model: dict[str, Any], directory: Path) -> None:
    mx.nd.save(str(directory / "arrays.nd"), model)


@rowkit.once
def arrays() -> dict[str, Any]:
    return {"x": mx.nd.array(X), "half": mx.nd.array(X, dtype="float16"), "whole": mx.nd.array(Y, dtype="int32")}


def arrays_load(directory: Path) -> dict[str, Any]:
    return mx.nd.load(str(directory / "arrays.nd"))


def arrays_weights(model: dict[str, Any]) -> dict[str, Any]:
    return {name: value.asnumpy() for name, value in model.items()}


def arrays_predict(model: dict[str, Any]) -> Any:
    return mx.nd.dot(model["x"], model["x"], transpose_b=True).asnumpy()[0, :20]


row = rowkit.Row("Apache MXNet", lambda: f"{mx.__version__} with NumPy {np.__version__}")
row.add(
    "parameters",
    "`Block.save_parameters`, `Trainer.save_states`, and `load_…`",
    trained,
    gluon_save,
    gluon_load,
    weights,
    predict,
)
row.add("export", "`HybridBlock.export`, `SymbolBlock.imports`", exportable, export_save, export_load, weights, predict)
row.add(
    "module",
    "`Module.save_checkpoint(save_optimizer_states=True)`, `Module.load`",
    module,
    module_save,
    module_load,
    module_weights,
    module_predict,
)
row.add("arrays", "`nd.save`, `nd.load`", arrays, arrays_save, arrays_load, arrays_weights, arrays_predict)

if __name__ == "__main__":
    row.main()
