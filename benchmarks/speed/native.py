"""The native session: what the kernel reads of the cache by itself, beside the local disk and libfuse's session."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks.speed import data
from benchmarks.speed.loads import FRESH, KEPT
from benchmarks.speed.measure import Table
from benchmarks.speed.sides import Ext4, Modelfs, Side, drop_page_cache
from benchmarks.speed.small import READS, read_at_random
from benchmarks.speed.world import World, make_store, opened

COPIES = "native: times that a byte that was read is in the page cache (a number, not seconds)"


class OverPyfuse(Modelfs):
    """The other session."""

    name = "modelfs over pyfuse3"


def native(world: World, table: Table, rounds: int) -> None:
    """Loads of a full cache, small reads, saves, and a cold load."""
    side, ext4 = Modelfs(world.work("native"), world.url("balanced"), session="native"), world.ext4("native")
    pyfuse = OverPyfuse(world.work("native"), world.url("balanced"), session="pyfuse3")
    with opened([side, ext4, pyfuse]):
        name, file, load = data.LOADS[0]
        for _ in range(rounds):
            table.turn(
                f"native cold {name}", world.size, [side, pyfuse], lambda at: load(at.prepare(file)), before=FRESH
            )
        side.fresh()
        for path in world.plain.iterdir():
            data.READ[2](side.root / path.name)
            _until_it_passes(side, side.root / path.name)
        side.fresh(keep_cache=True)  # closed in order, so that it is trusted
        for number in range(rounds):
            for name, file, load in [*data.LOADS, data.READ]:
                for state, cold in (("cold", True), ("hot", False)):
                    table.turn(
                        f"native warm {name}, kernel cache {state}",
                        world.size,
                        [ext4, side],
                        lambda at, f=file, how=load: how(at.prepare(f)),
                        before=KEPT if cold else lambda at, f=file: data.READ[2](at.root / f),
                        cold=cold,
                    )
            table.turn(
                f"native {READS} reads of 4 KiB at random, 16 threads",
                0,
                [ext4, side],
                lambda at, n=number: read_at_random(at.root / data.SAFETENSORS, 16, n),
                before=KEPT,
            )
            table.figures(COPIES, 0, side.name).wall.append(_copies(side))
            table.figures(COPIES, 0, side.name).daemon_cpu.append(0.0)
            table.figures(COPIES, 0, side.name).own_cpu.append(0.0)
            table.figures(COPIES, 0, side.name).received.append(0)
    _saves(world, table, rounds)


def _until_it_passes(side: Modelfs, path: Path) -> None:
    """The two formats of the model have the same chunks: what one of them borrows of the other is brought together in
    the background. Where there is no passthrough, or no room, nothing is waited for long."""
    before, deadline = side.facts()["passed_opens"], time.monotonic() + 60
    while side.facts()["passed_opens"] == before and time.monotonic() < deadline:
        time.sleep(0.2)
        path.open("rb").close()


def _copies(side: Side) -> float:
    side.fresh(keep_cache=True)
    drop_page_cache()
    path, before = side.root / data.SAFETENSORS, _cached()
    data.READ[2](path)
    return (_cached() - before) / path.stat().st_size


def _cached() -> int:
    """Bytes of files in the page cache."""
    return int(Path("/proc/meminfo").read_text().split("\nCached:")[1].split()[0]) * 1024


def _saves(world: World, table: Table, rounds: int) -> None:
    make_store(world, "native-saves")
    weights = data.make_weights(world.size, seed=3)
    url = world.url("native-saves")
    side = Modelfs(world.work("native-saves"), url, write_back=True, compression="fast", session="native")

    def save(at: Side) -> None:
        with (at.root / "model.pt").open("wb") as file:
            torch.save(weights, file)

    with opened([Ext4(world.work("native-saves")), side]) as sides:
        side.fresh()
        for number in range(rounds):
            for tensor in weights.values():
                tensor.mul_(1.0 + 2.0 ** -(number % 5 + 2))
            table.turn("native torch.save, write-back", world.size, sides, save)
            side.settle()
