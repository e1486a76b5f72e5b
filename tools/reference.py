"""The reference of the documentation, as Markdown: commands from their own help, options from the table of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
from manpages import flags, paragraphs

from modelfs.cli.app import COMMANDS, app
from modelfs.settings.example import line
from modelfs.settings.options import OPTIONS, Option

INDEX = "reference/commands.md"
NAVIGATION = [INDEX, *({f"modelfs {name}": f"reference/{name}.md"} for name in COMMANDS)]


def pages() -> Iterator[tuple[str, str]]:
    """(place on the site, text) of every page."""
    context = click.Context(app, info_name="modelfs")
    yield INDEX, _index()
    for name in COMMANDS:
        command = app.get_command(context, name)
        assert command is not None
        yield f"reference/{name}.md", "\n".join(_described(command, f"modelfs {name}", 1, context))
    yield "reference/options.md", _options()


def escaped(text: str) -> str:
    """Plain text as Markdown shows it, but for code in backquotes."""
    parts = re.split(r"(`[^`]+`)", text)
    plain = (re.sub(r"([\\*_<\[\]|])", r"\\\1", part) if number % 2 == 0 else part for number, part in enumerate(parts))
    return "".join(plain).replace("\n", " ")


def _index() -> str:
    rows = "\n".join(f"| [modelfs {name}]({name}.md) | {escaped(what)} |" for name, what in COMMANDS.items())
    return (
        "# Commands\n\nEach has `--help` with examples, those that print facts `--json`. Exit codes: 0 done, 1 failed "
        f"on the way, 2 the request cannot be met.\n\n| command | |\n| --- | --- |\n{rows}\n"
    )


def _described(command: click.Command, path: str, level: int, parent: click.Context) -> Iterator[str]:
    """A command, and those below it."""
    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent)
    yield f"{'#' * level} {path}\n"
    yield f"```text\n{path} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    for example, text in paragraphs(command.help or ""):
        yield f"```sh\n{text}\n```\n" if example else f"{escaped(text)}\n"
    if records := flags(command, context):
        yield "| option | |\n| --- | --- |"
        yield "\n".join(f"| `{words}` | {escaped(help)} |" for words, help in records)
        yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _described(found, f"{path} {name}", level + 1, context)


def _options() -> str:
    parts = [
        "# Options of a mount\n\nMade from the table that flags, variables and files are read with. "
        "[Configuration](../configuration.md) says which source goes before which.\n"
    ]
    for option in OPTIONS.values():
        facts = [f"- in a file: `{line(option)}`"]
        if option.name == "fuse_options":
            facts.append("- on the command line: `-o OPTION,…`")
        elif not option.argument:
            no = f", `--no-{option.key}`" if option.switch else ""
            facts.append(
                f"- on the command line: `{option.flag}{_value(option)}`{no}, or `-o {option.key}{_word(option)}`"
            )
        if option.variable:
            facts.append(f"- in the environment: `{option.variable}`")
        if option.default_shown:
            facts.append(f"- default: {escaped(option.default_shown)}")
        if option.choices:
            facts.append(f"- one of {', '.join(f'`{choice}`' for choice in option.choices)}")
        parts.append(f"## {option.key}\n\n{escaped(option.help)}\n\n" + "\n".join(facts) + "\n")
    return "\n".join(parts)


def _value(option: Option) -> str:
    return "" if option.switch else f" {option.metavar or '|'.join(option.choices) or 'TEXT'}"


def _word(option: Option) -> str:
    return "" if option.switch else "=…"
