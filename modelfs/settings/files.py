"""Configuration files: ``NAME.toml`` describes the mount NAME. Found, read, checked; errors say file, line and key.

A file is flat TOML (https://toml.io) whose keys are those of `options`. The user's own file wins over that of the
machine. A file can name a command to run, so one that anybody may change is refused.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import platformdirs

from modelfs import limits
from modelfs.errors import UsageError
from modelfs.settings.options import BY_KEY, Option

SYSTEM: Final = Path("/etc/modelfs")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOTHING: Final = re.compile(r"\s*(#.*)?")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file that was read. ``values``: by field name, checked; ``lines``: where each stands, from 1."""

    path: Path
    values: Mapping[str, Any]
    lines: Mapping[str, int]

    def where(self, name: str) -> str:
        """``FILE:LINE`` of an option."""
        return f"{self.path}:{self.lines[name]}"


def directories() -> tuple[Path, ...]:
    """Where files are looked for, first the user's own."""
    return Path(platformdirs.user_config_dir("modelfs", appauthor=False)), SYSTEM


def names() -> list[str]:
    """The names of all mounts that are described on this machine."""
    found = set()
    for directory in directories():
        if os.access(directory, os.R_OK | os.X_OK):
            found |= {path.stem for path in directory.glob("*.toml") if NAME.fullmatch(path.stem)}
    return sorted(found)


def find(name: str) -> Path:
    """The file of the mount ``name``. UsageError when there is none, or it is no name."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name[:80]!r} is no name of a mount (letters, digits, dots and dashes)")
    places = [directory / f"{name}.toml" for directory in directories()]
    for place in places:
        if place.exists():
            return place
    raise UsageError(f"no mount is named {name}: there is neither {' nor '.join(map(str, places))}")


def read(path: Path) -> ConfigFile:
    """The file at ``path``. UsageError: ``FILE:LINE: KEY: what is wrong``."""
    text = _text(path)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(_syntax(path, text, str(error))) from error
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for line, key, raw in _statements(text):
        option = BY_KEY.get(key)
        if option is None:
            close = get_close_matches(key, BY_KEY, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UsageError(f"{path}:{line}: {key[:80]}: there is no such option{hint}")
        try:
            values[option.name] = _absolute(option, option.value(raw))
        except UsageError as error:
            raise UsageError(f"{path}:{line}: {key}: {error}") from error
        lines[option.name] = line
    return ConfigFile(path, values, lines)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            info = os.fstat(file.fileno())
            data = file.read(limits.CONFIG_FILE_MAX + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(info.st_mode):
        raise UsageError(f"{path}: not a file")
    if info.st_mode & stat.S_IWOTH:
        raise UsageError(f"{path}: anybody may change this file, which can name a command to run (chmod o-w)")
    if info.st_uid not in (0, os.geteuid()):
        raise UsageError(f"{path}: this file belongs to user {info.st_uid}, who is neither you nor root")
    if len(data) > limits.CONFIG_FILE_MAX:
        raise UsageError(f"{path}: more than {limits.CONFIG_FILE_MAX} bytes are no configuration")
    try:
        return data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8") from error


def _syntax(path: Path, text: str, message: str) -> str:
    """tomllib's message, which ends in "(at line L, column C)", as FILE:LINE: …"""
    what, _, place = message.rpartition(" (at ")
    found = re.search(r"line (\d+)", place)
    line = int(found[1]) if found is not None else text.count("\n") + 1
    return f"{path}:{line}: {what or message}"


def _statements(text: str) -> list[tuple[int, str, Any]]:
    """(line, key, value) of each statement of valid, flat TOML.

    tomllib tells no lines. But a statement of a flat file is TOML by itself, and becomes that with its last line, so
    lines are gathered until they parse.
    """
    found: list[tuple[int, str, Any]] = []
    pending: list[str] = []
    begin = 1
    for number, line in enumerate(text.split("\n"), start=1):
        if not pending:
            begin = number
            if _NOTHING.fullmatch(line):
                continue
        pending.append(line)
        try:
            parsed = tomllib.loads("\n".join(pending))
        except tomllib.TOMLDecodeError:
            continue
        found += [(begin, key, value) for key, value in parsed.items()]
        pending.clear()
    return found


def _absolute(option: Option, value: Any) -> Any:
    """What a file says must not depend on where a command is started."""
    path = value if isinstance(value, Path) else None
    if option.name == "verify_with":
        value = tuple(word if word.startswith("ed25519:") else str(Path(word).expanduser()) for word in value)
        path = next((Path(word) for word in value if not word.startswith(("ed25519:", "/"))), None)
    if option.name == "allow_source":
        value = tuple(word if "://" in word else str(Path(word).expanduser()) for word in value)
        path = next((Path(word) for word in value if "://" not in word and not word.startswith("/")), None)
    if option.name == "store":
        if value.startswith("@") or not value:
            raise UsageError("a directory or a URL is expected")
        if "://" not in value:
            path = Path(value).expanduser()
            value = str(path)
    if path is not None and not path.is_absolute():
        raise UsageError(f"a path that begins with / or ~ is expected, not {str(path)[:80]!r}")
    return value
