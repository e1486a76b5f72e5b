"""``make bench``: loads, saves, metadata and small reads beside the mounts that one would pick instead, in one run.

Needs root (it empties the page cache) and some 50 GB of disk. With all groups, five rounds and 2 GB it takes an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.speed import loads, native, report, saves, small
from benchmarks.speed.measure import Ballast, Comparison, Figures, Table
from benchmarks.speed.world import made

GROUPS = {
    "cold": loads.cold,
    "slow": loads.slow_lines,
    "tensor": loads.one_tensor,
    "warm": loads.warm,
    "saves": saves.saves,
    "random": small.random_reads,
    "native": native.native,
    "metadata": small.metadata,
}
DOCS = Path(__file__).resolve().parents[2] / "docs"


def _read(paths: list[Path]) -> dict[str, Comparison]:
    found: dict[str, Comparison] = {}
    for path in paths:
        for c in json.loads(path.read_text()):
            sides = {name: Figures(**figures) for name, figures in c["sides"].items()}
            found[c["name"]] = Comparison(c["name"], c["size"], sides)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)} (default: all)")
    parser.add_argument("--size", type=float, default=2.0, metavar="GB", help="of the model (default 2)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-files", type=int, default=100_000, help="largest tree that the peers list too")
    parser.add_argument("--directory", type=Path, help="on the disk to measure (default: the temporary directory)")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--from", type=Path, nargs="+", dest="files", help="measure nothing: report these files")
    given = parser.parse_args()
    if unknown := set(given.groups) - GROUPS.keys():
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    notes = Path(__file__).with_name("notes.md")
    if given.files:
        report.write(_read(given.files), DOCS, "make bench", notes)
        return
    if os.geteuid():
        parser.error("the page cache can be emptied by root only")
    start = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - start:7.1f}  {text}", flush=True)

    ballast = Ballast()
    table = Table(say, ballast)
    with tempfile.TemporaryDirectory(dir=given.directory, prefix="modelfs-bench-") as directory:
        try:
            with made(Path(directory), int(given.size * 1e9), given.peer_files, say) as world:
                for name in given.groups or GROUPS:
                    GROUPS[name](world, table, given.rounds)
        finally:
            ballast.close()
            if given.json:
                given.json.write_text(json.dumps([asdict(c) for c in table.comparisons.values()], indent=1))
    if not given.groups:
        report.write(table.comparisons, DOCS, "make bench", notes)


if __name__ == "__main__":
    main()
