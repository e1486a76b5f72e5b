"""One machine of `test_machines`: a process with caches, journals and a mount of its own, whose threads work at random.

    python machineworker.py CONFIG.json        (a `Config`; commands are lines on standard input)

Every operation is recorded with the instants before and after it and the fingerprints of what it read or wrote. Each
thread has a directory that it alone changes: there it knows what it must find, to the byte, and says so at once. All
threads of all machines write in one shared directory: what they find there is judged afterwards (`checker`).

The daemon is killed and mounted again in between; the store below it fails, by chance and in outages.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from faultystore import Faults, Plan
from history import ABSENT, fingerprint
from mounting import Machine

from modelfs.errors import ModelfsError

SHARED = [f"s/p{i}" for i in range(12)]
DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV)
PATIENCE = 60.0  # seconds for a mount to come back


class Config(msgspec.Struct, frozen=True):
    """What one machine does."""

    store: str
    directory: str
    machine: int
    machines: int
    seed: int
    threads: int
    steps: int  # of each thread
    refresh: float
    write_back: bool
    kills: int
    outages: int
    weather: Plan


class Op(msgspec.Struct):
    """One operation on one path: ``value`` is what was read or what it makes the path be. ``ok`` False: it failed, its
    effect may be there or not. Times are `time.time_ns` before and after."""

    machine: int
    thread: int
    number: int
    kind: str
    path: str
    value: str
    begin: int
    end: int
    ok: bool
    note: str = ""

    @property
    def changes(self) -> bool:
        return self.kind not in ("read", "slow-read")


class Record(msgspec.Struct):
    """What a machine reports at its end."""

    ops: list[Op]
    wrong: list[str]
    models: dict[str, dict[str, str]]  # private directory -> path -> fingerprint
    errors: int
    kills: int


class Worker:
    """The mount of this machine and what its threads share."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.machine = Machine(Path(config.directory))
        self.faults = Faults(Path(config.directory) / "faults")
        self.alive = threading.Event()
        self.locks = {path: threading.Lock() for path in SHARED}
        self.lock = threading.Lock()
        self.done = 0
        self.ops: list[Op] = []
        self.wrong: list[str] = []
        self.errors = self.kills = 0
        self.mnt = self.machine.directory / "mnt"

    def mount(self) -> None:
        """Mount, if need be with a store that does not fail."""
        for _ in range(3):
            with contextlib.suppress(ModelfsError):
                self.machine.mount(
                    self.config.store,
                    faults=self.faults,
                    refresh=self.config.refresh,
                    write_back=self.config.write_back,
                )
                self.alive.set()
                return
            self.faults.set()
        raise RuntimeError("cannot mount: " + self.machine.log()[-3000:])

    def run(self) -> Record:
        """The whole of the work: threads, kills, outages, and the end of all of them."""
        config = self.config
        self.mount()
        self.faults.set(config.weather)
        threads = [Thread(self, number) for number in range(config.threads)]
        for thread in threads:
            thread.start()
        rng = random.Random(f"{config.seed} {config.machine} trouble")
        total = config.threads * config.steps
        trouble = sorted(
            (rng.uniform(0.05, 0.95) * total, what)
            for what, count in (("kill", config.kills), ("outage", config.outages))
            for _ in range(count)
        )
        for when, what in trouble:
            while self.done < when and any(thread.is_alive() for thread in threads):
                time.sleep(0.005)
            if what == "kill":
                self.kill()
            else:
                self.faults.set(away=True)
                time.sleep(rng.uniform(0.05, 0.3))
                self.faults.set(config.weather)
        for thread in threads:
            thread.join()
        self.faults.set()
        self.machine.drain(self.mnt)
        models = {thread.home: dict(thread.model) for thread in threads}
        return Record(self.ops, self.wrong, models, self.errors, self.kills)

    def kill(self) -> None:
        """kill -9 in the middle of whatever is going on, and a new mount."""
        self.alive.clear()
        self.machine.kill(self.mnt)
        self.kills += 1
        self.mount()
        self.faults.set(self.config.weather)

    def tree(self) -> dict[str, str]:
        """Every file of the mount."""
        files = (path for path in sorted(self.mnt.rglob("*")) if path.is_file())
        return {str(path.relative_to(self.mnt)): fingerprint(path.read_bytes()) for path in files}


