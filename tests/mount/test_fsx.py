"""One file under random operations of every kind, against its bytes in memory: what fsx does, in our own words.

Reads, writes and truncations, through descriptors and through mappings, copies, preallocation, holes, syncs, closing
and opening, other names; the whole file is compared at times here, and by a second process that opens it anew. The
steps follow from a seed alone and each makes sense by itself, so a failing run is cut down to the few steps that
matter, which are then shown; ``MODELFS_FSX_REPLAY=FILE`` runs such a list again, ``MODELFS_FSX_OPERATIONS=1000000`` is
the long run and ``MODELFS_SEED`` another one.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import itertools
import json
import mmap
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from mounting import Machine

OPERATIONS = int(os.environ.get("MODELFS_FSX_OPERATIONS", "2500"))
SEED = int(os.environ.get("MODELFS_SEED", "1"))
BIGGEST = 3 << 20  # several chunks, and small enough to be compared often
LONGEST = 160 << 10
PUNCH_HOLE, KEEP_SIZE = 2, 1
SHRINKING_RUNS = 60  # attempts at making a failing list shorter

Step = list[Any]  # the operation's name, then its numbers

READER = """
import hashlib, sys
for line in sys.stdin:
    with open(line[:-1], "rb") as file:
        print(hashlib.sha256(file.read()).hexdigest(), flush=True)
"""


def steps(seed: int, count: int) -> Iterator[Step]:
    """Random steps. Places are clipped to the file when a step is made."""
    rng = random.Random(seed)
    kinds = {
        "write": 20, "read": 20, "map_write": 12, "map_read": 12, "truncate": 6, "allocate": 2, "punch": 3,
        "copy": 5, "sync": 2, "reopen": 3, "link": 2, "rename": 1, "compare": 1, "elsewhere": 1,
    }  # fmt: skip
    for kind in rng.choices(list(kinds), list(kinds.values()), k=count):
        offset = int(BIGGEST * rng.random() ** 2)
        if rng.random() < 0.3:
            offset &= ~4095
        yield [kind, offset, int(LONGEST * rng.random() ** 3) + 1, rng.randrange(2**32)]


class Difference(AssertionError):
    """The file is not what it should be. ``step``: number of the step that found out."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"step {step}: {what}")
        self.step = step


