"""``modelfs config``: show, check."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from modelfs.assembly.secret import secret_credential
from modelfs.cli.options import mount_flags, resolved, use_file
from modelfs.cli.output import json_option, note, print_json, table
from modelfs.settings import files
from modelfs.settings.options import OPTIONS
from modelfs.settings.resolve import Origin, check_together, resolve
from modelfs.store.open import redact_url

_PREFIX = "MODELFS_"


@click.group("config", no_args_is_help=True)
def command() -> None:
    """Where the options of a mount come from, and whether a file is right.

    A flag goes before the environment, that before the file of a named mount, and that before the default.

    \b
    modelfs config show team-a
    modelfs config check /etc/modelfs/team-a.toml
    """


def _names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in files.names() if name.startswith(incomplete)]


@command.command("show")
@click.argument("name", required=False, shell_complete=_names)
@click.option("--config", "file", type=click.Path(path_type=Path), metavar="FILE", help="Take what FILE says.")
@mount_flags
@json_option
def show(name: str | None, file: Path | None, as_json: bool) -> None:
    """Print every option that a mount (NAME) would have, its value, and where that came from. Takes mount's flags.

    \b
    modelfs config show
    modelfs config show team-a --refresh 5 --json
    """
    if name is not None and file is not None:
        raise click.UsageError("a name or --config, not both")
    if name is not None:
        file = files.find(name)
    if file is not None:
        use_file(file.expanduser().absolute())
    found = resolved(OPTIONS.keys())
    credential = secret_credential()
    rows = []
    for option in OPTIONS.values():
        value, origin = getattr(found.settings, option.name), found.origins[option.name]
        if option.name == "store" and value is not None:
            value = redact_url(value)
        rows.append((option, value, origin))
    if as_json:
        print_json([_facts(option.key, option.variable, value, origin) for option, value, origin in rows])
    else:
        shown = [
            [option.key, option.shown(value) or option.default_words or "-", origin.where or origin.source]
            for option, value, origin in rows
        ]
        table(["OPTION", "VALUE", "FROM"], shown)
    if credential is not None:
        note(f"systemd gives the credential {credential.name}, which opens the store if nothing above does")
    known = {option.variable for option in OPTIONS.values()}
    for variable in sorted(v for v in os.environ if v.startswith(_PREFIX) and v not in known):
        note(f"{variable} is in the environment, and no option")


def _facts(key: str, variable: str | None, value: Any, origin: Origin) -> dict[str, Any]:
    plain = str(value) if isinstance(value, Path) else value
    return {"option": key, "value": plain, "source": origin.source, "where": origin.where, "variable": variable}


@command.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def check(file: Path, as_json: bool) -> None:
    """Say whether FILE describes a mount. What is wrong is said with its line; exit code 2 then.

    \b
    modelfs config check ~/.config/modelfs/team-a.toml
    """
    found = files.read(file.expanduser())
    check_together(resolve({}, {}, found).settings)
    missing = [key for key in ("store", "mountpoint") if key not in found.values]
    if as_json:
        said = sorted(OPTIONS[name].key for name in found.values)
        print_json({"file": str(file), "options": said, "missing": missing})
    elif missing:
        click.echo(f"{file}: right, but it has no {' and no '.join(missing)}: `modelfs mount` needs them as arguments")
    else:
        click.echo(f"{file}: right")
