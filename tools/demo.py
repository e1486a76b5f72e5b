#!/usr/bin/env python3
"""`make demo`: a PyTorch checkpoint saved to and loaded from a mounted store, step by step, with what it costs.

Makes a store and a mount point of its own below the user's data directory, begins anew each time, and leaves the
mount up.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import platformdirs
import torch
from rich.console import Console
from rich.filesize import decimal

LAYERS, WIDTH = 12, 2048  # 12 x 2048 x 2048 float32: 201 MB
HOME = Path(platformdirs.user_data_dir("modelfs", appauthor=False)) / "demo"
STORE, MOUNT, CACHE = HOME / "store", HOME / "mnt", HOME / "cache"

console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line of explanation."""
    console.print(f"\n[bold]{text}[/bold]")


def run(*arguments: object) -> str:
    """Run ``modelfs`` as a user would, showing the command and what it prints."""
    console.print(f"  [dim]$ modelfs {shlex.join(map(str, arguments))}[/dim]")
    out = modelfs(*arguments)
    for line in out.splitlines():
        console.print(f"  {line}")
    return out


def modelfs(*arguments: object) -> str:
    """Run ``modelfs`` quietly; its one line of error ends the demo."""
    command = [sys.executable, "-m", "modelfs", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def facts(*arguments: object) -> Any:
    """A command's facts."""
    return json.loads(modelfs(*arguments, "--json"))


def begin_anew() -> None:
    """Unmount and remove what an earlier demo left."""
    if any(found["mountpoint"] == str(MOUNT) for found in facts("status")):
        modelfs("umount", MOUNT)
    if HOME.exists():
        if os.path.ismount(MOUNT):
            sys.exit(f"something is mounted at {MOUNT}; unmount it first")
        shutil.rmtree(HOME)
    MOUNT.mkdir(parents=True)


def build_model() -> torch.nn.Module:
    """A stack of linear layers with random weights."""
    torch.manual_seed(1)
    return torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)))


def timed_save(model: torch.nn.Module, path: Path) -> None:
    """torch.save on the mounted path."""
    path.parent.mkdir(parents=True)
    start = time.perf_counter()
    torch.save(model.state_dict(), path)
    console.print(f"  torch.save(model.state_dict(), '{path}')   {time.perf_counter() - start:.1f} s")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Equal names and equal bytes."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def main() -> None:
    """The demo."""
    begin_anew()
    say("1. A store is a directory (or an S3 bucket, an SFTP server, ...). Make one and mount it.")
    run("init", STORE)
    run("mount", STORE, MOUNT, "--cache-dir", CACHE / "first")

    model = build_model()
    first, second = (MOUNT / "run" / f"step-{step}" / "model.pt" for step in (1000, 2000))
    say(f"2. Save a PyTorch model ({LAYERS} layers, {decimal(LAYERS * WIDTH * WIDTH * 4)}) as usual.")
    timed_save(model, first)
    before = facts("du", STORE)

    say("3. Train one layer, save again beside it.")
    with torch.no_grad():
        model[LAYERS // 2].weight.add_(0.01 * torch.randn(WIDTH, WIDTH))
    timed_save(model, second)
    run("du", STORE)
    after = facts("du", STORE)
    cost = after["store_data"] - before["store_data"]
    console.print(
        f"  The second save is a {decimal(second.stat().st_size)} file and cost the store {decimal(cost)}:"
        " chunks that it shares with the first are stored once."
    )

    say("4. Load it back and compare.")
    if not same(torch.load(second, weights_only=True), model.state_dict()):
        sys.exit("the loaded checkpoint differs from the saved one")
    console.print("  torch.load gives the same tensors, bit for bit.")

    say("5. Mount again with an empty cache, as another machine would, and touch one tensor.")
    run("umount", MOUNT)
    run("mount", STORE, MOUNT, "--cache-dir", CACHE / "second")
    loaded = torch.load(second, weights_only=True, mmap=True)
    name = f"{LAYERS // 2}.weight"
    if not torch.equal(loaded[name], model.state_dict()[name]):
        sys.exit("the lazily loaded tensor differs from the saved one")
    fetched = facts("status", MOUNT)["fetched_bytes"]
    console.print(
        f"  torch.load(..., mmap=True)['{name}'] is right, and of {decimal(second.stat().st_size)} only"
        f" {decimal(fetched)} came from the store."
    )
    del loaded

    say("6. It has a history.")
    run("log", STORE)

    say("The mount stays up. Use it like any directory:")
    script = Path(sys.executable).with_name("modelfs")
    console.print(f"  ls -l {MOUNT}")
    console.print(f"  python -c \"import torch; print(torch.load('{first}').keys())\"")
    console.print(f"  {script} status")
    say("Stop it, and remove what the demo made:")
    console.print(f"  {script} umount {MOUNT}")
    console.print(f"  rm -r {HOME}")


if __name__ == "__main__":
    main()
