"""How commands print: tables and sizes for people, JSON for programs, progress on a terminal.

Facts go to standard output, progress and warnings to standard error, so both can be piped.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from modelfs.shown import counted as counted
from modelfs.shown import moment as moment
from modelfs.shown import printable as printable
from modelfs.shown import size as size

json_option = click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")


def print_json(facts: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(facts, indent=2, ensure_ascii=False))


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    styles: Mapping[str, str] = MappingProxyType({}),
    fold: bool = False,
) -> None:
    """Rows under headings; ``right`` names the columns that are numbers; ``styles``: how some words look on a terminal
    (rich's names; colours stay away under NO_COLOR); ``fold``: sentences in the last column go on in the next line of
    a terminal. No frames, so it can be cut and sorted."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for at, column in enumerate(columns, 1):
        wraps = fold and at == len(columns)
        made.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=not wraps,
            min_width=None if wraps or not fold else max(len(column), *(len(row[at - 1]) for row in rows)),
        )
    for row in rows:
        made.add_row(*(Text(cell, styles.get(cell, "")) for cell in row))
    console = _console()
    with console.capture() as captured:
        console.print(made)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        click.echo(f"{name:<{width}}  {value}")


@contextlib.contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar over ``total`` bytes on standard error, shown on a terminal only; yields what to call with each advance."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


@contextlib.contextmanager
def counter() -> Iterator[Callable[[str, int], None]]:
    """What is being done and how much of it is done, on standard error of a terminal only. Yields what to call with
    the one and how much more of the other."""
    console = Console(stderr=True)
    shown = Progress(
        TextColumn("{task.description} {task.completed:,.0f}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with shown:
        task, doing = shown.add_task("", total=None), ""

        def tick(what: str, count: int) -> None:
            nonlocal doing
            if what != doing:
                doing = what
                shown.reset(task, description=what)
            shown.advance(task, count)

        yield tick


def note(message: str) -> None:
    """A line for the person, beside the output."""
    click.echo(f"modelfs: {message}", err=True)


def _console() -> Console:
    # Rich would cut lines at 80 columns where there is no terminal.
    return Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
