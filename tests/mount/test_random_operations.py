"""Random operations on a mount and on a plain directory: the same results, and the same files after a remount.

A failure names its seed; `MODELFS_SEED=… pytest tests/mount/test_random_operations.py` replays it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mounting import Machine

SEED = int(os.environ.get("MODELFS_SEED", "0"))
BIGGEST = 12 << 20  # three chunks and more


@dataclass
class Twin:
    """The same operation on both sides; their answers must agree."""

    sides: tuple[Path, Path]
    rng: random.Random
    handles: list[tuple[int, int]] = field(default_factory=list)

    def both(self, action: Callable[[Path], object]) -> object:
        """Run on both directories; equal results or equal errnos."""
        answers = []
        for side in self.sides:
            try:
                answers.append(action(side))
            except OSError as error:
                answers.append(("errno", error.errno))
        assert answers[0] == answers[1]
        return answers[0]

    def begin(self) -> None:
        """The directories that the operations use."""
        for side in self.sides:
            (side / "d/e").mkdir(parents=True)
            (side / "e").mkdir()

    def run(self, steps: int, what: str) -> None:
        """Random operations; every handle is closed at the end."""
        operations = [self.open, self.open, self.write, self.write, self.write, self.append, self.read, self.read]
        operations += [self.truncate, self.sync, self.map, self.compare, self.rename, self.unlink, self.close]
        operations += [self.close, self.rename_directory, self.list, self.link, self.link, self.count]
        try:
            for step in range(steps):
                operation = self.rng.choice(operations)
                try:
                    operation()
                except AssertionError as error:
                    raise AssertionError(f"{what}, step {step}: {operation.__name__} differs") from error
        finally:
            while self.handles:
                with contextlib.suppress(OSError):
                    self.close()

    def pick(self) -> str:
        """A name, of a file that may exist."""
        return self.rng.choice(["a", "b", "d/a", "d/b", "d/e/a", "e/a"])

    def offset(self) -> int:
        """Somewhere in a file: often near its beginning, sometimes on a page boundary."""
        offset = int(BIGGEST * self.rng.random() ** 3)
        return offset & ~4095 if self.rng.random() < 0.3 else offset

    def data(self) -> bytes:
        """Random bytes, zeros or text; small ones more often."""
        length = int((2 << 20) * self.rng.random() ** 4) + 1
        kind = self.rng.random()
        if kind < 0.15:
            return bytes(length)
        if kind < 0.3:
            return (b"checkpoint %d " % length * (length // 10 + 1))[:length]
        return self.rng.randbytes(length)

    # -- operations ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Keep another handle open, created if need be."""
        name = self.pick()
        flags = os.O_RDWR | self.rng.choice([0, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_TRUNC, os.O_APPEND])
        pair = []
        for side in self.sides:
            try:
                pair.append(os.open(side / name, flags, 0o644))
            except OSError as error:
                pair.append(-(error.errno or 0))
        if pair[0] < 0 or pair[1] < 0:
            assert pair[0] == pair[1]
            return
        self.handles.append((pair[0], pair[1]))
        if len(self.handles) > 6:
            self.close()

    def close(self) -> None:
        """Close one of the handles."""
        if self.handles:
            for fd in self.handles.pop(self.rng.randrange(len(self.handles))):
                os.close(fd)

    def on_handle(self, action: Callable[[int], object]) -> None:
        """Run on one of the pairs of handles."""
        if not self.handles:
            return
        pair = self.rng.choice(self.handles)
        answers = []
        for fd in pair:
            try:
                answers.append(action(fd))
            except OSError as error:
                answers.append(("errno", error.errno))
        assert answers[0] == answers[1]

    def write(self) -> None:
        """pwrite somewhere."""
        offset, data = self.offset(), self.data()
        self.on_handle(lambda fd: os.pwrite(fd, data, offset))

    def append(self) -> None:
        """write() at the handle's own position."""
        data = self.data()
        self.on_handle(lambda fd: os.write(fd, data))

    def read(self) -> None:
        """pread somewhere."""
        offset, length = self.offset(), self.rng.randrange(1, 1 << 20)
        self.on_handle(lambda fd: os.pread(fd, length, offset))

    def truncate(self) -> None:
        """Cut or extend, by handle or by path."""
        size, name = self.offset(), self.pick()
        if self.rng.random() < 0.5:
            self.on_handle(lambda fd: os.ftruncate(fd, size))
        else:
            self.both(lambda side: os.truncate(side / name, size))

    def sync(self) -> None:
        """fsync a handle."""
        self.on_handle(os.fsync)

    def map(self) -> None:
        """Write through a shared mapping."""
        data, place = self.data(), self.rng.random()

        def through(fd: int) -> object:
            size = os.fstat(fd).st_size
            if size == 0:
                return None
            with mmap.mmap(fd, size) as mapped:
                at = int((size - 1) * place)
                piece = data[: size - at]
                mapped[at : at + len(piece)] = piece
                mapped.flush()
            return size

        self.on_handle(through)

    def compare(self) -> None:
        """All of one file."""
        name = self.pick()
        self.both(lambda side: (side / name).read_bytes())
        self.both(lambda side: (side / name).stat().st_size)

    def rename(self) -> None:
        """Over whatever is there."""
        old, new = self.pick(), self.pick()
        self.both(lambda side: os.rename(side / old, side / new))

    def unlink(self) -> None:
        """Also of open files."""
        name = self.pick()
        self.both(lambda side: os.unlink(side / name))

    def link(self) -> None:
        """Another name for a file, open or not."""
        old, new = self.pick(), self.pick()
        self.both(lambda side: os.link(side / old, side / new))

    def count(self) -> None:
        """Link counts, and which names are one file."""
        names = ["a", "b", "d/a", "d/b", "d/e/a", "e/a"]
        self.both(lambda side: _identities(side, names))

    def rename_directory(self) -> None:
        """d -> x -> d, with everything open in it."""
        self.both(lambda side: os.rename(side / "d", side / "x"))
        self.both(lambda side: sorted(os.listdir(side / "x")))
        self.both(lambda side: os.rename(side / "x", side / "d"))

    def list(self) -> None:
        """Names of a directory."""
        name = self.rng.choice([".", "d", "d/e", "e"])
        self.both(lambda side: sorted(os.listdir(side / name)))


