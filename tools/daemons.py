"""Servers of tests and benchmarks as processes: how they end, and their command line. Standard library only."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path


def command_line(
    parser: argparse.ArgumentParser,
    start: Callable[[Path, argparse.Namespace], str],
    stop: Callable[[Path], None],
) -> int:
    """``start DIR`` and ``stop DIR`` with the options that the parser has: the exit status. ``start`` says what to
    print; where it fails with RuntimeError, what it began is stopped."""
    parser.add_argument("action", choices=("start", "stop"))
    parser.add_argument("directory", type=Path)
    given = parser.parse_args()
    directory = given.directory.absolute()
    if given.action == "stop":
        stop(directory)
        return 0
    directory.mkdir(parents=True, exist_ok=True)
    try:
        print(start(directory, given))
    except RuntimeError as error:
        stop(directory)
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        return 1
    return 0


def kill(pid_file: Path) -> None:
    """End the process whose number is in a file, at once; nothing happens where there is none."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # another process started it
            os.waitpid(pid, 0)
