#!/usr/bin/env python3
"""`make newcomer`: what a newcomer does, timed: README's quick start, from a fresh clone, in an environment of its own.

Nothing is done that README does not say: the commands are those of the blocks of its section "Quick start", in order,
in one shell, in a home directory that is empty. Before them stands only the clone (of the last commit; ``--tree`` also
takes what is not committed yet). Standard library only, because nothing is installed yet.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from docshell import blocks, lines

ROOT = Path(__file__).resolve().parents[1]
SECTION = "Quick start"
# Where the registries are and who is asking does not make an environment less clean.
KEPT = ("TERM", "USER", "LOGNAME", "LANG", "http_proxy", "https_proxy", "no_proxy")


def steps(readme: Path) -> list[str]:
    """The commands of the quick start. ValueError when there are none."""
    found = [line for block in blocks(readme) if block.section == SECTION for line in lines(block.shell)]
    if not found:
        raise ValueError(f"{readme} has no commands under {SECTION!r}")
    return found


def clone(target: Path, tree: bool) -> None:
    """A fresh clone; with ``tree`` what lies in the work tree now goes over it."""
    subprocess.run(["git", "clone", "--quiet", "--no-local", "--depth", "1", f"file://{ROOT}", str(target)], check=True)
    if tree:
        names = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target / name)


def environment(home: Path) -> dict[str, str]:
    """That of a login: no virtual environment, nothing of modelfs."""
    bin_of_this = str(Path(sys.prefix, "bin"))
    path = [part for part in os.environ["PATH"].split(":") if part != bin_of_this]
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith("PIP_")}
    return {**kept, "HOME": str(home), "PATH": ":".join(path), "TMPDIR": str(home)}


def script(commands: list[str], report: int) -> str:
    """A program of bash that runs the commands and writes a line to descriptor ``report`` after each."""
    said = f'printf "%s\\n" "$EPOCHREALTIME" >&{report}'
    return "set -euo pipefail\n" + said + "\n" + "".join(f"{command}\n{said}\n" for command in commands)


def walk(commands: list[str], where: Path, home: Path) -> tuple[int, list[float]]:
    """Run the commands; (exit code, seconds of each that ended well)."""
    read, write = os.pipe()
    with (
        os.fdopen(read) as reports,
        subprocess.Popen(
            ["bash", "-c", script(commands, write)], cwd=where, env=environment(home), pass_fds=[write]
        ) as shell,
    ):
        os.close(write)
        moments: list[float] = []
        for line in reports:
            moments.append(float(line.replace(",", ".")))
            if len(moments) <= len(commands):
                print(f"\n$ {commands[len(moments) - 1]}", flush=True)
        code = shell.wait()
    return code, [after - before for before, after in itertools.pairwise(moments)]


def main() -> int:
    """Walk the path and print what each step took; the exit code of the first step that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", action="store_true", help="take what is not committed yet, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="newcomer-", ignore_cleanup_errors=True) as made:
        home, where = Path(made, "home"), Path(made, "modelfs")
        home.mkdir()
        began = time.monotonic()
        clone(where, arguments.tree)
        cloned = time.monotonic() - began
        commands = steps(where / "README.md")
        code, took = walk(commands, where, home)
        if code and Path(where, ".venv/bin/modelfs").exists():
            subprocess.run(
                ["bash", "-c", f". {where}/.venv/bin/activate; modelfs umount --force --lazy {home}/models"],
                env=environment(home),
                stderr=subprocess.DEVNULL,
                check=False,
            )
    print("\nseconds  step")
    for seconds, command in zip([cloned, *took], ["git clone", *commands], strict=False):
        print(f"{seconds:7.1f}  {command.partition('  #')[0].rstrip()}")
    print(f"{cloned + sum(took):7.1f}  in all")
    if code:
        print(f"failed with exit code {code}: {commands[len(took)]}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
