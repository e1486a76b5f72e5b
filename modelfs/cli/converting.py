"""What `convert`, `split` and `merge` have in common: options, and how they tell what was done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from modelfs.cli.access import access_options, sign_option
from modelfs.cli.location import repository, single_writer_option, split_ref, tree_path, writing
from modelfs.cli.output import counted, json_option, note, print_json, size
from modelfs.convert.conversion import Conversion, Converted
from modelfs.errors import UsageError

_LEFT_OUT: Final = 5  # names that are printed

max_size_option = click.option(
    "--max-size", default="5GB", show_default=True, metavar="SIZE", help="Tensor bytes of one file, such as 500MB."
)


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of all three."""
    decorators: list[Callable[[Any], Any]] = [
        click.option("--branch", default="main", show_default=True, help="Branch that gets the files."),
        click.option("-m", "--message", default="", help="Why, for the history."),
        single_writer_option,
        access_options,
        sign_option,
        json_option,
    ]
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


@contextmanager
def conversion(location: str, branch: str, message: str, *, single_writer: bool) -> Iterator[Conversion]:
    """From ``STORE[:REF]`` to a branch of the same store."""
    store_url, ref = split_ref(location)
    with repository(store_url) as repo, writing(repo, single_writer=single_writer):
        yield Conversion(repo, repo.resolve(ref, branch), branch, message)


def path_of(path: str) -> str:
    """A path in a store, relative and without empty parts. UsageError for ``..`` and what is no UTF-8."""
    try:
        return tree_path(path).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path!r} is no UTF-8, which names of models must be") from error


def report(done: Converted, *, as_json: bool) -> None:
    """Print it."""
    model = done.opened.model
    if as_json:
        files = [
            {"path": path, "bytes": made.entry.size, "shared": made.shared, "sent": made.sent}
            for path, made in done.files.items()
        ]
        facts = {
            "commit": done.record.id.hex(),
            "number": done.record.number,
            "format": model.format,
            "tensors": len(model.tensors),
            "bytes": sum(made.entry.size for made in done.files.values()),
            "shared": done.shared,
            "sent": done.sent,
            "left_out": list(model.left_out),
            "files": files,
        }
        print_json(facts)
        return
    if model.left_out:
        names = ", ".join(name[:80] for name in model.left_out[:_LEFT_OUT])
        more = len(model.left_out) - _LEFT_OUT
        note(f"left out, because they are no tensors: {names}{f' and {more} more' if more > 0 else ''}")
    total = sum(made.entry.size for made in done.files.values())
    where = f"{done.record.branch}@{done.record.number}"
    click.echo(
        f"{counted(len(model.tensors), 'tensor')} in {counted(len(done.files), 'file')}, {size(total)}; "
        f"{size(done.sent)} were new to the store ({where})"
    )
