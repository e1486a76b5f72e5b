"""Saving: ``torch.save`` with and without write-back, beside the local disk and an upload of what modelfs stores."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import torch
from obstore.store import S3Store

from benchmarks.speed import data
from benchmarks.speed.measure import Table
from benchmarks.speed.sides import Download, Ext4, Modelfs, Place, Side
from benchmarks.speed.world import World, make_store, opened


class Synced(Ext4):
    """The local disk, and an fsync before the close: what --write-back promises."""

    name = "ext4 and fsync"


class Upload(Side):
    """Sends objects of the sizes that modelfs stored last, 16 at a time: what the line and the server take."""

    name = "upload"

    def __init__(self, work: Path, place: Place) -> None:
        super().__init__(work)
        self._objects: S3Store = place.objects("uploads")
        self.sizes: list[int] = []

    def send(self) -> None:
        """Put the objects."""
        noise = os.urandom(max(self.sizes, default=0))

        def put(at: int) -> None:
            obstore.put(self._objects, f"{at}", noise[: self.sizes[at]])

        with ThreadPoolExecutor(Download.parallel) as pool:
            list(pool.map(put, range(len(self.sizes))))


def _chunks(objects: S3Store) -> dict[str, int]:
    return {meta["path"]: meta["size"] for batch in obstore.list(objects, prefix="data") for meta in batch}


def saves(world: World, table: Table, rounds: int) -> None:
    """Every round saves other weights, so that nothing is deduplicated."""
    ext4, synced = world.ext4(work="saves"), Synced(world.work("saves-synced"))
    through = Modelfs(world.work("saves-through"), world.url("saves"), compression="fast")
    back = Modelfs(world.work("saves-back"), world.url("saves"), write_back=True, compression="fast")
    upload = Upload(world.work("saves"), world.place)
    make_store(world, "saves")
    stored = world.place.objects("saves")
    weights = data.make_weights(world.size, seed=2)
    known: dict[str, int] = {}

    def save(side: Side) -> None:
        if isinstance(side, Upload):
            side.send()
        else:
            with (side.root / "model.pt").open("wb") as file:
                torch.save(weights, file)
                if isinstance(side, Synced):
                    file.flush()
                    os.fsync(file.fileno())

    with opened([ext4, synced, through, back, upload]):
        through.fresh()
        back.fresh()
        for number in range(rounds):
            for mode, beside, mounted in (("write-back", [ext4, synced], back), ("write-through", [ext4], through)):
                for tensor in weights.values():
                    tensor.mul_(1.0 + 2.0 ** -(number % 5 + 2))
                table.turn(f"torch.save, {mode}", world.size, [*beside, mounted], save)
                mounted.settle()
                now = _chunks(stored)
                upload.sizes = [size for path, size in now.items() if path not in known]
                known = now
                if mode == "write-through":
                    table.turn(f"torch.save, {mode}", world.size, [upload], save)
    for prefix in ("saves", "uploads"):
        objects = world.place.objects(prefix)
        for batch in obstore.list(objects):
            obstore.delete(objects, [meta["path"] for meta in batch])