class Thread(threading.Thread):
    """One writer: its own directory and its part in the shared one."""

    def __init__(self, worker: Worker, number: int) -> None:
        super().__init__(name=f"worker {number}")
        self.worker = worker
        self.number = number
        self.home = f"m{worker.config.machine}/t{number}"
        self.rng = random.Random(f"{worker.config.seed} {worker.config.machine} {number}")
        self.model: dict[str, str] = {}  # path -> fingerprint, of the own directory
        self.contents: dict[str, bytes] = {}  # fingerprint -> bytes, of what this thread may find there
        self.count = 0

    def run(self) -> None:
        try:
            self.retry(lambda: os.makedirs(self.path(self.home), exist_ok=True))
            for count in range(self.worker.config.steps):
                self.count = count
                self.step()
                self.worker.done += 1
        except Exception as error:  # noqa: BLE001  # reported with everything else
            self.complain(f"{type(error).__name__}: {error}")

    def complain(self, what: str) -> None:
        self.worker.wrong.append(f"machine {self.worker.config.machine} thread {self.number} step {self.count}: {what}")

    def path(self, path: str) -> Path:
        return self.worker.mnt / path

    def step(self) -> None:
        """One operation."""
        choice = self.rng.random()
        if choice < 0.30:
            self.read_shared()
        elif choice < 0.42:
            self.write_shared()
        elif choice < 0.48:
            self.replace_shared()
        elif choice < 0.53:
            self.unlink_shared()
        elif choice < 0.70:
            self.read_other()
        elif choice < 0.84:
            self.read_own()
        elif choice < 0.90:
            self.write_own()
        elif choice < 0.94:
            self.append_own()
        elif choice < 0.97:
            self.rename_own()
        else:
            self.unlink_own()

    # -- what everything is made of -----------------------------------------------------------------------------

    def content(self) -> bytes:
        """Bytes that nobody else writes, of a size that is inline or not."""
        size = self.rng.randrange(60, 3000) if self.rng.random() < 0.6 else self.rng.randrange(5000, 30_000)
        head = f"{self.home} {self.count} {self.rng.getrandbits(60)} ".encode()
        return (head * (size // len(head) + 1))[:size]

    @contextlib.contextmanager
    def recorded(self, kind: str, path: str, value: str = "") -> Iterator[Op]:
        """Record what happens inside. An OSError is swallowed: then the operation has failed."""
        config = self.worker.config
        op = Op(config.machine, self.number, self.count, kind, path, value, time.time_ns(), 0, ok=False)
        try:
            yield op
            op.ok = True
        except OSError as error:
            op.note = (op.note + " " + errno.errorcode.get(error.errno or 0, "?")).strip()
            self.worker.errors += 1
            if error.errno not in (errno.EIO, *DEAD):
                self.complain(f"{kind} {path}: {error}")
        op.end = time.time_ns()
        self.worker.ops.append(op)
        if not op.ok:
            self.wait()

    def wait(self) -> None:
        """Until there is a mount again."""
        if not self.worker.alive.wait(PATIENCE):
            raise RuntimeError("no mount any more")
        time.sleep(self.rng.uniform(0, 0.02))

    def retry(self, action: Callable[[], Any]) -> Any:
        """Until the store and the mount are back."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return action()
            except OSError as error:
                if error.errno not in (errno.EIO, *DEAD) or time.monotonic() > deadline:
                    raise
                self.wait()

    def sync_directory(self, path: str) -> None:
        fd = os.open(self.path(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def read(self, path: str) -> str:
        try:
            return fingerprint(self.path(path).read_bytes())
        except FileNotFoundError:
            return ABSENT

    def read_slowly(self, path: str) -> str:
        """In two halves, with the world going on in between."""
        try:
            with self.path(path).open("rb", buffering=0) as file:
                first = file.read(max(1, os.fstat(file.fileno()).st_size // 2))
                time.sleep(0.01)
                return fingerprint(first + file.readall())
        except FileNotFoundError:
            return ABSENT

    # -- the shared directory -----------------------------------------------------------------------------------

    def shared(self) -> str:
        return self.rng.choice(SHARED)

    def read_shared(self) -> None:
        path = self.shared()
        slowly = self.rng.random() < 0.15
        # A file that this machine is just writing is half written for this machine: that is no fault.
        with self.worker.locks[path], self.recorded("slow-read" if slowly else "read", path) as op:
            op.value = self.read_slowly(path) if slowly else self.read(path)

    def write_shared(self) -> None:
        path, data = self.shared(), self.content()
        with self.worker.locks[path], self.recorded("write", path, fingerprint(data)):
            self.write(path, data)

    def write(self, path: str, data: bytes) -> None:
        with self.path(path).open("wb", buffering=0) as file:
            half = len(data) // 2
            file.write(data[:half])
            file.write(data[half:])

    def replace_shared(self) -> None:
        path, data = self.shared(), self.content()
        temporary = f"{self.home}/tmp"
        value = fingerprint(data)
        with self.recorded("write", temporary, value) as op:
            self.write(temporary, data)
        if not op.ok:
            self.retry(lambda: self.path(temporary).unlink(missing_ok=True))
            return
        with self.worker.locks[path], self.recorded("replace", path, value) as op:
            os.rename(self.path(temporary), self.path(path))
            op.note = "renamed"
            self.sync_directory("s")
        if not op.ok:
            self.retry(lambda: self.path(temporary).unlink(missing_ok=True))

    def unlink_shared(self) -> None:
        path = self.shared()
        with self.worker.locks[path], self.recorded("unlink", path, ABSENT) as op:
            try:
                self.path(path).unlink()
            except FileNotFoundError:
                op.kind = "read"
            else:
                self.sync_directory("s")

    def read_other(self) -> None:
        """A file in the directory of a thread of another machine."""
        config = self.worker.config
        other = self.rng.choice([m for m in range(config.machines) if m != config.machine])
        path = f"m{other}/t{self.rng.randrange(config.threads)}/{self.rng.choice('abc')}"
        with self.recorded("read", path) as op:
            op.value = self.read(path)

    # -- the own directory --------------------------------------------------------------------------------------

    def own(self) -> str:
        return f"{self.home}/{self.rng.choice('abc')}"

    def read_own(self) -> None:
        path = self.own()
        with self.recorded("read", path) as op:
            op.value = self.read(path)
            if op.value != (expected := self.model.get(path, ABSENT)):
                self.complain(f"{path} is {op.value}, must be {expected}")

    def write_own(self) -> None:
        path, data = self.own(), self.content()
        self.change("write", {path: data}, lambda: self.write(path, data))

    def append_own(self) -> None:
        path = self.own()
        before = self.contents.get(self.model.get(path, ABSENT), b"")
        piece = self.content()[:800]
        if len(before) > 60_000:
            before = b""
            self.change("write", {path: piece}, lambda: self.write(path, piece))
            return

        def append() -> None:
            with self.path(path).open("ab", buffering=0) as file:
                file.write(piece)

        self.change("append", {path: before + piece}, append)

    def rename_own(self) -> None:
        old, new = self.own(), self.own()
        if old == new or old not in self.model:
            return
        moved = self.contents[self.model[old]]

        def rename() -> None:
            os.rename(self.path(old), self.path(new))
            self.after_name()

        self.change("rename", {old: None, new: moved}, rename)

    def unlink_own(self) -> None:
        path = self.own()
        if path not in self.model:
            return

        def unlink() -> None:
            self.path(path).unlink()
            self.after_name()

        self.change("unlink", {path: None}, unlink)

    def after_name(self) -> None:
        """A change of a name has returned: from now on it must not be lost."""
        self.returned = True
        self.sync_directory(self.home)

    def change(self, kind: str, effects: dict[str, bytes | None], action: Callable[[], None]) -> None:
        """Change the own directory; after a failure find out what is there, which must be before or after, whole."""
        before = dict(self.model)
        after = self.applied(before, effects)
        self.returned = False
        ops = []
        with contextlib.ExitStack() as recording:
            for path, data in effects.items():
                value = ABSENT if data is None else fingerprint(data)
                ops.append(recording.enter_context(self.recorded(kind, path, value)))
            action()
        if all(op.ok for op in ops):  # the first to hear of a failure keeps it from the others
            self.model = after
            return
        for op in ops:
            op.ok = False
        candidates = [after] if self.returned else [before, after]
        if kind == "write" and not self.returned:
            candidates.append(self.applied(before, dict.fromkeys(effects, b"")))
        self.repair(candidates, effects)

    def applied(self, model: dict[str, str], effects: dict[str, bytes | None]) -> dict[str, str]:
        changed = dict(model)
        for path, data in effects.items():
            if data is None:
                changed.pop(path, None)
            else:
                changed[path] = fingerprint(data)
                self.contents[changed[path]] = data
        return changed

    def repair(self, candidates: list[dict[str, str]], effects: dict[str, bytes | None]) -> None:
        """Look until there is an answer, then write what was to be changed anew, until that is acknowledged."""
        for attempt in range(1000):
            found = self.retry(self.look)
            if found not in candidates:
                self.complain(f"after a failure of {sorted(effects)}: {found} is none of {candidates}")
            fresh = {path: self.content() + b"%d" % attempt for path in effects if path in found}
            ok = True
            for path, data in fresh.items():
                candidates.append(self.applied(found, {path: data}))
                with self.recorded("write", path, fingerprint(data)) as op:
                    self.write(path, data)
                if not op.ok:
                    candidates.append(self.applied(found, {path: b""}))
                    ok = False
                    break
                found = self.applied(found, {path: data})
            if ok:
                try:
                    self.sync_directory(self.home)
                except OSError:
                    self.wait()
                else:
                    self.model = found
                    return
        raise RuntimeError("the store never came back")

    def look(self) -> dict[str, str]:
        found = {}
        for name in os.listdir(self.path(self.home)):
            if name != "tmp":
                found[f"{self.home}/{name}"] = fingerprint(self.path(f"{self.home}/{name}").read_bytes())
        return found


def main() -> None:
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Config)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    worker = Worker(config)
    try:
        record = worker.run()
        Path(config.directory, "record.json").write_bytes(msgspec.json.encode(record))
        sys.stdout.write("done\n")
        sys.stdout.flush()
        for _ in sys.stdin:  # each line asks for the tree
            sys.stdout.write(msgspec.json.encode(worker.tree()).decode() + "\n")
            sys.stdout.flush()
        worker.machine.umount(worker.mnt)
    finally:
        worker.machine.close()


if __name__ == "__main__":
    main()
