"""Which source wins: flag, then environment, then file, then default; and where each value came from.

What opens an encrypted store is one choice of three options: who makes it anew puts aside what lower sources chose.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from modelfs.errors import UsageError
from modelfs.settings.files import ConfigFile
from modelfs.settings.options import OPTIONS, SECRETS, Settings

Source = Literal["flag", "env", "file", "default"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from. ``where``: the flag, the variable or FILE:LINE; "" for a default."""

    source: Source
    where: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """A value that a command line says, and the words for where."""

    value: Any
    where: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """All options of a mount, and by field name where each came from."""

    settings: Settings
    origins: Mapping[str, Origin]


def resolve(
    flags: Mapping[str, Given],
    environment: Mapping[str, str],
    file: ConfigFile | None,
    names: Collection[str] = OPTIONS.keys(),
) -> Resolved:
    """Put the sources in order. ``flags``: by field name; ``names``: the options that matter, others are left
    at their defaults. UsageError: a variable is not what it should be (it is named), or one source makes two choices.
    """
    sources: list[dict[str, tuple[Any, Origin]]] = [
        {name: (given.value, Origin("flag", given.where)) for name, given in flags.items()},
        _from(environment, names),
    ]
    if file is not None:
        sources.append({name: (value, Origin("file", file.where(name))) for name, value in file.values.items()})
    values: dict[str, Any] = {}
    origins = {name: Origin("default") for name in OPTIONS}
    chosen = False
    for source in sources:
        choices = [name for name in SECRETS if name in source]
        if len(choices) > 1:
            raise UsageError(" and ".join(source[name][1].where for name in choices) + ": one of them, please")
        for name, (value, origin) in source.items():
            if name in names and name not in values and not (chosen and name in SECRETS):
                values[name], origins[name] = value, origin
        chosen = chosen or bool(choices)
    return Resolved(Settings(**values), origins)


def _from(environment: Mapping[str, str], names: Collection[str]) -> dict[str, tuple[Any, Origin]]:
    """Options in the environment. A variable that is empty is not set, as everywhere in a shell's scripts."""
    found = {}
    for name in names:
        variable = OPTIONS[name].variable
        if variable is not None and (text := environment.get(variable)):
            try:
                found[name] = (OPTIONS[name].value_of_text(text), Origin("env", variable))
            except UsageError as error:
                raise UsageError(f"{variable}: {error}") from error
    return found


def check_together(settings: Settings) -> None:
    """UsageError for options that contradict each other."""
    if settings.at is not None and (settings.write_back or settings.single_writer):
        raise UsageError("at (--at) mounts history, which cannot be written: no write-back and no single-writer")
