"""Three machines on one store work at random, are killed, and their stores fail: every answer is judged.

`MODELFS_SEEDS=1,2,3 MODELFS_STEPS=100000 pytest tests/faults/test_machines.py` runs other seeds and more steps (of all
threads together). A failure prints the seed and all that happened to the path in question, in order; the rest is kept
in the test's directory.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from checker import Checker
from faultystore import Plan
from history import History
from machineworker import Config, Record
from mounting import Machine

SEEDS = [int(seed) for seed in os.environ.get("MODELFS_SEEDS", "1,2,3").split(",")]
STEPS = int(os.environ.get("MODELFS_STEPS", "10000"))
THREADS = 6
KINDS = ((0.0, False), (0.0, True), (0.2, False))  # (refresh, write-back) of each machine
WEATHER = {
    "error": {"*": 0.004},
    "throttled": {"put": 0.01, "put_if_absent": 0.01},
    "timeout": {"*": 0.002},
    "lost": {"put": 0.01, "put_if_absent": 0.04},
    "slow": {"get": 0.005, "put_if_absent": 0.02},
    "torn": {"get": 0.002},
    "stale": {"list": 0.2},
}


@pytest.mark.timeout(120 + STEPS // 20)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_divergence(machine: Machine, store: str, tmp_path: Path, seed: int) -> None:
    mnt = machine.mount(store)
    (mnt / "s").mkdir()
    machine.umount(mnt)
    long = STEPS // 10_000 + 1
    configs = [
        Config(
            store, str(tmp_path / f"machine{number}"), number, len(KINDS), seed, THREADS,
            STEPS // len(KINDS) // THREADS, refresh, write_back, 2 * long, 3 * long, Plan(seed, WEATHER),
        )
        for number, (refresh, write_back) in enumerate(KINDS)
    ]  # fmt: skip
    with contextlib.ExitStack() as running:
        machines = [running.enter_context(_started(config)) for config in configs]
        for process in machines:
            assert _line(process) == "done"
        deadline = time.monotonic() + 30
        while True:
            trees = [_tree(process) for process in machines]
            history = History(store)
            if all(tree == history.final() for tree in trees):
                break
            assert time.monotonic() < deadline, f"seed {seed}: the machines do not come to the same tree"
            time.sleep(0.1)
    records = [
        msgspec.json.decode(Path(config.directory, "record.json").read_bytes(), type=Record) for config in configs
    ]
    checker = Checker(configs, records, history)
    wrong = checker.check()
    ops = sum(len(record.ops) for record in records)
    sys.stderr.write(
        f"seed {seed}: {ops} operations, {checker.reads} reads judged, {len(history.commits)} commits, "
        f"{sum(r.errors for r in records)} errors, {sum(r.kills for r in records)} kills\n"
    )
    assert not wrong, f"MODELFS_SEEDS={seed} MODELFS_STEPS={STEPS}: {len(wrong)} wrong; the first:\n" + "\n".join(
        wrong[:3]
    )
    assert sum(record.kills for record in records) == 2 * long * len(KINDS)
    assert sum(record.errors for record in records) > 10, "the faults struck nobody"
    assert checker.reads > ops // 4


@contextlib.contextmanager
def _started(config: Config):  # type: ignore[no-untyped-def]
    """A machine: a process with an environment of its own."""
    home = Path(config.directory) / "home"
    home.mkdir(parents=True)
    file = Path(config.directory) / "config.json"
    file.write_bytes(msgspec.json.encode(config))
    here = Path(__file__).parent
    path = [str(here), str(here.parent), str(here.parent.parent), os.environ.get("PYTHONPATH", "")]
    names = {name: str(home / name) for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME")}
    environment = {**os.environ, **names, "HOME": str(home), "PYTHONPATH": os.pathsep.join(filter(None, path))}
    environment.pop("XDG_RUNTIME_DIR", None)
    command = [sys.executable, str(here / "machineworker.py"), str(file)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()  # the machine ends by itself, and unmounts
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _tree(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdin is not None
    process.stdin.write("tree\n")
    process.stdin.flush()
    tree: dict[str, str] = msgspec.json.decode(_line(process))
    return tree