def _identities(root: Path, names: list[str]) -> list[tuple[str, int, str]]:
    """(name, link count, first of its names) of the files that are there."""
    found: list[tuple[str, int, str]] = []
    first: dict[int, str] = {}
    for name in names:
        if (root / name).exists():
            facts = (root / name).stat()
            found.append((name, facts.st_nlink, first.setdefault(facts.st_ino, name)))
    return found


def _linked(root: Path) -> list[tuple[str, int, str]]:
    return _identities(root, sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()))


def _contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def _assert_same(found: dict[str, bytes], expected: dict[str, bytes], when: str) -> None:
    assert found.keys() == expected.keys(), when
    for name, data in expected.items():
        if found[name] != data:
            at = next((i for i, (a, b) in enumerate(zip(found[name], data, strict=False)) if a != b), None)
            wrong = sum(a != b for a, b in zip(found[name], data, strict=False))
            sizes = f"{len(found[name])} bytes, should have {len(data)}"
            raise AssertionError(f"{when}: {name} has {sizes}, first wrong at {at}, {wrong} wrong")


@pytest.mark.parametrize("options", [{}, {"write_back": True}], ids=["through", "write-back"])
@pytest.mark.parametrize("number", range(3))
def test_like_a_plain_directory(machine: Machine, store: str, tmp_path: Path, number: int, options: dict) -> None:  # type: ignore[type-arg]
    mnt = machine.mount(store, **options)
    plain = tmp_path / "plain"
    plain.mkdir()
    seed = SEED or 1000 + number
    twin = Twin((mnt, plain), random.Random(seed))
    twin.begin()
    twin.run(400, f"seed {seed}")
    expected = _contents(plain)
    _assert_same(_contents(mnt), expected, f"seed {seed}")
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    _assert_same(_contents(again), expected, f"seed {seed}, after a remount")
    assert _linked(again) == _linked(plain), f"seed {seed}, after a remount"


@pytest.mark.parametrize("options", [{}, {"write_back": True}], ids=["through", "write-back"])
@pytest.mark.parametrize("number", range(2))
def test_kill_loses_nothing_that_was_closed(
    machine: Machine,
    store: str,
    tmp_path: Path,
    number: int,
    options: dict,  # type: ignore[type-arg]
) -> None:
    """Files synced, names changed, then kill -9: the next mount has all of it, whatever was on its way."""
    plain = tmp_path / "plain"
    plain.mkdir()
    seed = SEED or 2000 + number
    mnt = machine.mount(store, **options)
    twin = Twin((mnt, plain), random.Random(seed))
    twin.begin()
    for round_ in range(4):
        what = f"seed {seed}, round {round_}"
        twin.run(80, what)
        for path in mnt.rglob("*"):
            if path.is_file():
                fd = os.open(path, os.O_RDWR)
                os.fsync(fd)
                os.close(fd)
        twin.rename()
        twin.unlink()
        twin.rename_directory()
        twin.both(lambda side: os.rename(side / "d", side / "moved"))
        machine.kill(mnt)
        machine.mount(store, **options)
        _assert_same(_contents(mnt), _contents(plain), f"{what}, after the kill; the log: {machine.log()[-2000:]}")
        names = [sorted(str(p.relative_to(side)) for p in side.rglob("*")) for side in twin.sides]
        assert names[0] == names[1], what
        assert _linked(mnt) == _linked(plain), what
        twin.both(lambda side: os.rename(side / "moved", side / "d"))
    machine.umount(mnt)
    _assert_same(_contents(machine.mount(store, "again", "cold")), _contents(plain), f"seed {seed}, after a remount")
