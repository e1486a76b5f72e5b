"""``python -m benchmarks.size``: every series, every side, in one run.

The checkpoints of a series are saved one after the other, as a training run would; then the bytes of the store's files
are added up. modelfs saves through a mount, and everything is compared bit for bit on a second mount with an empty
cache.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.size.bounds import Verdict, judge
from benchmarks.size.sides import SIDES, Modelfs, Side, size_of

SERIES = ("formats", "adamw", "young", "bf16", "young-bf16", "frozen", "adapters")


@dataclass
class Figures:
    """One side of one series. ``seconds``: wall and CPU time of all saves."""

    stored: int
    seconds: float
    cpu: float


@dataclass
class Row:
    """One series."""

    series: str
    logical: int
    sides: dict[str, Figures]
    verdict: Verdict


def steps_of(root: Path) -> list[Path]:
    """What is saved one after the other: directories or files, numbers in order."""
    return sorted(
        root.iterdir(), key=lambda path: [int(n) if n.isdigit() else n for n in re.split(r"(\d+)", path.name)]
    )


def used_cpu() -> float:
    """CPU seconds of this process and its ended children."""
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(t.ru_utime + t.ru_stime for t in times)


def measure(side: Side, root: Path) -> Figures:
    """Save a series."""
    start, cpu = time.perf_counter(), used_cpu()
    for number, step in enumerate(steps_of(root)):
        side.save(number, step, root)
    elsewhere = side.cpu()
    seconds, cpu = time.perf_counter() - start, used_cpu() - cpu + elsewhere
    return Figures(side.stored(), seconds, cpu)


def compare(series: str, root: Path, work: Path, console: Console) -> Row:
    """One series on every side."""
    sides: dict[str, Figures] = {}
    verdict = Verdict("", "", None)
    for kind in SIDES:
        if not kind.available():
            continue
        console.print(f"{series}: {kind.name}", style="dim")
        directory = work / "side"
        side = kind(directory)
        try:
            sides[kind.name] = measure(side, root)
            if isinstance(side, Modelfs):
                side.verify(root)
                peers = {name: figures.stored for name, figures in sides.items() if name != Modelfs.name}
                verdict = judge(series, root, side.store, sides[kind.name].stored, peers)
        finally:
            side.close()
            shutil.rmtree(directory)
    return Row(series, size_of(root), sides, verdict)


def tables(rows: list[Row]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Titles, columns and cells of the tables."""
    names = [kind.name for kind in SIDES]
    sizes, verdicts, times = [], [], []
    for row in rows:
        found = [row.sides.get(name) for name in names]
        sizes.append(
            [row.series, f"{row.logical / 1e6:.0f}"]
            + [f"{f.stored / row.logical:.3f}" if f else "not installed" for f in found]
        )
        holds = {None: "", True: "yes", False: "NO"}[row.verdict.holds]
        verdicts.append([row.series, row.verdict.asked, row.verdict.found, holds])
        times.append([row.series] + [f"{f.seconds:.1f} / {f.cpu:.1f}" if f else "not installed" for f in found])
    return [
        ("Stored bytes / logical bytes", ["series", "MB", *names], sizes),
        ("What must hold", ["series", "asked", "found", "holds"], verdicts),
        ("Seconds to save: wall / CPU", ["series", *names], times),
    ]


def markdown(rows: list[Row], command: str) -> str:
    """The tables for the documentation."""
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    parts = [f"`{command}` on {machine}.\n"]
    for title, columns, cells in tables(rows):
        lines = [columns, ["---"] * len(columns), *cells]
        parts.append(f"{title}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
    return "\n".join(parts)


def main() -> None:
    """Parse, make the series, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.size", description=__doc__)
    parser.add_argument("--series", type=Path, help="where the series lie, or are made and stay")
    parser.add_argument("--size", choices=("small", "bench"), default="bench")
    parser.add_argument("--only", choices=SERIES, action="append", metavar="SERIES")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--markdown", type=Path, help="write the tables there")
    args = parser.parse_args()
    wanted = args.only or list(SERIES)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="modelfs-size-") as temporary:
        series: Path = args.series or Path(temporary) / "series"
        missing = [name for name in wanted if not (series / name).is_dir()]
        if missing:
            console.print(f"training: {', '.join(missing)} (minutes)", style="dim")
            tool = Path(__file__).parents[2] / "tools" / "make_series.py"
            chosen = [argument for name in missing for argument in ("--only", name)]
            subprocess.run([sys.executable, tool, series, "--size", args.size, *chosen], check=True)
        rows = [compare(name, series / name, Path(temporary), console) for name in wanted]
    for title, columns, cells in tables(rows):
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column, justify="left" if column in ("series", "asked") else "right")
        for line in cells:
            table.add_row(*line)
        Console(width=None if sys.stdout.isatty() else 120).print(table)
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    if args.markdown:
        args.markdown.write_text(markdown(rows, f"make bench-size, series size {args.size}"))


if __name__ == "__main__":
    main()
