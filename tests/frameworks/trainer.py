"""A training job of eight ranks that saves distributed checkpoints on several mounts, and readers beside it.

    python trainer.py STEPS RENDEZVOUS MOUNT...

Ranks are divided among the mounts, as among machines. Each saves its shard of a tensor (`save`, at each third step
`async_save`), all wait until the checkpoint is complete on their mount, load it and compare; the first one removes what
is older than the newest three. Readers, one for each mount, load what is complete, again and again. A job begins behind
the newest checkpoint that is complete.

Lines of JSON on standard output: ``{"resumed": STEP}``, ``{"saving": STEP}``, ``{"saved": STEP}``, ``{"read": COUNT}``
of each reader, ``{"wrong": TEXT}``. The processes are forks of one that has imported PyTorch: that costs 3 s only once.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard

RANKS = 8
KEEP = 3
ROWS, COLUMNS = 64, 512  # of a rank's shard: 128 KiB
CONTENTS = 5  # different ones: what is saved is what a collection is about to delete, again and again
PATIENCE = 60.0  # seconds for what another mount has done to show


class Board:
    """Numbers that all processes of the job see."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, 16)

    @property
    def doomed(self) -> int:
        """Checkpoints up to this step are being removed, or are gone."""
        return int.from_bytes(self._map[:8], "little")

    @doomed.setter
    def doomed(self, step: int) -> None:
        self._map[:8] = step.to_bytes(8, "little")

    @property
    def over(self) -> bool:
        """True when readers should end."""
        return self._map[8] != 0

    def end(self) -> None:
        """Tell readers to end."""
        self._map[8] = 1


def shard(step: int, rank: int) -> torch.Tensor:
    """What a rank has in ``weights``."""
    return torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(step % CONTENTS * RANKS + rank))


def bias(step: int) -> torch.Tensor:
    """What all ranks have."""
    return torch.randn(4000, generator=torch.Generator().manual_seed(1000 + step))


def part(mesh: DeviceMesh, local: torch.Tensor) -> DTensor:
    """A tensor of which each rank has some rows."""
    return DTensor.from_local(local, mesh, [Shard(0)], run_check=False)


def complete(root: Path) -> list[int]:
    """Steps of checkpoints that say that they are complete."""
    steps = [int(path.name.removeprefix("step-")) for path in root.glob("step-*")]
    return sorted(step for step in steps if (root / f"step-{step}" / ".metadata").exists())


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll; RuntimeError when it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.02)


def check(step: int, state: dict[str, Any], weights: torch.Tensor, expected: torch.Tensor, who: str) -> None:
    """RuntimeError unless the checkpoint is the one of that step, all of it."""
    if int(state["step"]) != step:
        raise RuntimeError(f"{who}: step {int(state['step'])} in the checkpoint of step {step}")
    if not torch.equal(weights, expected) or not torch.equal(state["bias"], bias(step)):
        raise RuntimeError(f"{who}: other values in the checkpoint of step {step}")


def say(**facts: object) -> None:
    """One line for who started the job, whole whatever others write."""
    os.write(1, json.dumps(facts).encode() + b"\n")


def train(number: int, root: Path, steps: int, rendezvous: Path, board: Board) -> None:
    """One rank."""
    limit = timedelta(seconds=2 * PATIENCE)
    dist.init_process_group("gloo", f"file://{rendezvous}", timeout=limit, world_size=RANKS, rank=number)
    mesh = init_device_mesh("cpu", (RANKS,))

    def load(step: int) -> None:
        path = root / f"step-{step}"
        until(lambda: (path / ".metadata").exists(), f"{path} complete")
        state = {"weights": part(mesh, torch.zeros(ROWS, COLUMNS)), "bias": torch.zeros(4000), "step": torch.zeros(())}
        dcp.load(state, checkpoint_id=path)
        check(step, state, state["weights"].to_local(), shard(step, number), f"rank {number}")

    newest = [max(complete(root), default=0)]
    dist.broadcast_object_list(newest, 0)
    begin = newest[0]
    if begin:
        load(begin)
    if number == 0:
        say(resumed=begin)
    for step in range(begin + 1, begin + steps + 1):
        if number == 0:
            say(saving=step)
        state = {"weights": part(mesh, shard(step, number)), "bias": bias(step), "step": torch.tensor(float(step))}
        if step % 3:
            dcp.save(state, checkpoint_id=root / f"step-{step}")
        else:
            dcp.async_save(state, checkpoint_id=root / f"step-{step}").result()
        load(step)
        dist.barrier()
        if number == 0:
            say(saved=step)
            board.doomed = max(step - KEEP, 0)
            for old in complete(root):
                if old <= board.doomed:
                    shutil.rmtree(root / f"step-{old}")
    dist.barrier()
    dist.destroy_process_group()


def read(number: int, root: Path, board: Board) -> None:
    """One reader."""
    dice = random.Random(number)
    count = 0
    while not board.over:
        steps = complete(root)[-KEEP:]
        step = dice.choice([*steps, steps[-1]]) if steps else 0
        if step > board.doomed:
            whole = {"weights": torch.zeros(RANKS * ROWS, COLUMNS), "bias": torch.zeros(4000), "step": torch.zeros(())}
            try:
                dcp.load(whole, checkpoint_id=root / f"step-{step}", no_dist=True)
            except (OSError, CheckpointException):
                if step > board.doomed:
                    raise
            else:
                expected = torch.cat([shard(step, rank) for rank in range(RANKS)])
                check(step, whole, whole["weights"], expected, f"reader {number}")
                count += 1
        time.sleep(0.2)
    say(read=count)


def forked(work: Callable[[], None]) -> int:
    """Process id of a child that does it; it ends with 1 and a line when that fails."""
    child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1)
        work()
    except BaseException:  # noqa: BLE001  # a child that must not return
        say(wrong=traceback.format_exc())
        os._exit(1)
    os._exit(0)


def main() -> int:
    """Runs the job; who started it ends all its processes at once, as they are one group."""
    steps, rendezvous, roots = int(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
    board = Board()

    def rank(number: int) -> Callable[[], None]:
        return lambda: train(number, roots[number * len(roots) // RANKS], steps, rendezvous, board)

    def reader(number: int) -> Callable[[], None]:
        return lambda: read(number, roots[number], board)

    ranks = [forked(rank(number)) for number in range(RANKS)]
    readers = [forked(reader(number)) for number in range(len(roots))]
    codes = [os.waitpid(pid, 0)[1] for pid in ranks]
    board.end()
    codes += [os.waitpid(pid, 0)[1] for pid in readers]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
