"""Servers of tests and benchmarks as processes: how they end. Standard library only."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def kill(pid_file: Path) -> None:
    """End the process whose number is in a file, at once; nothing happens where there is none."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # another process started it
            os.waitpid(pid, 0)
