"""Eight ranks on two mounts of one store save checkpoints (PyTorch DCP), others read them, rotation and gc free space.

`MODELFS_TRAINING_STEPS=200 pytest tests/frameworks/test_distributed_training.py` is the long run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mounting import Machine, eventually
from running import runner

TRAINER = Path(__file__).with_name("trainer.py")
STEPS = int(os.environ.get("MODELFS_TRAINING_STEPS", "4"))
KEPT = 3
GRACE = "2s"


class Job:
    """A job and the lines that it says."""

    def __init__(self, directory: Path, steps: int, mounts: list[Path]) -> None:
        rendezvous = directory / f"rendezvous-{len(list(directory.glob('rendezvous-*')))}"
        command = [sys.executable, TRAINER, str(steps), rendezvous, *mounts]
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        self.said: list[dict[str, Any]] = []

    def lines(self) -> Iterator[dict[str, Any]]:
        """What it says from now on, as it says it."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(json.loads(line))
            yield self.said[-1]

    def all(self, what: str) -> list[Any]:
        """Values of all lines of a kind so far."""
        return [line[what] for line in self.said if what in line]

    def finish(self) -> None:
        """Wait for its end, which must be a good one."""
        for _ in self.lines():
            pass
        assert not self.all("wrong"), "\n".join(self.all("wrong"))
        assert self._process.wait(60) == 0

    def kill(self) -> None:
        """kill -9 of all its processes."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def jobs() -> Iterator[list[Job]]:
    """Jobs that are ended whatever happens."""
    made: list[Job] = []
    yield made
    for job in made:
        job.kill()


class Collections:
    """`modelfs gc` again and again."""

    def __init__(self, directory: Path, store: str) -> None:
        self._run = runner(directory)
        self._store = store
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._collect)
        self.deleted = 0
        self.failure: BaseException | None = None

    def once(self, *options: str) -> None:
        """One run."""
        self.deleted += self._run("gc", self._store, "--keep-last", "1", "--json", *options).json["deleted"]

    def _collect(self) -> None:
        try:
            while not self._done.wait(1.5):
                self.once("--grace", GRACE)
        except BaseException as error:  # noqa: BLE001  # handed to the test's own thread
            self.failure = error

    def __enter__(self) -> Collections:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


@pytest.mark.timeout(120 + 10 * STEPS)
def test_ranks_on_two_mounts(machine: Machine, store: str, tmp_path: Path, jobs: list[Job]) -> None:
    collections = Collections(tmp_path, store)
    collections.once("--grace", GRACE, "--exclusive")  # makes it known to who opens the store from now on
    mounts = [machine.mount(store, name, f"cache-{name}", refresh=0.2) for name in ("a", "b")]
    with collections:
        jobs.append(Job(tmp_path, STEPS, mounts))
        jobs[-1].finish()
        assert jobs[-1].all("saved") == list(range(1, STEPS + 1))
        # A job that dies while its ranks write: what it had saved is there, what it was saving is no checkpoint.
        jobs.append(Job(tmp_path, 2, mounts))
        next(line for line in jobs[-1].lines() if line.get("saving") == STEPS + 2)
        eventually(lambda: list(mounts[0].glob(f"step-{STEPS + 2}/__*")), "the first file of a checkpoint")
        jobs[-1].kill()
        jobs.append(Job(tmp_path, 1, mounts))
        jobs[-1].finish()
    assert collections.failure is None
    assert jobs[-1].all("resumed")[0] in (STEPS + 1, STEPS + 2)
    assert all(count for job in jobs[::2] for count in job.all("read")), "a reader that read nothing proves nothing"
    assert collections.deleted > 0, "nothing was deleted, so nothing was tested"
    last = jobs[-1].all("saved")[-1]
    kept = sorted(f"step-{step}" for step in range(last - KEPT + 1, last + 1))
    for mnt in mounts:
        eventually(lambda mnt=mnt: sorted(os.listdir(mnt)) == kept, "the rotation on both mounts")
        machine.umount(mnt)
    for _ in range(2):
        collections.once("--grace", "0s", "--exclusive")
    found = runner(tmp_path)("fsck", store, "--read-data", "--json").json
    assert found["clean"]
    assert found["orphans"]["chunks"] == 0
    assert found["manifests"] == KEPT * 8, "of each rank's file; .metadata is so small that it lies in the directory"
    sys.stderr.write(f"{last} checkpoints, {collections.deleted} objects deleted, fsck: {found}\n")
