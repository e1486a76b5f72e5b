"""``docs/frameworks.md``."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from frameworks.matrix import Case, Result

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"
SECONDS = ("disk save", "mount save", "disk load", "mount load")

HEAD = """\
# Frameworks

Every framework's own save and load, unchanged, on a mount. `make frameworks` writes this page: it builds an environment
for each group of packages that agree, starts a Ceph cluster with its S3 gateway, and for each row

1. makes a model, saves it to the local disk and loads it there, each in a process of its own;
2. makes the same model again and saves it to a mount of a store on S3;
3. loads it, in another process, from a second mount at another place whose cache is empty, as another machine would;
4. compares what was loaded with what was saved: the weights by their bytes, the predictions as numbers (to 1e-5).

"Operations" are the system calls on the files of the row, counted with strace in a run that is not timed. Seconds are
those of the framework's calls: a save to a mount ends when the store has everything, a load from a mount has everything
still to fetch; the files of the local disk are in memory. "Stored" is what a directory takes in the store alone, after
deduplication and compression; of several cases with the same model only the first one brings its tensors there. Models
are small on purpose; [performance](performance.md) has large ones. All mounts are made with the default options.
"""

LIGHT = """
The half that needs no more than the environment of the tests runs with them, on a store in a directory
(`tests/frameworks/test_matrix.py`).
"""


def write(results: Sequence[Result], path: Path = PAGE) -> None:
    """Write the page from a result for each row."""
    path.write_text(text(results))


def text(results: Sequence[Result]) -> str:
    """The page."""
    when = datetime.now(UTC).date().isoformat()
    disk = subprocess.run(
        ["findmnt", "-no", "FSTYPE", "-T", tempfile.gettempdir()], capture_output=True, text=True, check=False
    ).stdout.strip()
    kernel = platform.release().split("-")[0]
    machine = f"{os.cpu_count()} cores, Linux {kernel}, {disk}, Python {platform.python_version()}"
    passed = sum(result.passed for result in results)
    parts = [HEAD, f"\nLast run: {when}, {machine}: {passed} of {len(results)} rows pass.\n", LIGHT]
    parts.append("\n| framework | version | saved with | result |\n| --- | --- | --- | --- |\n")
    parts += [
        f"| [{result.framework}](#{_anchor(result.framework)}) | {result.version or '–'} | {_names(result)} "
        f"| {_result(result)} |\n"
        for result in results
    ]
    parts += [_section(result) for result in results]
    return "".join(parts)


def table(results: Sequence[Result]) -> str:
    """For a terminal: a line for each case."""
    lines = []
    for result in results:
        lines += [f"{result.framework}: {result.unavailable}"] if result.unavailable else []
        for case in result.cases:
            seconds = " ".join(f"{name} {case.seconds[name]:.2f}" for name in SECONDS if name in case.seconds)
            lines.append(f"{result.framework} {result.version} {case.name}: {case.verdict or 'passes'} ({seconds})")
    return "\n".join(lines)


def _section(result: Result) -> str:
    lines = [f"\n## {result.framework}\n\n"]
    if result.unavailable:
        return "".join([*lines, f"Not run. {result.unavailable}\n"])
    lines.append(
        "| saved with | files | size | save: disk, mount | load: disk, mount | stored | result |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |\n"
    )
    lines += [
        f"| {_with(case)} | {case.files} | {_size(case.bytes)} | {_pair(case, 'save')} | {_pair(case, 'load')} "
        f"| {_size(case.stored)} | {case.verdict or 'passes'} |\n"
        for case in result.cases
    ]
    shown = [case for case in result.cases if case.operations]
    lines += ["\nOperations:\n\n"] if shown else []
    lines += [f"- {case.name}: {case.operations}\n" for case in shown]
    return "".join(lines)


def _with(case: Case) -> str:
    return f"**{case.name}**: {case.calls}" if case.calls else f"**{case.name}**"


def _names(result: Result) -> str:
    return "; ".join(case.name for case in result.cases) or "–"


def _result(result: Result) -> str:
    if result.unavailable:
        return "not run"
    failed = sum(bool(case.verdict) for case in result.cases)
    return f"{failed} of {len(result.cases)} fail" if failed else "passes"


def _pair(case: Case, action: str) -> str:
    return ", ".join(
        f"{case.seconds[name]:.2f} s" if name in case.seconds else "–" for name in (f"disk {action}", f"mount {action}")
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _anchor(title: str) -> str:
    """As Python-Markdown's toc makes it."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return "-".join(kept.split())
