"""The table of all options of a mount: one struct, from whose fields flags, variables and keys of files are made.

A field ``cache_size`` is the flag ``--cache-size``, the variable ``MODELFS_CACHE_SIZE`` and the key ``cache-size``; its
type and bounds are what a value is checked against wherever it comes from. ``store`` and ``mountpoint`` are arguments:
they stand on the command line or in a file, and have no variable, because one that is left over in a shell would
mount another store than the one that was named.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from modelfs import limits
from modelfs.errors import UsageError
from modelfs.quantities import parse_duration, parse_size, size_text
from modelfs.settings.mountwords import kernel_words

Reader = Callable[[Any], Any]


def _size(raw: Any) -> Any:
    return parse_size(raw) if isinstance(raw, str) else raw


def _seconds(raw: Any) -> Any:
    """A number of seconds, or text such as "90s" or "5m"."""
    if isinstance(raw, str):
        try:
            raw = float(raw)
        except ValueError:
            raw = parse_duration(raw)
    if isinstance(raw, float) and not math.isfinite(raw):
        raise UsageError("not a duration: it has no end")
    return raw


def _mode(raw: Any) -> Any:
    """Text in octal. A bare number is refused: in TOML 22 is decimal, and 022 is none."""
    if not isinstance(raw, str):
        raise UsageError('not an octal mode in quotes, as in "027"')
    try:
        value = int(raw, 8)
    except ValueError:
        value = -1
    if not 0 <= value <= 0o777:
        raise UsageError(f"not an octal mode: {raw[:40]!r}")
    return value


def _path(raw: Any) -> Any:
    return Path(raw).expanduser() if isinstance(raw, str) and raw else raw


def _words(raw: Any) -> Any:
    if isinstance(raw, list | tuple) and all(isinstance(word, str) for word in raw):
        return kernel_words(raw)
    return raw


def _about(
    help: str, *, read: Reader | None = None, metavar: str | None = None, default: str = "", argument: bool = False
) -> Meta:
    """``read``: from what people write to the plain value; ``default``: how the default is shown, if not by itself."""
    return Meta(description=help, extra={"read": read, "metavar": metavar, "default": default, "argument": argument})


_Id = Annotated[int, Meta(ge=0, le=2**32 - 2)]
_LEVELS: Final = "small takes the most time. Default: what the store was made with."


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """All options of a mount, read and checked. Sizes in bytes, times in seconds."""

    store: Annotated[str | None, _about("What is mounted: a directory or a URL.", argument=True)] = None
    mountpoint: Annotated[Path | None, _about("Where: an empty directory.", read=_path, argument=True)] = None
    branch: Annotated[str, _about("Branch to mount.")] = "main"
    at: Annotated[str | None, _about("Mount history: a tag, BRANCH@NUMBER or commit id. Read-only.", metavar="REF")] = (
        None
    )
    read_only: Annotated[bool, _about("Mount without the right to write.")] = False
    refresh: Annotated[
        Annotated[float, Meta(ge=0)],
        _about(
            "How soon changes of others are seen; 0 asks the store at every open.", read=_seconds, metavar="SECONDS"
        ),
    ] = limits.REFRESH_DEFAULT
    write_back: Annotated[bool, _about("close() returns when the bytes are safe on this machine.")] = False
    drain_timeout: Annotated[
        Annotated[float, Meta(ge=0)],
        _about("How long the daemon waits for the store when it is told to end.", read=_seconds, metavar="SECONDS"),
    ] = limits.DRAIN_TIMEOUT
    store_timeout: Annotated[
        Annotated[float, Meta(ge=1)],
        _about(
            "How long a store that does not answer is asked again before that is an error.",
            read=_seconds,
            metavar="SECONDS",
        ),
    ] = limits.STORE_RETRY_BUDGET
    cache_dir: Annotated[
        Path | None, _about("Where chunks are kept on this machine.", read=_path, metavar="DIR", default="per store")
    ] = None
    cache_size: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        _about("How much of them.", read=_size, metavar="SIZE", default="as it was sized last; at first 50GB"),
    ] = None
    allow_other: Annotated[bool, _about("Let other users in (as their permissions allow).")] = False
    uid: Annotated[_Id | None, _about("Show all files as owned by this user.", metavar="NUMBER")] = None
    gid: Annotated[_Id | None, _about("Show all files as owned by this group.", metavar="NUMBER")] = None
    umask: Annotated[int | None, _about("Take these bits from all modes shown.", read=_mode, metavar="OCTAL")] = None
    compression: Annotated[
        Literal["none", "fast", "balanced", "small"] | None, _about(f"What new chunks are packed for: {_LEVELS}")
    ] = None
    single_writer: Annotated[bool, _about("Write to a store without exclusive creation, under a lease.")] = False
    passphrase_file: Annotated[
        Path | None, _about("The store's passphrase is in this file.", read=_path, metavar="FILE")
    ] = None
    passphrase_command: Annotated[str | None, _about("Its passphrase is what this prints.", metavar="COMMAND")] = None
    key_file: Annotated[Path | None, _about("Its key is in this file of 32 bytes.", read=_path, metavar="FILE")] = None
    verify_with: Annotated[
        tuple[str, ...],
        _about("Refuse history that this public key (or one in this file) did not sign.", metavar="KEY"),
    ] = ()
    allow_source: Annotated[
        tuple[str, ...],
        _about("Follow links (`import --link`) to what lies below this path or URL.", metavar="URL"),
    ] = ()
    sign_with: Annotated[Path | None, _about("Sign commits with the key in this file.", read=_path, metavar="FILE")] = (
        None
    )
    session: Annotated[
        Literal["auto", "native", "pyfuse3"],
        _about("How the daemon speaks with the kernel: native lets it read cached files without us, and takes root."),
    ] = "auto"
    fuse_options: Annotated[
        tuple[str, ...], _about("Options for the kernel, as mount(8) writes them.", read=_words, metavar="OPTION,…")
    ] = ()
    metrics: Annotated[
        str | None, _about("Serve metrics for Prometheus there, as 127.0.0.1:9101.", metavar="HOST:PORT")
    ] = None
    log_file: Annotated[
        Path | None,
        _about("Log of a mount in the background.", read=_path, metavar="FILE", default="in the state directory"),
    ] = None
    debug: Annotated[bool, _about("Log more.")] = False


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table. ``name``: of the field; ``key``: in a file, and with two dashes the flag."""

    name: str
    key: str
    type: Any
    default: Any
    help: str
    metavar: str | None
    default_words: str  # how the default is said, where its value does not say it
    argument: bool
    reader: Reader | None

    @property
    def flag(self) -> str:
        """What stands on a command line."""
        return f"--{self.key}"

    @property
    def variable(self) -> str | None:
        """The variable of the environment; None for an argument."""
        return None if self.argument else f"MODELFS_{self.name.upper()}"

    @property
    def default_shown(self) -> str:
        """The default for people; "" when there is none to speak of."""
        return self.default_words or ("" if self.switch else self.shown(self.default))

    @property
    def switch(self) -> bool:
        """True for those that are on or off."""
        return _plain(self.type) is bool

    @property
    def many(self) -> bool:
        """True for those that take several words."""
        return get_origin(_plain(self.type)) is tuple

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it takes; () when it takes any."""
        plain = _plain(self.type)
        for part in (plain, *get_args(plain)):
            if get_origin(part) is Literal:
                return get_args(part)
        return ()

    def value(self, raw: Any) -> Any:
        """The value that ``raw``, as TOML knows it, stands for. UsageError says what is wrong, without where."""
        return self._checked(raw, strict=True)

    def value_of_text(self, text: str) -> Any:
        """The value that a flag or variable stands for; several words are separated by commas. UsageError."""
        return self._checked([word for word in text.split(",") if word] if self.many else text, strict=False)

    def shown(self, value: Any) -> str:
        """A value for people, as it could stand in a file or flag; "" for none."""
        if value is None:
            return ""
        if self.switch:
            return "true" if value else "false"
        if self.many:
            return ",".join(value)
        if self.reader is _mode:
            return f"{value:03o}"
        if self.reader is _size:
            return size_text(value)
        return f"{value:g}" if isinstance(value, float) else str(value)

    def _checked(self, raw: Any, *, strict: bool) -> Any:
        try:
            return msgspec.convert(raw if self.reader is None else self.reader(raw), self.type, strict=strict)
        except msgspec.ValidationError as error:
            why = f"one of {', '.join(self.choices)} is expected" if self.choices else _in_words(str(error))
            raise UsageError(f"{why}, not {str(raw)[:80]!r}") from error


_KINDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "array": "a list",
    "Path": "a path",
}


def _in_words(message: str) -> str:
    """What msgspec says ("Expected `int | null`, got `str`", "Expected `float` >= 1.0") for people."""
    found = re.match(r"Expected `(\w+)[^`]*`( [<>].*)?", message)
    return message if found is None else f"{_KINDS.get(found[1], found[1])}{found[2] or ''} is expected"


def _plain(type: Any) -> Any:
    while get_origin(type) is Annotated:
        type = get_args(type)[0]
    return type


def _option(field: msgspec.structs.FieldInfo) -> Option:
    [about] = (meta for meta in field.type.__metadata__ if meta.extra is not None)  # others hold bounds
    extra = about.extra
    return Option(
        field.name,
        field.encode_name,
        field.type,
        field.default,
        about.description or "",
        extra["metavar"],
        extra["default"],
        extra["argument"],
        extra["read"],
    )


OPTIONS: Final = {field.name: _option(field) for field in msgspec.structs.fields(Settings)}
BY_KEY: Final = {option.key: option for option in OPTIONS.values()}
SECRETS: Final = ("passphrase_file", "passphrase_command", "key_file")  # one of them opens a store
