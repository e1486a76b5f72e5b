"""Loading: cold, over slow lines, one tensor of many, warm, hot."""

from __future__ import annotations

from operator import methodcaller

from benchmarks.speed import data
from benchmarks.speed.measure import Table
from benchmarks.speed.sides import Modelfs, Side
from benchmarks.speed.world import World, opened

FAR = 0.010  # seconds a direction: 20 ms for a round trip
GIGABIT = 125e6  # bytes per second

FRESH = methodcaller("fresh")  # before a turn: nothing cached
KEPT = methodcaller("fresh", keep_cache=True)  # before a turn: only what the local disk cache has


def cold(world: World, table: Table, rounds: int) -> None:
    """Nothing cached anywhere on this machine."""
    sides: list[Side] = [world.modelfs(), *world.peers(), world.download()]
    with opened(sides):
        for _ in range(rounds):
            for name, file, load in [*data.LOADS, data.READ]:
                table.turn(
                    f"cold {name}",
                    world.size,
                    sides[:1] if load is data.READ[2] else sides,
                    lambda side, f=file, how=load: how(side.prepare(f)),
                    before=FRESH,
                )
    name, file, load = data.LOADS[0]
    with opened([world.modelfs("fast")]) as sides:
        for _ in range(rounds):
            table.turn(
                f"cold {name}, lz4 or raw", world.size, sides, lambda side: load(side.prepare(file)), before=FRESH
            )


def slow_lines(world: World, table: Table, rounds: int) -> None:
    """The same over a line with a delay, and over one with a cap."""
    name, file, load = data.LOADS[0]
    for line, delay, rate in (("20 ms", FAR, 0.0), ("1 Gbit/s", 0.0, GIGABIT)):
        with world.slower(delay=delay, rate=rate) as place:
            sides = [world.modelfs(work=line, place=place), *world.peers(line, place), world.download(line, place)]
            with opened(sides):
                for _ in range(rounds):
                    table.turn(
                        f"cold {name}, {line}",
                        world.size,
                        sides,
                        lambda side: load(side.prepare(file)),
                        before=FRESH,
                    )


def one_tensor(world: World, table: Table, rounds: int) -> None:
    """One of a hundred tensors, the file closed again; near and far."""
    for name, line, delay in (("near", "", 0.0), ("far", ", 20 ms", FAR)):
        with world.slower(delay=delay) as slow:
            place = slow if delay else world.place
            sides = [world.modelfs(work=name, place=place), *world.peers(name, place)]
            with opened(sides):
                for number in range(rounds):
                    table.turn(
                        f"one tensor{line}",
                        world.size // data.TENSORS,
                        sides,
                        lambda side, n=number: data.one_tensor(side.prepare(data.SAFETENSORS), 17 + 10 * n),
                        before=FRESH,
                    )


def warm(world: World, table: Table, rounds: int) -> None:
    """The local cache is full; the page cache is empty, or holds what the cache's files hold; then all of it again."""
    modelfs, ext4 = world.modelfs(), world.ext4()
    with opened([modelfs, ext4]):
        modelfs.fresh()
        for path in world.plain.iterdir():
            data.READ[2](modelfs.root / path.name)
        modelfs.fresh(keep_cache=True)  # closed in order, so that it is trusted
        for _ in range(rounds):
            for name, file, load in [*data.LOADS, data.READ]:
                table.turn(
                    f"warm {name}",
                    world.size,
                    [ext4, modelfs],
                    lambda side, f=file, how=load: how(side.prepare(f)),
                    before=KEPT,
                )
            mergerfs = world.mergerfs(world.plain)
            with opened([mergerfs]):
                name, file, load = data.LOADS[0]
                table.turn(
                    f"in the page cache, {name}",
                    world.size,
                    [ext4, mergerfs, modelfs],
                    lambda side, f=file, how=load: how(side.prepare(f)),
                    before=lambda side: _resident(world, side),
                    cold=False,
                )
            for name, file, load in data.LOADS:
                load(modelfs.root / file)
                load(ext4.root / file)
                table.turn(
                    f"third {name}",
                    world.size,
                    [ext4, modelfs],
                    lambda side, f=file, how=load: how(side.prepare(f)),
                    cold=False,
                )


def _resident(world: World, side: Side) -> None:
    """Mount anew, with the bytes of the file below it in the page cache."""
    side.fresh(keep_cache=True)
    below = side.cache / "files" if isinstance(side, Modelfs) else world.plain
    for path in below.rglob("*"):
        if path.is_file():
            data.READ[2](path)
