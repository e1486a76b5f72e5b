"""kill -9 at random moments of a save/rename/delete workload, again and again: what was acknowledged is there.

A few rounds by default; `MODELFS_KILL_ROUNDS=200 pytest tests/faults/test_kill_rounds.py` makes as many of each half,
`MODELFS_KILL_SEED` chooses the moments. The write-back half fails if nothing was pending at its kills: then it would
prove nothing. Then kills that are not random: at every single change of the store, and at every sync of the journal.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faultystore import Faults, Plan, Scripted
from history import History, fingerprint
from mounting import Machine, eventually
from saver import GONE, Saver

from modelfs.journal.log import Staged, read_log, unfinished
from modelfs.repository.objects import Kind
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

ROUNDS = int(os.environ.get("MODELFS_KILL_ROUNDS", "6"))
SEED = int(os.environ.get("MODELFS_KILL_SEED", "1"))
SAVERS = 4


def _pending(machine: Machine) -> int:
    """Acknowledged saves that only the journals of dead mounts hold."""
    logs = (machine.directory.parent / "state").glob("modelfs/journal/*/main/*/log")
    return sum(isinstance(change, Staged) for log in logs for change in unfinished(read_log(log))[1])


def _read_everything(store: str) -> int:
    """Read and verify all that every commit reaches; how many commits."""
    history = History(store)
    repo = Repository.open(open_store(store))
    head = history.commits[-1].commit.root
    for _, entry in repo.walk(head.content):  # type: ignore[arg-type]
        assert entry.kind in (Kind.DIRECTORY, Kind.INLINE, Kind.FILE)
    assert history.doubled() == []
    return len(history.commits)


@pytest.mark.timeout(60 + 6 * ROUNDS)
@pytest.mark.parametrize("write_back", [False, True], ids=["through", "write-back"])
def test_rounds(machine: Machine, store: str, tmp_path: Path, write_back: bool) -> None:
    rng = random.Random(f"{SEED} {write_back}")
    # A store that is not too fast, so that something is on its way at each kill.
    slow = Plan(SEED, {"slow": {"put": 0.5 if write_back else 0.05}}, seconds=0.05)
    faults = Faults(tmp_path / "faults", slow)
    mnt = machine.mount(store, faults=faults, write_back=write_back)
    must: dict[int, dict[str, str]] = {}
    for number in range(SAVERS):
        (mnt / f"saver{number}").mkdir()
        must[number] = {}
    fd = os.open(mnt, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    acknowledged = pending = cut = 0
    for round_ in range(ROUNDS):
        stop = threading.Event()
        savers = [
            Saver(mnt / f"saver{n}", f"{SEED} {round_} {n}", must[n], names_sync=n % 2 == 0, stop=stop)
            for n in range(SAVERS)
        ]
        for saver in savers:
            saver.start()
        time.sleep(rng.uniform(0.05, 0.8))
        machine.kill(mnt)
        stop.set()
        for saver in savers:
            saver.join(60)
        pending += _pending(machine)
        cut += sum(bool(saver.may) for saver in savers)
        machine.mount(store, faults=faults, write_back=write_back)
        wrong = [what for saver in savers if (what := saver.verify() or saver.failure)]
        assert not wrong, f"MODELFS_KILL_SEED={SEED}, round {round_}: {wrong}; the log: {machine.log()[-3000:]}"
        for number, saver in enumerate(savers):
            must[number] = saver.must
            acknowledged += saver.acknowledged
    machine.umount(mnt)
    commits = _read_everything(store)
    expected = {f"saver{n}/{name}": value for n, files in must.items() for name, value in files.items()}
    assert History(store).final() == expected
    sys.stderr.write(
        f"{ROUNDS} kills: {acknowledged} operations acknowledged, {cut} cut short, {pending} saves pending, "
        f"{commits} commits\n"
    )
    assert acknowledged > 5 * ROUNDS
    assert cut, "no kill came in the middle of anything"
    if write_back:
        assert pending >= ROUNDS // 2, "hardly anything was pending at the kills: nothing was proved"


class Saved:
    """The files of a mount that dies: what must be there, and what the last save may have left."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.must: dict[str, str] = {}
        self._may: dict[str, str] = {}

    def check(self, mnt: Path, when: str) -> None:
        """Everything acknowledged, and the save that was cut short whole or not at all."""
        found = {path.name: fingerprint(path.read_bytes()) for path in mnt.iterdir()}
        assert found in (self.must, {**self.must, **self._may}), when
        self.must, self._may = found, {}

    def save(self, path: Path) -> bool:
        """Write a file, and wait for its upload; True when the daemon has outlived it."""
        data = os.urandom(9000)
        self._may = {path.name: fingerprint(data)}
        try:
            path.write_bytes(data)
        except OSError as error:
            assert error.errno in GONE
            eventually(lambda: self._machine.dead(path.parent), "the death of the daemon")
            return False
        self.must, self._may = {**self.must, **self._may}, {}
        eventually(self._settled(path.parent), "the upload, or the death of the daemon")
        return not self._machine.dead(path.parent)

    def _settled(self, mnt: Path) -> Callable[[], bool]:
        return lambda: self._machine.dead(mnt) or self._machine.status(mnt).get("pending") is False


@pytest.mark.parametrize("fault", ["kill", "kill_after"])
@pytest.mark.parametrize("write_back", [False, True], ids=["through", "write-back"])
def test_at_every_change_of_the_store(
    machine: Machine, store: str, tmp_path: Path, fault: str, write_back: bool
) -> None:
    """The daemon dies before, or right after, the first change of a save, the second, …"""
    faults = Faults(tmp_path / "faults")
    saved = Saved(machine)
    for nth in itertools.count(1):
        mnt = machine.mount(store, faults=faults, write_back=write_back)
        saved.check(mnt, f"after a kill at change {nth - 1}")
        faults.set(script=(Scripted(fault, "change", nth=nth),))
        survived = saved.save(mnt / "f")
        faults.set()
        if survived:
            break
    assert nth > 4, "a chunk, a manifest, a tree and a commit at least"
    machine.umount(mnt)
    assert History(store).final() == saved.must
    _read_everything(store)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_at_every_sync_of_a_write_back_save(machine: Machine, store: str, call: str) -> None:
    """The daemon dies at the first sync of a save, of its journal or of the store, the second, …"""
    saved = Saved(machine)
    for nth in itertools.count(1):
        mnt = machine.mount(store, write_back=True)
        saved.check(mnt, f"after a kill at {call} {nth - 1}")
        with _killed_at(machine.pid(mnt), call, nth):
            survived = saved.save(mnt / f"f{nth}")
        if survived:
            break
    assert nth > 2, "nothing was tested"
    machine.umount(mnt)
    assert History(store).final() == saved.must


@contextlib.contextmanager
def _killed_at(pid: int, call: str, nth: int) -> Iterator[None]:
    """The process dies when one of its threads makes the system call for the ``nth`` time."""
    inject = f"inject={call}:signal=KILL:when={nth}"
    command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", inject, "-p", str(pid)]
    with subprocess.Popen(command) as tracer:
        try:
            eventually(lambda: _traced(pid), "strace to attach")
            yield
        finally:
            tracer.terminate()


def _traced(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task").glob("*/status")
    return all("TracerPid:\t0\n" not in task.read_text() for task in tasks)
