"""Commands as documents have them: whether they exist, and a home in which they can be run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from modelfs.cli.app import app
from modelfs.fuse.claim import lift
from modelfs.fuse.mountpoint import mount_table

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def sandboxed(directory: Path) -> Iterator[dict[str, str]]:
    """The environment of a person who has just installed modelfs; what is mounted in it is taken down at the end."""
    programs, home = directory / "bin", directory / "home"
    programs.mkdir()
    home.mkdir()
    for name, words in (("modelfs", "-m modelfs "), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words}"$@"\n')
        (programs / name).chmod(0o755)
    environment = {
        "HOME": str(home),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(directory),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    try:
        yield environment
    finally:
        for entry in mount_table():
            if entry.path.startswith(f"{directory}/"):
                left = [programs / "modelfs", "umount", "--timeout", "5", entry.path]
                if subprocess.run(left, env=environment, check=False).returncode:
                    subprocess.run(["fusermount3", "-u", "-z", "--", entry.path], check=False)
                    lift(Path(entry.path))


def parse(words: Sequence[str], command: click.Command = app, parent: click.Context | None = None) -> None:
    """Parse a call as click would, without carrying it out. click.UsageError when there is no such command or flag."""
    context = click.Context(command, info_name=command.name, parent=parent)
    if not isinstance(command, click.Group) or list(words) == ["--version"]:
        command.make_parser(context).parse_args(list(words))
        return
    if not words:
        raise click.UsageError(f"{command.name} of what?")
    if words[0] in ("--help", "-h"):
        return
    sub = command.get_command(context, words[0])
    if sub is None:
        raise click.UsageError(f"no such command: {words[0]}")
    parse(words[1:], sub, context)
