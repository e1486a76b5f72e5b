"""Man pages from the commands' own help and from the table of options: python tools/manpages.py DIRECTORY

One page a command (modelfs-mount.1), one for files that describe mounts (modelfs.toml.5) and one for mount(8)'s helper
(mount.modelfs.8), in man(7)'s macros. Nothing is said here that the help does not say; examples are its `\\b` blocks.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import click

import modelfs
from modelfs.cli.app import COMMANDS, app
from modelfs.settings.options import OPTIONS

ALSO = ("modelfs(1)", "modelfs.toml(5)", "mount.modelfs(8)", "systemd.service(5)")


def quoted(text: str) -> str:
    """Text that groff prints as it is."""
    text = (
        text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace("~", "\\(ti")
    )
    return "\n".join(f"\\&{line}" if line.startswith((".", "\\(aq")) else line for line in text.split("\n"))


def head(title: str, section: int, name: str, what: str) -> str:
    """The first lines of a page."""
    version = f"modelfs {modelfs.__version__}"
    return f'.TH "{title}" "{section}" "" "{version}" "modelfs"\n.SH NAME\n{quoted(name)} \\- {quoted(what)}\n'


def paragraphs(help: str) -> Iterator[tuple[bool, str]]:
    """(is it an example, text) of the paragraphs of a help text; examples, behind `\\b`, line by line."""
    for paragraph in re.split(r"\n\s*\n", cleandoc(help)):
        if paragraph.startswith("\b"):
            yield True, paragraph.removeprefix("\b").strip("\n")
        else:
            yield False, " ".join(paragraph.split())


def described(help: str) -> Iterator[str]:
    """Paragraphs of a help text."""
    for example, text in paragraphs(help):
        yield f".PP\n.EX\n{quoted(text)}\n.EE\n" if example else f".PP\n{quoted(text)}\n"


def page(command: click.Command, path: str, what: str, context: click.Context) -> str:
    """The page of one command."""
    name = path.replace(" ", "-")
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [
        head(name.upper(), 1, name, what),
        f".SH SYNOPSIS\n.B {quoted(path)}\n{quoted(usage)}\n",
        ".SH DESCRIPTION\n",
    ]
    parts += described(command.help or what)
    if records := flags(command, context):
        parts.append(".SH OPTIONS\n")
        parts += [f".TP\n.B {quoted(words)}\n{quoted(' '.join(help.split()))}\n" for words, help in records]
    if isinstance(command, click.Group):
        parts.append(".SH COMMANDS\n")
        for sub in command.list_commands(context):
            parts.append(f".TP\n.BR {quoted(name)}\\-{quoted(sub)} (1)\n{quoted(summary(command, sub, context))}\n")
    parts.append(".SH EXIT STATUS\n0: done. 1: something failed on the way. 2: the request cannot be met.\n")
    parts.append(f".SH SEE ALSO\n{', '.join(quoted(other) for other in ALSO if other != f'{name}(1)')}\n")
    return "".join(parts)


def flags(command: click.Command, context: click.Context) -> list[tuple[str, str]]:
    """(how an option is written, what it does) of a command."""
    options = [found for found in command.get_params(context) if isinstance(found, click.Option)]
    return [record for found in options if (record := found.get_help_record(context))]


def summary(group: click.Group, name: str, context: click.Context) -> str:
    """What a command does, in a line."""
    if group is app:
        return COMMANDS[name]
    found = group.get_command(context, name)
    assert found is not None
    first = cleandoc(found.help or name).split("\n\n")[0]
    return " ".join(first.split()).partition(". ")[0].removesuffix(".")


def pages(
    command: click.Command, path: str, what: str, parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """(file name, text) of a command and all below it."""
    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent)
    yield f"{path.replace(' ', '-')}.1", page(command, path, what, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from pages(found, f"{path} {name}", summary(command, name, context), context)


def toml_page() -> str:
    """The page of configuration files."""
    parts = [head("MODELFS.TOML", 5, "modelfs.toml", "a mount of modelfs, described in a file")]
    parts.append(".SH SYNOPSIS\n/etc/modelfs/NAME.toml\n.br\n\\(ti/.config/modelfs/NAME.toml\n.SH DESCRIPTION\n")
    parts.append("Flat TOML, mounted by \\fBmodelfs mount NAME\\fP. Flags and variables go before it. Keys:\n")
    for option in OPTIONS.values():
        default = f" Default: {option.default_shown}." if option.default_shown else ""
        choices = f" One of {', '.join(option.choices)}." if option.choices else ""
        variable = f" Variable: {option.variable}." if option.variable else ""
        parts.append(f".TP\n.B {quoted(option.key)}\n{quoted(option.help + choices + default + variable)}\n")
    return "".join(parts) + ".SH SEE ALSO\nmodelfs\\-mount(1), modelfs\\-config(1)\n"


def helper_page() -> str:
    """The page of mount(8)'s helper."""
    import modelfs.cli.mounthelper as helper

    text = [head("MOUNT.MODELFS", 8, "mount.modelfs", "mount a store of modelfs with mount(8)")]
    text.append(".SH SYNOPSIS\n.B mount \\-t modelfs\nSTORE DIR [\\-o OPTION,...]\n.SH DESCRIPTION\n")
    text += described((helper.__doc__ or "").replace("``", '"'))
    text.append(".PP\nEvery key of modelfs.toml(5) is an option of \\-o, beside those of the kernel.\n")
    text.append(".SH EXIT STATUS\n0: mounted. 1: called wrongly. 32: the mount failed.\n")
    return "".join(text) + ".SH SEE ALSO\nmodelfs\\-mount(1), modelfs.toml(5), fstab(5)\n"


def main(directory: Path) -> None:
    """Write all pages."""
    directory.mkdir(parents=True, exist_ok=True)
    made = dict(pages(app, "modelfs", "mount a store of model checkpoints as a directory of ordinary files"))
    made |= {"modelfs.toml.5": toml_page(), "mount.modelfs.8": helper_page()}
    for name, text in made.items():
        (directory / name).write_text(text)
    print(f"{len(made)} man pages in {directory}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
