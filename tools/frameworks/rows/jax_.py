"""JAX: Orbax, synchronous, asynchronous and managed; Flax's msgpack."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flax
import flax.serialization
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
import rowkit
from flax import linen

State = dict[str, Any]

BATCH = jnp.linspace(-1, 1, 16 * 128).reshape(16, 128)
OPTIMIZER = optax.adam(1e-3)


class Network(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return linen.Dense(10)(linen.relu(linen.Dense(2048)(x)))


NETWORK = Network()


def fresh() -> State:
    parameters = NETWORK.init(jax.random.key(7), BATCH)
    return {"params": parameters, "optimizer": OPTIMIZER.init(parameters), "step": jnp.array(0)}


@rowkit.once
def trained() -> State:
    """The network and its optimiser after three steps."""
    state = fresh()
    for step in range(3):
        slope = jax.grad(lambda parameters: (NETWORK.apply(parameters, BATCH) ** 2).mean())(state["params"])
        update, optimizer = OPTIMIZER.update(slope, state["optimizer"])
        parameters = optax.apply_updates(state["params"], update)
        state = {"params": parameters, "optimizer": optimizer, "step": jnp.array(step + 1)}
    return state


def weights(state: State) -> list[Any]:
    return [jax.device_get(leaf) for leaf in jax.tree.leaves(state)]


def predict(state: State) -> list[Any]:
    return jax.device_get(NETWORK.apply(state["params"], BATCH)).tolist()


def save_sync(state: State, directory: Path) -> None:
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(directory / "state", args=ocp.args.StandardSave(state))


def load_sync(directory: Path) -> State:
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        return checkpointer.restore(directory / "state", args=ocp.args.StandardRestore(fresh()))


def save_async(state: State, directory: Path) -> None:
    with ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(directory / "state", args=ocp.args.StandardSave(state))
        checkpointer.wait_until_finished()


def load_async(directory: Path) -> State:
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(directory / "state", fresh())


def manager(directory: Path) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(directory, options=ocp.CheckpointManagerOptions(max_to_keep=2))


def save_managed(state: State, directory: Path) -> None:
    with manager(directory) as managed:
        for step in range(4):
            managed.save(step, args=ocp.args.StandardSave(state))
        managed.wait_until_finished()
        assert list(managed.all_steps()) == [2, 3]


def load_managed(directory: Path) -> State:
    with manager(directory) as managed:
        assert managed.latest_step() == 3
        return managed.restore(3, args=ocp.args.StandardRestore(fresh()))


def save_msgpack(state: State, directory: Path) -> None:
    (directory / "state.msgpack").write_bytes(flax.serialization.to_bytes(state))


def load_msgpack(directory: Path) -> State:
    return flax.serialization.from_bytes(fresh(), (directory / "state.msgpack").read_bytes())


row = rowkit.Row("JAX", lambda: f"{jax.__version__}, Orbax {ocp.__version__}, Flax {flax.__version__}")
row.add("Orbax", "`Checkpointer`", trained, save_sync, load_sync, weights, predict)
row.add(
    "Orbax, async", "`AsyncCheckpointer`, `StandardCheckpointer`", trained, save_async, load_async, weights, predict
)
row.add(
    "Orbax, managed",
    "`CheckpointManager`: 4 saves with `max_to_keep=2`",
    trained,
    save_managed,
    load_managed,
    weights,
    predict,
)
row.add("Flax msgpack", "`to_bytes`, `from_bytes`", trained, save_msgpack, load_msgpack, weights, predict)

if __name__ == "__main__":
    row.main()
