"""``modelfs service``: install."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import platformdirs

import modelfs
from modelfs.cli.output import json_option, print_json
from modelfs.errors import UsageError
from modelfs.settings.example import example
from modelfs.settings.files import NAME, SYSTEM

_PROGRAM: Final = "/usr/local/bin/modelfs"  # as it stands in the units
_HELPER: Final = Path("/sbin/mount.modelfs")  # where mount(8) looks for it


@dataclass(frozen=True, slots=True)
class _Target:
    """One file to be there. ``keep``: it belongs to the operator once it is there."""

    path: Path
    text: str
    mode: int
    keep: bool = False


@click.group("service", no_args_is_help=True)
def command() -> None:
    """Services of this machine that mount, collect and scrub.

    \b
    modelfs service install team-a
    """


@command.command("install")
@click.argument("name")
@click.option("--user", is_flag=True, help="For the service manager of this user, not of the machine.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("/"),
    metavar="DIR",
    help="Write below DIR (for an image).",
)
@click.option("--program", type=click.Path(path_type=Path), metavar="FILE", help="The modelfs that services start.")
@click.option("--mount-helper", is_flag=True, help="Also /sbin/mount.modelfs, for mount(8) and fstab(5).")
@json_option
def install(name: str, user: bool, root: Path, program: Path | None, mount_helper: bool, as_json: bool) -> None:
    """Write the units of systemd and, if there is none yet, an example NAME.toml. May be run again at any time.

    Units are overwritten: what you change belongs into drop-ins (systemctl edit).

    \b
    sudo modelfs service install team-a --mount-helper
    modelfs service install team-a --user
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name[:80]!r} is no name of a mount (letters, digits, dots and dashes)")
    if user and mount_helper:
        raise UsageError("--mount-helper is for the whole machine, not for --user")
    started = program.expanduser().absolute() if program is not None else _program()
    done: list[tuple[str, str]] = []
    for target in _targets(name, str(started), user=user):
        path = root / target.path.relative_to("/")
        done.append((str(path), _write(path, target)))
    if mount_helper:
        path = root / _HELPER.relative_to("/")
        done.append((str(path), _link(path, started.with_name("mount.modelfs"))))
    if as_json:
        print_json([{"file": path, "done": what} for path, what in done])
        return
    for written, what in done:
        click.echo(f"{what:<9}  {written}")
    click.echo(_next(name, done, user=user))


def _program() -> Path:
    """The command that a service can start: the installed script."""
    candidates = [sys.argv[0], str(Path(sys.executable).with_name("modelfs")), shutil.which("modelfs") or ""]
    for candidate in map(Path, candidates):
        if candidate.name == "modelfs" and os.access(candidate, os.X_OK):
            return candidate.absolute()
    raise UsageError("modelfs is not installed as a command (pip install): say --program FILE")


def _targets(name: str, program: str, *, user: bool) -> list[_Target]:
    source = _units()
    if user:
        config = Path(platformdirs.user_config_dir())
        units, description = config / "systemd" / "user", config / "modelfs" / f"{name}.toml"
        services = sorted((source / "user").glob("*.service"))
    else:
        units, description = Path("/etc/systemd/system"), SYSTEM / f"{name}.toml"
        services = sorted(source.glob("*.service"))
    found = [
        _Target(units / unit.name, unit.read_text().replace(_PROGRAM, program), 0o644)
        for unit in [*services, *sorted(source.glob("*.timer"))]
    ]
    if not user:
        found.append(_Target(Path("/etc/tmpfiles.d/modelfs.conf"), (source / "modelfs.conf").read_text(), 0o644))
    return [*found, _Target(description, example(), 0o600 if user else 0o644, keep=True)]


def _units() -> Path:
    """The directory of the units: beside the modules where modelfs is installed, beside the package in its sources."""
    package = Path(modelfs.__file__).parent
    for place in (package / "systemd", package.parent / "systemd"):
        if (place / "modelfs@.service").exists():
            return place
    raise UsageError(f"the units are not installed with {package}")


def _write(path: Path, target: _Target) -> str:
    """What was done: "written", "unchanged" or "kept"."""
    if path.exists():
        if target.keep:
            return "kept"
        if path.read_text(errors="replace") == target.text:
            return "unchanged"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(target.text)
        partial.chmod(target.mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return "written"


def _link(path: Path, helper: Path) -> str:
    if not os.access(helper, os.X_OK):
        raise UsageError(f"there is no {helper}, which mount(8) is to start")
    if path.is_symlink() and path.readlink() == helper:
        return "unchanged"
    if path.exists() and not path.is_symlink():
        raise UsageError(f"{path} is not a link of ours")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(helper)
    return "written"


def _next(name: str, done: list[tuple[str, str]], *, user: bool) -> str:
    description = next(path for path, _ in done if path.endswith(f"/{name}.toml"))
    control = "systemctl --user" if user else "systemctl"
    steps = [
        f"$EDITOR {description}",
        f"modelfs config check {description}",
        f"{control} daemon-reload",
        f"{control} enable --now modelfs@{name} modelfs-gc@{name}.timer modelfs-scrub@{name}.timer",
    ]
    return "next:\n" + "\n".join(f"  {step}" for step in steps)
