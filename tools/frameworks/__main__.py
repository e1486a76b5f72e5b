"""Every framework's own save and load on modelfs, and the page that says how it went.

    make frameworks                                          all rows, and docs/frameworks.md
    PYTHONPATH=tools python -m frameworks pytorch onnx       these rows, and a line for each case
    PYTHONPATH=tools python -m frameworks --light            the rows of the tests, on a store in a directory

Environments lie in MODELFS_FRAMEWORKS_CACHE (default: ~/.cache/modelfs/frameworks), with the last result of each row.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from frameworks import page
from frameworks.environments import cache_directory, load
from frameworks.matrix import Result, run, run_light
from frameworks.place import local, on_s3, two_machines

KEPT = "results.json"


def main() -> int:
    """Command line: 0 when all rows that ran pass, 1 when one fails."""
    environments, rows = load()
    names = {name.rstrip("_"): row for name, row in rows.items()}
    parser = argparse.ArgumentParser(
        "frameworks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(names)}; default: all")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--light", action="store_true", help="only what the environment of the tests has")
    either.add_argument("--page", action="store_true", help="write the page though not all rows run: from last results")
    given = parser.parse_args()
    if unknown := set(given.rows) - set(names):
        parser.error(f"no such rows: {', '.join(sorted(unknown))}")
    wanted = [row for name, row in names.items() if not given.rows or name in given.rows]
    if given.light:
        wanted = [row for row in wanted if row.light]
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    done = []
    with tempfile.TemporaryDirectory(prefix="modelfs-frameworks-") as name, contextlib.ExitStack() as stack:
        place = stack.enter_context((local if given.light else on_s3)(Path(name)))
        mounts = [stack.enter_context(mount) for mount in (two_machines(place) if given.light else [])]
        for row in wanted:
            begin = time.monotonic()
            say = functools.partial(_say, row.title)
            result = run_light(row, cache, *mounts, say) if mounts else run(row, environments, cache, place, say)
            print(f"{page.table([result])}\n{row.title}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
            done.append(result)
            if not given.light:
                _keep(cache, result)
    if given.page or not (given.rows or given.light):
        _write_page(cache, rows)
    return 0 if all(result.passed or result.unavailable for result in done) else 1


def _keep(cache: Path, result: Result) -> None:
    """Write down the last result of a row, for pages that are written without all rows being run."""
    path = cache / KEPT
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | {result.row: result.as_json()}, indent=1))


def _write_page(cache: Path, rows: Iterable[str]) -> None:
    known = json.loads((cache / KEPT).read_text())
    page.write([Result.from_json(known[name]) for name in rows if name in known])
    print(f"written: {page.PAGE}", file=sys.stderr)


def _say(row: str, what: str) -> None:
    print(f"{row}: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
