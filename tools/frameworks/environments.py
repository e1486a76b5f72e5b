"""The environments of ``environments.toml``: what they are, and how they are built, once each.

An environment lies in a directory named by a hash of everything it is made from, so that a changed pin makes a new one.
One that extends another sees that one's packages through a .pth file, as a virtual environment sees those of the
system, and pip counts them as installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
TESTS = "tests"  # the environment that runs the matrix


class UnavailableError(Exception):
    """An environment that cannot be made here; the message says why."""


@dataclass(frozen=True)
class Environment:
    """One conflict group. ``packages`` has the arguments of one ``pip install`` after another."""

    name: str
    packages: list[list[str]] = field(default_factory=list)
    extends: str = ""
    python: str = ""
    programs: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RowSpec:
    """A row: its script, and where it runs. ``light`` has the cases that run with the tests. ``tried`` says what was
    tried where it cannot be installed, ``path`` is the script."""

    name: str
    title: str
    environment: str = ""
    light: list[str] = field(default_factory=list)
    tried: str = ""
    path: Path = Path()


@dataclass(frozen=True)
class Built:
    """An environment that rows can run in. ``site`` has its packages, those it extends behind it."""

    python: Path
    site: list[str]
    scratch: Path
    variables: dict[str, str]


def load() -> tuple[dict[str, Environment], dict[str, RowSpec]]:
    """What ``environments.toml`` says. TypeError for a key that there is not."""
    said = tomllib.loads((HERE / "environments.toml").read_text())
    environments = {name: Environment(name, **given) for name, given in said["environments"].items()}
    return environments, {
        name: RowSpec(name, path=HERE / "rows" / f"{name}.py", **given) for name, given in said["rows"].items()
    }


def cache_directory() -> Path:
    """Where environments are kept: MODELFS_FRAMEWORKS_CACHE, else in the user's cache."""
    if given := os.environ.get("MODELFS_FRAMEWORKS_CACHE"):
        return Path(given).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelfs" / "frameworks"


def build(name: str, environments: dict[str, Environment], cache: Path) -> Built:
    """The environment of that name, made if it is not there; `UnavailableError` with pip's words when it cannot be."""
    wanted = environments[name]
    if missing := [program for program in wanted.programs if shutil.which(program) is None]:
        raise UnavailableError(f"not installed: {', '.join(missing)}")
    if name == TESTS:
        site = [sysconfig.get_path("purelib")]
        return Built(Path(sys.executable), site, cache / "scratch" / TESTS, wanted.variables)
    below = build(wanted.extends, environments, cache) if wanted.extends else None
    interpreter = below.python if below else _interpreter(wanted.python)
    made_from = [wanted.packages, str(interpreter), below.site if below else []]
    digest = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:12]
    directory = cache / f"{name}-{digest}"
    if not (directory / "ready").exists():
        _make(directory, interpreter, wanted.packages, below.site if below else [])
    site = [str(next((directory / "lib").glob("python*/site-packages"))), *(below.site if below else [])]
    return Built(directory / "bin/python", site, directory / "scratch", wanted.variables)


def _make(directory: Path, interpreter: Path, packages: list[list[str]], below: list[str]) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    log = directory.with_suffix(".log")
    with log.open("w") as output:
        steps = [[str(interpreter), "-m", "venv", str(directory)]]
        pip = [str(directory / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check", "-q"]
        steps += [[*pip, *arguments] for arguments in packages]
        for number, step in enumerate(steps):
            if number == 1 and below:
                site = next((directory / "lib").glob("python*/site-packages"))
                (site / "extends.pth").write_text("".join(f"{path}\n" for path in below))
            if subprocess.run(step, stdout=output, stderr=subprocess.STDOUT, check=False).returncode:
                output.flush()
                said = [line for line in log.read_text().splitlines() if line.strip()]
                errors = [line for line in said if "error" in line.lower()]
                last = (errors or said or ["nothing said"])[-1].strip()
                raise UnavailableError(f"{' '.join(step[-4:])}: {last[:300]} (all of it: {log})")
    (directory / "ready").touch()


def _interpreter(version: str) -> Path:
    """``python3.8`` on the PATH or below pyenv; without a version, the Python that this one was made from."""
    if not version:
        return Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python"))]
    for candidate in [*candidates, f"python{version}"]:
        found = shutil.which(candidate)
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return Path(found)
    raise UnavailableError(f"no Python {version} here")
