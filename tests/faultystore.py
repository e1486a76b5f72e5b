"""A store that fails as told, for tests of what stands above it.

`FaultyStore` has three places where a test can step in. `Plan` is a description of faults, by chance or by script, that
fits into a file, so that it can steer the store inside another process's mount: `Faults` is the test's end of that
file, `Steered` the other end, which `faultydaemon` puts under a real mount.

What strikes an operation by chance depends on the seed, the operation, its key and how often that was asked, and on
nothing else: threads that run in another order do not change it.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from modelfs.errors import TransientError
from modelfs.store.base import Buffer, ObjectInfo, Store, StoreProperties

Fault = Callable[[str, str], None]  # (operation, key): raises to fail before the operation
Spoil = Callable[[str, str, bytes], bytes]  # (operation, key, data read): what arrives instead

VARIABLE: Final = "MODELFS_TEST_FAULTS"
CHANGES: Final = ("put", "put_if_absent", "delete")


class FaultyStore:
    """Calls ``before`` ahead of each operation and ``after`` behind it: raising there loses the acknowledgement."""

    def __init__(
        self, inner: Store, before: Fault | None = None, after: Fault | None = None, spoil: Spoil | None = None
    ) -> None:
        self._inner = inner
        self._before = before or (lambda operation, key: None)
        self._after = after or (lambda operation, key: None)
        self._spoil = spoil or (lambda operation, key, data: data)

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def properties(self) -> StoreProperties:
        return self._inner.properties

    @property
    def local_root(self) -> Path | None:
        root = getattr(self._inner, "local_root", None)
        return root if isinstance(root, Path) else None

    def get(self, key: str) -> bytes:
        self._before("get", key)
        data = self._spoil("get", key, bytes(self._inner.get(key)))
        self._after("get", key)
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self._before("get_range", key)
        data = self._spoil("get_range", key, self._inner.get_range(key, start, length))
        self._after("get_range", key)
        return data

    def put(self, key: str, data: Buffer) -> None:
        self._before("put", key)
        self._inner.put(key, data)
        self._after("put", key)

    def put_if_absent(self, key: str, data: Buffer) -> None:
        self._before("put_if_absent", key)
        self._inner.put_if_absent(key, data)
        self._after("put_if_absent", key)

    def size(self, key: str) -> int | None:
        self._before("size", key)
        size = self._inner.size(key)
        self._after("size", key)
        return size

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._before("list", prefix)
        return self._inner.list(prefix)

    def delete(self, key: str) -> None:
        self._before("delete", key)
        self._inner.delete(key)
        self._after("delete", key)

    def close(self) -> None:
        self._inner.close()


class Scripted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault at one place: from the ``nth`` operation on that fits, so many ``times``."""

    fault: str
    operation: str = "*"  # or one name, or "change": all that change the store
    prefix: str = ""  # of the key
    nth: int = 1
    times: int = 1
    then_away: bool = False  # every later operation fails, as if the line had been cut


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the store does to whom. Faults:

    error, throttled, timeout     nothing happened (timeout: after ``seconds``)
    lost                          it took effect, the answer is lost
    slow                          it takes ``seconds`` longer
    torn                          what is read is cut short or has a flipped bit
    stale                         a listing lacks what was written last
    kill, kill_after              this process dies before the operation, or between its effect and the answer
    """

    seed: int = 0
    chances: dict[str, dict[str, float]] = {}  # fault -> operation, "*" for all -> chance
    script: tuple[Scripted, ...] = ()
    away: bool = False  # every operation fails
    seconds: float = 0.02
    note: bool = False  # write every operation down, for `Faults.operations`


class Faults:
    """The test's end: sets the plan and reads what was done."""

    def __init__(self, directory: Path, plan: Plan | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "plan.json"
        self._done = directory / "plan.log"
        self.set(plan or Plan())

    def set(self, plan: Plan | None = None, /, **what: Any) -> None:
        """From now on ``plan`` holds, or one of these fields."""
        partial = self._path.with_suffix(".new")
        partial.write_bytes(msgspec.json.encode(plan or Plan(**what)))
        self._done.write_text("")
        partial.replace(self._path)

    def struck(self) -> Counter[str]:
        """How often each fault struck under the present plan."""
        return Counter(line.split()[0] for line in self._done.read_text().splitlines() if line[0] != "-")

    def operations(self) -> list[tuple[str, str]]:
        """(operation, key) of everything that was asked under the present plan, which must say ``note``."""
        lines = (line.split(" ") for line in self._done.read_text().splitlines() if line[0] == "-")
        return [(line[1], line[2]) for line in lines]

    def environment(self) -> dict[str, str]:
        """What `faultydaemon` must find in its environment."""
        here = str(Path(__file__).parent)
        path = os.environ.get("PYTHONPATH", "")
        return {VARIABLE: str(self._path), "PYTHONPATH": os.pathsep.join([here, *([path] if path else [])])}


class Steered:
    """The hooks of a `FaultyStore` that follow the plan in a file, and notice when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done = os.open(path.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._version = (0, 0)
        self._plan = Plan()
        self._asked: Counter[tuple[str, str]] = Counter()
        self._matched: Counter[int] = Counter()
        self._cut = False
        self._here = threading.local()

    def over(self, inner: Store) -> FaultyStore:
        """``inner`` with faults."""
        return _SteeredStore(self, inner)

    def before(self, operation: str, key: str) -> None:
        """Choose what strikes this operation, and do what comes ahead of its effect."""
        plan, fault, chance = self._choose(operation, key)
        self._here.fault, self._here.chance = fault, chance
        if fault in ("slow", "timeout"):
            time.sleep(plan.seconds)
        if fault in ("error", "throttled", "timeout", "away") or (fault == "lost" and operation not in CHANGES):
            raise TransientError(f"injected: {fault}", key)
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    def after(self, operation: str, key: str) -> None:
        """Do what comes between the effect and the answer."""
        if self._here.fault == "lost":
            self._write("lost", operation, key)  # now that it took effect: who reads of it looks for what it did
            raise TransientError("injected: the answer is lost", key)
        if self._here.fault == "kill_after":
            os.kill(os.getpid(), signal.SIGKILL)

    def spoil(self, operation: str, key: str, data: bytes) -> bytes:
        """What arrives of what was read."""
        if self._here.fault != "torn" or not data:
            return data
        at = self._here.chance.randrange(len(data))
        if self._here.chance.random() < 0.5:
            return data[:at]
        return data[:at] + bytes([data[at] ^ 1 << self._here.chance.randrange(8)]) + data[at + 1 :]

    def listed(self, found: list[ObjectInfo]) -> list[ObjectInfo]:
        """What a listing shows."""
        if self._here.fault != "stale" or not found:
            return found
        return sorted(found, key=lambda info: info.mtime)[: -self._here.chance.randint(1, len(found))]

    def _choose(self, operation: str, key: str) -> tuple[Plan, str, random.Random]:
        with self._lock:
            self._follow()
            plan = self._plan
            self._asked[operation, key] += 1
            chance = random.Random(f"{plan.seed} {operation} {key} {self._asked[operation, key]}")
            fault = self._scripted(operation, key) or self._by_chance(operation, chance)
            if plan.away or (self._cut and not fault):
                fault = "away"
            if (fault and (fault != "lost" or operation not in CHANGES)) or plan.note:
                self._write(fault or "-", operation, key)
            return plan, fault, chance

    def _write(self, fault: str, operation: str, key: str) -> None:
        os.write(self._done, f"{fault} {operation} {key}\n".encode())

    def _follow(self) -> None:
        facts = self._path.stat()
        if (version := (facts.st_ino, facts.st_mtime_ns)) != self._version:
            self._version = version
            self._plan = msgspec.json.decode(self._path.read_bytes(), type=Plan)
            self._asked.clear()
            self._matched.clear()
            self._cut = False

    def _scripted(self, operation: str, key: str) -> str:
        for number, line in enumerate(self._plan.script):
            kind = operation in CHANGES if line.operation == "change" else line.operation in ("*", operation)
            if kind and key.startswith(line.prefix):
                self._matched[number] += 1
                if line.nth <= self._matched[number] < line.nth + line.times and not self._cut:
                    self._cut = line.then_away
                    return line.fault
        return ""

    def _by_chance(self, operation: str, chance: random.Random) -> str:
        for fault, chances in self._plan.chances.items():
            if chance.random() < chances.get(operation, chances.get("*", 0.0)):
                return fault
        return ""


class _SteeredStore(FaultyStore):
    def __init__(self, steered: Steered, inner: Store) -> None:
        super().__init__(inner, steered.before, steered.after, steered.spoil)
        self._steered = steered

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return iter(self._steered.listed(list(super().list(prefix))))