class Run:
    """A file in ``directory``, its bytes in memory, and a process that reads it."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / name
        self.expected = bytearray()
        self.done: Counter[str] = Counter()
        self._names = itertools.count()
        self._other: Path | None = None
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self._reader = subprocess.Popen(
            [sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        """Let go of the file and take its names away."""
        os.close(self._fd)
        self._reader.communicate()
        for path in (self.path, self._other):
            if path is not None:
                path.unlink()

    def play(self, listed: Sequence[Step]) -> None:
        """Make all steps; Difference at the first that is not as it should be."""
        for number, (kind, *numbers) in enumerate([*listed, ["compare"]]):
            try:
                getattr(self, kind)(*numbers)
            except AssertionError as error:
                raise Difference(number, f"{kind}{tuple(numbers)}: {error}") from error
            except OSError as error:
                raise Difference(number, f"{kind}{tuple(numbers)}: {error!r}") from error
            self.done[kind] += 1

    # -- steps --------------------------------------------------------------------------------------------------

    def write(self, offset: int, length: int, seed: int) -> None:
        data = self._data(length, seed)
        assert os.pwrite(self._fd, data, offset) == length
        self._put(offset, data)

    def read(self, offset: int, length: int, _: int) -> None:
        self._check(os.pread(self._fd, length, offset), offset, length)

    def map_write(self, offset: int, length: int, seed: int) -> None:
        if (clipped := self._inside(offset, length)) is None:
            return
        start, length = clipped
        data = self._data(length, seed)
        with self._mapped(start, length, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
            at = start % mmap.ALLOCATIONGRANULARITY
            mapped[at : at + length] = data
            if seed % 3 == 0:
                mapped.flush()
        self._put(start, data)

    def map_read(self, offset: int, length: int, _: int) -> None:
        if (clipped := self._inside(offset, length)) is None:
            return
        start, length = clipped
        with self._mapped(start, length, mmap.PROT_READ) as mapped:
            at = start % mmap.ALLOCATIONGRANULARITY
            self._check(mapped[at : at + length], start, length)

    def truncate(self, offset: int, _: int, seed: int) -> None:
        if seed % 2:
            os.ftruncate(self._fd, offset)
        else:
            os.truncate(self.path, offset)
        self._resize(offset)

    def allocate(self, offset: int, length: int, _: int) -> None:
        os.posix_fallocate(self._fd, offset, length)
        self._resize(max(len(self.expected), offset + length))

    def punch(self, offset: int, length: int, _: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        call = libc.fallocate(self._fd, PUNCH_HOLE | KEEP_SIZE, ctypes.c_long(offset), ctypes.c_long(length))
        if call:
            assert ctypes.get_errno() == errno.EOPNOTSUPP  # the kernel library passes none on
            self.done["punch refused"] += 1
            return
        end = min(offset + length, len(self.expected))
        self.expected[offset:end] = bytes(max(end - offset, 0))

    def copy(self, offset: int, length: int, seed: int) -> None:
        target = seed % BIGGEST
        if (clipped := self._inside(offset, length)) is None:
            return
        start, length = clipped
        if abs(start - target) < length:
            return  # overlapping ranges are EINVAL
        data = bytes(self.expected[start : start + length])
        while length:
            moved = os.copy_file_range(self._fd, self._fd, length, start, target)
            assert moved > 0
            self._put(target, data[:moved])
            data, start, target, length = data[moved:], start + moved, target + moved, length - moved

    def sync(self, *_: int) -> None:
        os.fsync(self._fd)

    def reopen(self, *_: int) -> None:
        os.close(self._fd)
        self._fd = os.open(self.path, os.O_RDWR)

    def link(self, *_: int) -> None:
        """The file goes on under a second name, or loses its first one."""
        if self._other is None:
            self._other = self.path.with_name(f"{self.path.name}-{next(self._names)}")
            os.link(self.path, self._other)
        else:
            self.path.unlink()
            self.path, self._other = self._other, None
        assert os.fstat(self._fd).st_nlink == (1 if self._other is None else 2)

    def rename(self, *_: int) -> None:
        new = self.path.with_name(f"{self.path.name.partition('-')[0]}-{next(self._names)}")
        self.path.rename(new)
        self.path = new

    def compare(self, *_: int) -> None:
        assert os.fstat(self._fd).st_size == len(self.expected)
        self._check((self._other or self.path).read_bytes(), 0, len(self.expected))

    def elsewhere(self, *_: int) -> None:
        assert self._reader.stdin is not None
        assert self._reader.stdout is not None
        print(self._other or self.path, file=self._reader.stdin, flush=True)
        found = self._reader.stdout.readline().strip()
        assert found == hashlib.sha256(self.expected).hexdigest(), "another process reads something else"

    # -- the bytes in memory ------------------------------------------------------------------------------------

    def _data(self, length: int, seed: int) -> bytes:
        return bytes(length) if seed % 10 == 0 else random.Random(seed).randbytes(length)

    def _put(self, offset: int, data: bytes) -> None:
        self._resize(max(len(self.expected), offset + len(data)))
        self.expected[offset : offset + len(data)] = data

    def _resize(self, size: int) -> None:
        if size > len(self.expected):
            self.expected.extend(bytes(size - len(self.expected)))
        del self.expected[size:]

    def _inside(self, offset: int, length: int) -> tuple[int, int] | None:
        if not self.expected:
            return None
        start = offset % len(self.expected)
        return start, min(length, len(self.expected) - start)

    def _mapped(self, start: int, length: int, protection: int) -> mmap.mmap:
        at = start % mmap.ALLOCATIONGRANULARITY
        return mmap.mmap(self._fd, at + length, mmap.MAP_SHARED, protection, offset=start - at)

    def _check(self, found: bytes, offset: int, length: int) -> None:
        expected = self.expected[offset : offset + length]
        if found == expected:
            return
        first = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), "the end")
        raise AssertionError(f"{len(found)} bytes at {offset}, should be {len(expected)}, wrong from {first}")


def play(directory: Path, name: str, listed: Sequence[Step]) -> Counter[str]:
    """Make the steps on a fresh file; what was done, by kind. Difference when the file is not as it should be."""
    run = Run(directory, name)
    try:
        run.play(listed)
    finally:
        run.close()
    return run.done


def shortened(directory: Path, listed: list[Step]) -> list[Step]:
    """Fewer steps that fail as well, as far as a bounded number of attempts finds them."""
    numbers = itertools.count()
    part = max(len(listed) // 2, 1)
    attempts = 0
    while attempts < SHRINKING_RUNS:
        for start in range(0, len(listed), part):
            fewer = listed[:start] + listed[start + part :]
            attempts += 1
            try:
                play(directory, f"shrink{next(numbers)}", fewer)
            except Difference as found:
                listed = fewer[: found.step + 1]
                break
            if attempts >= SHRINKING_RUNS:
                break
        else:
            if part == 1:
                break
            part = max(part // 2, 1)
    return listed


@pytest.mark.parametrize("options", [{}, {"write_back": True}], ids=["through", "write-back"])
def test_any_operations_on_one_file(machine: Machine, store: str, options: dict) -> None:  # type: ignore[type-arg]
    mnt = machine.mount(store, **options)
    replay = os.environ.get("MODELFS_FSX_REPLAY")
    seed = SEED
    left = OPERATIONS
    while left > 0:
        listed = json.loads(Path(replay).read_text()) if replay else list(steps(seed, min(left, 20_000)))
        try:
            done = play(mnt, f"file{seed}", listed)
        except Difference as found:
            few = shortened(mnt, listed[: found.step + 1])
            pytest.fail(f"seed {seed}, {found}\nthese steps fail as well:\n{json.dumps(few)}")
        assert done["write"] > 0 or replay
        left = 0 if replay else left - len(listed)
        seed += 1
    machine.umount(mnt)
    assert os.listdir(machine.mount(store, "again")) == []


def test_a_wrong_file_is_noticed_and_the_list_of_steps_is_cut_down(tmp_path: Path) -> None:
    """The test of the test: on a plain directory, with a file system that loses one kind of write."""

    class Lossy(Run):
        def copy(self, offset: int, length: int, seed: int) -> None:
            super().copy(offset, length, seed)
            os.pwrite(self._fd, b"damage", 0)

    listed = list(steps(3, 300))
    play(tmp_path, "plain", listed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "Run", Lossy)
        with pytest.raises(Difference) as caught:
            play(tmp_path, "lossy", listed)
        few = shortened(tmp_path, listed[: caught.value.step + 1])
        assert len(few) <= 10
        assert "copy" in {kind for kind, *_ in few}
