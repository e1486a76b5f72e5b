"""Three machines on one store work at random, are killed, and their stores fail: every answer is judged.

On a local store that fails as it is told; then on an S3 server, each machine in a network of its own whose line is cut
now and then, with a proxy in between that loses answers.

`MODELFS_SEEDS=1,2,3 MODELFS_STEPS=100000 pytest tests/faults/test_machines.py` runs other seeds and more steps (of all
threads together). A failure prints the seed and all that happened to the path in question, in order; the rest is kept
in the test's directory.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from checker import Checker
from faultproxy import FaultProxy, Weather
from faultystore import Plan
from history import History
from machineworker import Config, Record
from mounting import Machine
from netlines import Line
from servers import S3Server

from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

SEEDS = [int(seed) for seed in os.environ.get("MODELFS_SEEDS", "1,2,3").split(",")]
STEPS = int(os.environ.get("MODELFS_STEPS", "10000"))
LINE_STEPS = int(os.environ.get("MODELFS_LINE_STEPS", "900"))
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
    long = STEPS // 10_000 + 1
    configs = [
        Config(
            store, str(tmp_path / f"machine{number}"), number, len(KINDS), seed, THREADS,
            STEPS // len(KINDS) // THREADS, refresh, write_back, 2 * long, 3 * long, Plan(seed, WEATHER),
        )
        for number, (refresh, write_back) in enumerate(KINDS)
    ]  # fmt: skip
    records = _run_and_judge(machine, store, configs, [[] for _ in configs], STEPS)
    assert sum(record.errors for record in records) > 10, "the faults struck nobody"


@pytest.mark.timeout(300)
def test_no_divergence_when_lines_are_cut(
    machine: Machine, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    weather = Weather(lose_response=0.002, reset_request=0.001)
    with contextlib.ExitStack() as opened:
        lines = [opened.enter_context(Line(number)) for number in range(len(KINDS))]
        configs, proxies = [], []
        for number, (line, (refresh, write_back)) in enumerate(zip(lines, KINDS, strict=True)):
            proxies.append(
                opened.enter_context(FaultProxy(s3_server.endpoint, seed=number, weather=weather, host=line.here))
            )
            url = f"{s3_bucket}/p?endpoint={proxies[-1].endpoint}&region=us-east-1"
            configs.append(
                Config(
                    url, str(tmp_path / f"machine{number}"), number, len(KINDS), 1, 3,
                    LINE_STEPS // len(KINDS) // 3, refresh, write_back, 1, 0, Plan(1),
                )
            )  # fmt: skip
        store = f"{s3_bucket}/p?endpoint={s3_server.endpoint}&region=us-east-1"
        with contextlib.closing(open_store(store)) as made:
            Repository.create(made)
        cutting = threading.Event()
        cutter = threading.Thread(target=_cut, args=(lines, cutting))
        cutter.start()
        try:
            _run_and_judge(machine, store, configs, [line.inside for line in lines], LINE_STEPS, cutting.set)
        finally:
            cutting.set()
            cutter.join()
        assert sum(line.cuts for line in lines) > 3
        assert all(proxy.faults["lose_response"] for proxy in proxies)


def _cut(lines: list[Line], ended: threading.Event) -> None:
    rng = random.Random(1)
    while not ended.wait(rng.uniform(0.5, 3.0)):
        with rng.choice(lines).cut():
            time.sleep(rng.uniform(0.1, 0.8))


def _run_and_judge(
    machine: Machine,
    store: str,
    configs: list[Config],
    inside: list[list[str]],
    steps: int,
    worked: Callable[[], None] = lambda: None,
) -> list[Record]:
    """Run the machines, each started through a command, and judge what they did. ``worked`` is called when they have
    done their work, and before anybody looks at what is there in the end."""
    mnt = machine.mount(store)
    (mnt / "s").mkdir()
    machine.umount(mnt)
    seed = configs[0].seed
    with contextlib.ExitStack() as running:
        machines = [running.enter_context(_started(*each)) for each in zip(configs, inside, strict=True)]
        for process in machines:
            assert _line(process) == "done"
        worked()
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
    assert not wrong, f"MODELFS_SEEDS={seed} MODELFS_STEPS={steps}: {len(wrong)} wrong; the first:\n" + "\n".join(
        wrong[:3]
    )
    assert sum(record.kills for record in records) == sum(config.kills for config in configs)
    assert checker.reads > ops // 4
    return records


@contextlib.contextmanager
def _started(config: Config, inside: list[str]):  # type: ignore[no-untyped-def]
    """A machine: a process with an environment of its own, started through the command ``inside``."""
    home = Path(config.directory) / "home"
    home.mkdir(parents=True)
    file = Path(config.directory) / "config.json"
    file.write_bytes(msgspec.json.encode(config))
    here = Path(__file__).parent
    path = [str(here), str(here.parent), str(here.parent.parent), os.environ.get("PYTHONPATH", "")]
    names = {name: str(home / name) for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME")}
    environment = {**os.environ, **names, "HOME": str(home), "PYTHONPATH": os.pathsep.join(filter(None, path))}
    environment.pop("XDG_RUNTIME_DIR", None)
    command = [*inside, sys.executable, str(here / "machineworker.py"), str(file)]
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
