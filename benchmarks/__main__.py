"""Saves and loads of one safetensors file: on a mount, and on the plain directory beside it.

Both sides take turns, ``--rounds`` times; the table gives medians, the spread, the ratio of the medians, and CPU
seconds per GiB of both the program and the mount's daemon. "cold": nothing cached anywhere on this machine but the
store's own files, which the page cache gives up too where that is allowed (as root). "warm": modelfs's disk cache is
full, the page cache is empty.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file

from modelfs.config import MountOptions
from modelfs.fuse import daemon
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

GIB = 1 << 30


@dataclass
class Side:
    """Seconds and CPU seconds of one side of a comparison, a round each."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


class Bench:
    """A store, its mount and a plain directory on the same disk."""

    def __init__(self, directory: Path, size: int) -> None:
        self.plain = directory / "plain"
        self.mnt = directory / "mnt"
        self.plain.mkdir()
        self.mnt.mkdir()
        self.size = size
        self._directory = directory
        self._store = str(directory / "store")
        self._cache = 0
        store = open_store(self._store, create=True)
        Repository.create(store)
        store.close()
        self._mount()
        layers = 64
        generator = torch.Generator().manual_seed(1)
        self._shape = (layers, size // layers // 2)
        self.tensors = {
            f"layer.{i}": torch.randn(self._shape[1], generator=generator).to(torch.bfloat16) for i in range(layers)
        }

    def _mount(self) -> None:
        daemon.mount_background(
            MountOptions(
                store_url=self._store,
                mountpoint=self.mnt,
                cache_dir=self._directory / f"cache{self._cache}",
                log_file=self._directory / "log",
            )
        )

    def remount(self, *, empty_cache: bool) -> None:
        """A daemon that knows nothing; with ``empty_cache`` neither does this machine."""
        self.close()
        if empty_cache:
            shutil.rmtree(self._directory / f"cache{self._cache}", ignore_errors=True)
            self._cache += 1
        self._mount()
        drop_page_cache(self.plain, self._directory / "store", self._directory / f"cache{self._cache}")

    def daemon_cpu(self) -> float:
        """CPU seconds that the daemon has used."""
        pid = daemon.status(self.mnt)["pid"]
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Unmount."""
        daemon.unmount(self.mnt, progress=lambda facts: None, timeout=600)

    @contextlib.contextmanager
    def timed(self, side: Side, *, mounted: bool) -> Iterator[None]:
        """Add what happens inside to a side."""
        daemon_before = self.daemon_cpu() if mounted else 0.0
        own = resource.getrusage(resource.RUSAGE_SELF)
        start = time.perf_counter()
        yield
        side.wall.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime
        side.cpu.append(cpu + (self.daemon_cpu() - daemon_before if mounted else 0.0))


def drop_page_cache(*directories: Path) -> None:
    """Have the kernel forget the contents of files: all of them as root, else those below ``directories``."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1")
        return
    except OSError:
        pass
    for directory in directories:
        for path in directory.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def touch_all(tensors: dict[str, torch.Tensor]) -> None:
    """Use a byte of every page of what was loaded: a mapped file is not read before that."""
    for tensor in tensors.values():
        tensor.view(torch.uint8)[::4096].sum()


def run(bench: Bench, rounds: int) -> dict[str, tuple[Side, Side]]:
    """All comparisons: (plain, mounted) by name."""
    results: dict[str, tuple[Side, Side]] = {}

    def both(name: str, action: Callable[[Path], None], before: Callable[[], None] | None = None) -> None:
        sides = results.setdefault(name, (Side(), Side()))
        for side, directory, mounted in ((sides[0], bench.plain, False), (sides[1], bench.mnt, True)):
            if before is not None:
                before()
            with bench.timed(side, mounted=mounted):
                action(directory)

    for number in range(rounds):
        for tensor in bench.tensors.values():  # a new version, so that nothing is deduplicated
            tensor.add_(1.0)
        name = f"model-{number}.safetensors"
        both("save", lambda directory, name=name: _save(bench, directory / name))
        cold = lambda: bench.remount(empty_cache=True)  # noqa: E731
        warm = lambda: bench.remount(empty_cache=False)  # noqa: E731
        both("load, cold", lambda directory, name=name: touch_all(load_file(directory / name)), cold)
        touch_all(load_file(bench.mnt / name))
        both("load, warm", lambda directory, name=name: touch_all(load_file(directory / name)), warm)
        both("load, hot", lambda directory, name=name: touch_all(load_file(directory / name)))
    return results


def _save(bench: Bench, path: Path) -> None:
    save_file(bench.tensors, path)
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def report(results: dict[str, tuple[Side, Side]], size: int) -> None:
    """The table."""
    table = Table(title=f"safetensors, {size / 1e9:.1f} GB of bf16, local store; medians (min to max)")
    for column in ("", "plain directory", "modelfs mount", "plain / modelfs", "CPU s/GiB plain", "CPU s/GiB modelfs"):
        table.add_column(column, justify="left" if not column else "right")
    for name, (plain, mounted) in results.items():
        medians = [statistics.median(side.wall) for side in (plain, mounted)]
        spreads = [
            f"{m:.2f} s ({min(s.wall):.2f} to {max(s.wall):.2f})"
            for m, s in zip(medians, (plain, mounted), strict=True)
        ]
        cpu = [f"{statistics.median(side.cpu) / (size / GIB):.2f}" for side in (plain, mounted)]
        table.add_row(name, *spreads, f"{medians[0] / medians[1]:.2f}", *cpu)
    console = Console(width=140)
    console.print(table)
    console.print(f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--size", type=float, default=1.0, metavar="GB", help="of the file (default 1)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="on the disk to measure (default: the temporary directory)")
    given = parser.parse_args()
    size = int(given.size * 1e9)
    with tempfile.TemporaryDirectory(dir=given.directory, prefix="modelfs-bench-") as directory:
        bench = Bench(Path(directory), size)
        try:
            results = run(bench, given.rounds)
        finally:
            bench.close()
    report(results, size)


if __name__ == "__main__":
    main()
