"""Flags made from the table of options, and what they, the environment and a named mount's file say together.

A flag puts its value into click's context, so a command that is decorated needs no parameter for it; `resolved` reads
them back. ``@NAME`` in the place of a STORE is the store of the mount NAME: `located` finds it, and from then on that
file counts, as the last source before the defaults.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from modelfs.errors import UsageError
from modelfs.settings import files
from modelfs.settings.files import ConfigFile
from modelfs.settings.mountwords import split_words
from modelfs.settings.options import BY_KEY, OPTIONS, Option
from modelfs.settings.resolve import Given, Resolved, resolve

F = TypeVar("F", bound=Callable[..., Any])

_GIVEN: Final = "modelfs.flag."
_WORDS: Final = "modelfs.words"  # of -o
_FILE: Final = "modelfs.file"


def _read(option: Option) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Checks what a flag was given exactly as in the environment and in a file, and keeps it."""

    def keep(context: click.Context, parameter: click.Parameter, raw: Any) -> None:
        if raw is None or raw == ():
            return
        try:
            value = raw if option.switch else option.value(raw) if option.many else option.value_of_text(raw)
        except UsageError as error:
            raise click.BadParameter(str(error)) from error
        context.meta[f"{_GIVEN}{option.name}"] = value

    return keep


def _complete(option: Option) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """The words of a choice; for paths, files and directories as the shell finds them."""
    kind = {"FILE": "file", "DIR": "dir"}.get(option.metavar or "")

    def items(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        words = [CompletionItem(word) for word in option.choices if word.startswith(incomplete)]
        return [CompletionItem(incomplete, type=kind)] if kind else words

    return items


def _words(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    context.meta[_WORDS] = value


def flag(name: str) -> Callable[[F], F]:
    """The flag of one option of the table."""
    option = OPTIONS[name]
    shown = f"  [default: {option.default_shown}]" if option.default_shown else ""
    settings: dict[str, Any] = {"expose_value": False, "help": option.help + shown}
    if option.name == "fuse_options":
        return click.option("-o", name, multiple=True, metavar=option.metavar, callback=_words, **settings)
    settings |= {"callback": _read(option), "default": None}
    if option.switch:
        return click.option(f"{option.flag}/--no-{option.key}", name, **settings)
    settings |= {"metavar": option.metavar or "|".join(option.choices) or "TEXT", "multiple": option.many}
    return click.option(option.flag, name, shell_complete=_complete(option), **settings)


def flags(*names: str) -> Callable[[F], F]:
    """The flags of several options, in that order in the help."""

    def decorate(function: F) -> F:
        for name in reversed(names):
            function = flag(name)(function)
        return function

    return decorate


MOUNT_OPTIONS: Final = tuple(name for name, option in OPTIONS.items() if not option.argument)
mount_flags: Final = flags(*MOUNT_OPTIONS)


def mount_words(groups: Collection[str]) -> tuple[dict[str, Given], list[str]]:
    """``-o`` as mount(8) has it -> modelfs's options by name, and words for the kernel. UsageError."""
    switches = frozenset(option.key for option in OPTIONS.values() if option.switch)
    others = frozenset(key for key, option in BY_KEY.items() if not option.argument and key != "fuse-options")
    ours, passed = split_words(groups, switches, others - switches)
    found = {}
    for key, text in ours.items():
        option = BY_KEY[key]
        try:
            found[option.name] = Given(option.value_of_text(text), f"-o {key}")
        except UsageError as error:
            raise UsageError(f"-o {key}: {error}") from error
    return found, passed


def given() -> dict[str, Given]:
    """What this command line says, by name of the option; a flag of its own goes before a word of ``-o``."""
    meta = click.get_current_context().meta
    found: dict[str, Given] = {}
    if words := meta.get(_WORDS):
        found, passed = mount_words(words)
        if passed:
            found["fuse_options"] = Given(tuple(passed), "-o")
    for name, option in OPTIONS.items():
        if (kept := f"{_GIVEN}{name}") in meta:
            found[name] = Given(meta[kept], option.flag)
    return found


def use_file(path: Path) -> ConfigFile:
    """Read a file and let it count in this command. UsageError when another one does already."""
    meta = click.get_current_context().meta
    file: ConfigFile | None = meta.get(_FILE)
    if file is None or file.path != path:
        if file is not None:
            raise UsageError(f"{file.path} and {path}: one file for a command, please (give the other store's URL)")
        file = meta[_FILE] = files.read(path)
    return file


def located(store: str) -> str:
    """The URL of STORE. ``@NAME``, or ``@FILE`` with a slash: of the mount that a file describes, which counts from now
    on."""
    if not store.startswith("@"):
        return store
    name = store[1:]
    file = use_file(Path(name).expanduser().absolute() if "/" in name else files.find(name))
    if "store" not in file.values:
        raise UsageError(f"{file.path}: it has no store")
    return str(file.values["store"])


def resolved(names: Collection[str] = MOUNT_OPTIONS) -> Resolved:
    """What all sources say of these options. UsageError."""
    context = click.get_current_context()
    return resolve(given(), os.environ, context.meta.get(_FILE), names)
