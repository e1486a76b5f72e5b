"""The command line as people run it: a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelfs.cli.app import main


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Result]


def runner(directory: Path) -> Run:
    """Runs ``modelfs`` in ``directory``; a call fails on another exit code than ``code``, and on any traceback."""

    def run(*arguments: object, code: int = 0) -> Result:
        command = [sys.executable, "-m", "modelfs", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=directory, check=False)
        assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    return run


def inside(directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """As `runner`, but in this process: a second less for each command, for tests of many of them."""

    def run(*arguments: object, code: int = 0) -> Result:
        monkeypatch.setattr(sys, "argv", ["modelfs", *map(str, arguments)])
        capsys.readouterr()
        ended = 0
        try:
            main()
        except SystemExit as end:
            ended = end.code if isinstance(end.code, int) else int(bool(end.code))
        said = capsys.readouterr()
        assert ended == code, f"{sys.argv}: {said.out}{said.err}"
        return Result(ended, said.out, said.err)

    monkeypatch.chdir(directory)
    return run
