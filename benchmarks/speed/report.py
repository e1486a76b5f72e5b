"""The figures of a run as a page of documentation, with a plot, and which of the project's bounds they keep."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

from benchmarks.speed.measure import Comparison, Figures
from benchmarks.speed.native import COPIES
from benchmarks.speed.small import COUNTS, PER_DIRECTORY, READS

GIB = 1 << 30
PEERS = ("rclone", "s3fs")
MODELFS = "modelfs"

Comparisons = dict[str, Comparison]
_LOADS = ("safetensors.torch.load_file", "torch.load", "torch.load(mmap=True)")
_FIND = ("find, {:,} files", "find again, {:,} files", f"ls -l of {PER_DIRECTORY:,} of {{:,}} files")


class Bounds:
    """What the project wants to reach, judged by one run. A bound whose comparison was not run is left out."""

    def __init__(self, comparisons: Comparisons) -> None:
        self._all = comparisons
        self.rows: list[tuple[str, str, str, bool]] = []  # what, wanted, reached, kept

    def judge(self) -> list[tuple[str, str, str, bool]]:
        """Every bound that can be judged."""
        for load in _LOADS:
            self._over(f"cold {load}", "the best mounting peer", PEERS, 0.5)
            self._over(f"cold {load}", "download, then load", ("download",), 1.1)
            self._over(f"warm {load}", "ext4, cold", ("ext4",), 1 / 0.9)
            self._over(f"third {load}", "ext4, hot", ("ext4",), 1 / 0.95)
        for state in ("cold", "warm"):
            self._mapped(state)
        resident = "in the page cache, safetensors.torch.load_file"
        self._over(resident, "mergerfs", ("mergerfs",), 1.0)
        self._value(resident, "GB/s", "at least 2", lambda c, f: c.size / f.median / 1e9, lambda v: v >= 2)
        self._value("cold safetensors.torch.load_file, lz4 or raw", "daemon CPU s/GiB", "under 2.0", _cpu, _under(2.0))
        self._value("warm safetensors.torch.load_file", "daemon CPU s/GiB", "under 0.6", _cpu, _under(0.6))
        self._one_tensor()
        self._over("torch.save, write-back", "ext4", ("ext4",), 1.3)
        self._over("torch.save, write-through", "the slower of ext4 and upload", ("ext4", "upload"), 1.2, slowest=True)
        for threads in ("1 thread", "16 threads"):
            self._over(f"{READS} reads of 4 KiB at random, {threads}", "the best mounting peer", PEERS, 1.0)
        self._native()
        for count in COUNTS:
            for what in _FIND:
                self._over(what.format(count), "the best mounting peer", PEERS, 1.0)
        return self.rows

    def _native(self) -> None:
        for load in _LOADS:
            for state in ("cold", "hot"):
                name = f"native warm {load}, kernel cache {state}"
                self._over(name, f"ext4, {state}", ("ext4",), 1 / 0.95)
                self._value(name, "daemon CPU s/GiB", "under 0.02", _cpu, _under(0.02))
        self._over("native torch.save, write-back", "ext4", ("ext4",), 1.1)
        self._over(f"native {READS} reads of 4 KiB at random, 16 threads", "ext4", ("ext4",), 1 / 0.9)
        self._value(COPIES, "copies", "one", lambda c, f: f.median, _under(1.1))
        self._over("native cold safetensors.torch.load_file", "pyfuse3", ("modelfs over pyfuse3",), 1.0)

    def _over(self, name: str, of: str, others: tuple[str, ...], at_most: float, *, slowest: bool = False) -> None:
        found = self._all.get(name)
        if found is None or MODELFS not in found.sides:
            return
        there = [other for other in others if other in found.sides]
        if not there:
            return
        choose: Callable[..., str] = max if slowest else min
        other = choose(there, key=lambda side: found.sides[side].median)
        ratio = found.ratio(MODELFS, other)
        self.rows.append((f"{name}: time / {of}", f"at most {at_most:.2f}", f"{ratio:.2f} ({other})", ratio <= at_most))

    def _mapped(self, state: str) -> None:
        mapped, read = self._all.get(f"{state} safetensors.torch.load_file"), self._all.get(f"{state} read()")
        if mapped is None or read is None or MODELFS not in read.sides:
            return
        ratio = statistics.median(
            a / b for a, b in zip(mapped.sides[MODELFS].wall, read.sides[MODELFS].wall, strict=False)
        )
        self.rows.append((f"{state}: load by mmap / by read()", "at most 1.15", f"{ratio:.2f}", ratio <= 1.15))

    def _value(
        self,
        name: str,
        what: str,
        wanted: str,
        value: Callable[[Comparison, Figures], float],
        kept: Callable[[float], bool],
    ) -> None:
        found = self._all.get(name)
        if found is not None and MODELFS in found.sides:
            reached = value(found, found.sides[MODELFS])
            self.rows.append((f"{name}: {what}", wanted, f"{reached:.2f}", kept(reached)))

    def _one_tensor(self) -> None:
        one, whole = self._all.get("one tensor"), self._all.get("cold safetensors.torch.load_file")
        if one is None:
            return
        bound = one.size + 2 * (4 << 20)
        fetched = statistics.median(one.sides[MODELFS].received) / bound
        self.rows.append(
            ("one tensor: bytes fetched / (tensor + 2 chunks)", "under 1.1", f"{fetched:.2f}", fetched < 1.1)
        )
        if whole is not None:
            share = one.sides[MODELFS].median / whole.sides[MODELFS].median
            self.rows.append(
                ("one tensor: time / of the whole cold load", "under 0.067", f"{share:.3f}", share < 1 / 15)
            )
        far = self._all.get("one tensor, 20 ms")
        if far is not None:
            trips = (far.sides[MODELFS].median - one.sides[MODELFS].median) / 0.020
            self.rows.append(("one tensor, 20 ms: round trips more than near", "under 4", f"{trips:.1f}", trips < 4))


def _cpu(comparison: Comparison, figures: Figures) -> float:
    return statistics.median(figures.daemon_cpu) / (comparison.size / GIB)


def _under(bound: float) -> Callable[[float], bool]:
    return lambda value: value < bound


def write(comparisons: Comparisons, directory: Path, command: str, notes: Path) -> None:
    """``performance.md`` and ``performance.svg`` in ``directory``; ``notes``: what a person wrote to follow them."""
    rounds = max(len(f.wall) for c in comparisons.values() for f in c.sides.values())
    lines = [
        "# Performance",
        "",
        f"Written by `{command}`: up to {rounds} rounds, in each of which every side had its turn; medians (fewest to",
        f"most) in seconds. {os.cpu_count()} cores, {_memory():.0f} GB, Linux {platform.release()}, Python "
        f"{platform.python_version()}. Everything, the",
        "S3 gateway (Ceph, on the same disk) included, ran on these cores.",
        "",
        "![Medians of the sides](performance.svg)",
        "",
        "## Bounds",
        "",
        "| what | wanted | reached | |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {what} | {want} | {got} | {'yes' if kept else '**no**'} |"
        for what, want, got, kept in Bounds(comparisons).judge()
    ]
    lines += ["", "## Figures", "", "| | side | seconds | daemon CPU s/GiB | program CPU s/GiB | fetched MB |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for comparison in comparisons.values():
        for side, figures in sorted(comparison.sides.items(), key=lambda item: item[1].median):
            lines.append(_row(comparison, side, figures))
    text = "\n".join(lines) + "\n\n" + notes.read_text()
    (directory / "performance.md").write_text(text)
    _plot(comparisons, directory / "performance.svg")


def _row(comparison: Comparison, side: str, figures: Figures) -> str:
    low, high = figures.spread
    wall = f"{figures.median:.2f} ({low:.2f} to {high:.2f})"
    if figures.p99:
        wall += f", p99 {statistics.median(figures.p99) * 1000:.2f} ms"
    gib = comparison.size / GIB
    cpu = [f"{statistics.median(each) / gib:.2f}" if gib else "" for each in (figures.daemon_cpu, figures.own_cpu)]
    fetched = statistics.median(figures.received)
    return f"| {comparison.name} | {side} | {wall} | {cpu[0]} | {cpu[1]} | {fetched / 1e6:.0f} |"


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _plot(comparisons: Comparisons, path: Path) -> None:
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "modelfs", "font.size": 9, "svg.fonttype": "none"})
    shown = [c for c in comparisons.values() if c.size and len(c.sides) > 1]
    sides = sorted({side for c in shown for side in c.sides}, key=lambda side: (side != MODELFS, side))
    figure, axes = pyplot.subplots(figsize=(9, 0.45 * len(shown) * 2 + 1.5))
    height = 0.8 / max(len(sides), 1)
    for k, side in enumerate(sides):
        at = [i + k * height for i, c in enumerate(shown) if side in c.sides]
        axes.barh(at, [c.sides[side].median for c in shown if side in c.sides], height, label=side)
    axes.set_yticks([i + 0.4 - height / 2 for i in range(len(shown))], [c.name for c in shown])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds (logarithmic)")
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
