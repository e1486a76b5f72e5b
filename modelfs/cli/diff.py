"""``modelfs diff``."""

from __future__ import annotations

from collections.abc import Iterator

import click

from modelfs.cli.access import access_options
from modelfs.cli.location import existing, repository, tree_path
from modelfs.cli.output import counted, json_option, print_json, printable, progress_bar, size
from modelfs.formats.layout import Span
from modelfs.ids import ManifestId
from modelfs.reader.compare import TensorChange, compare_tensors
from modelfs.repository.changes import Change, changes, changes_below
from modelfs.repository.objects import Entry, Kind, Manifest
from modelfs.repository.repository import Repository


@click.command("diff")
@click.argument("store")
@click.argument("before", metavar="REF1")
@click.argument("after", metavar="REF2")
@click.argument("path", default="")
@click.option("--names", is_flag=True, help="Paths only; tensors are not compared and no data is read.")
@access_options
@json_option
def command(store: str, before: str, after: str, path: str, names: bool, as_json: bool) -> None:
    """Show what changed between two commits, in PATH or everywhere; in checkpoints, which tensors.

    A path is marked A (added), D (deleted), M (content changed) or T (attributes or kind changed). Of a changed
    checkpoint each tensor that differs is shown with the number of bytes that are not the same.

    \b
    modelfs diff /srv/models main@11 main@12
    modelfs diff /srv/models v1.1 v1.2 runs/7 --names
    """
    with repository(store) as repo:
        first, second = repo.resolve(before).commit.root, repo.resolve(after).commit.root
        found = list(_at(repo, first, second, path))
        rows = [(change, None if names else _tensors(repo, change)) for change in found]
    if as_json:
        print_json([_described(change, tensors) for change, tensors in rows])
        return
    for change, tensors in rows:
        name, old, new = change
        sizes = "" if _sign(change) == "T" else _sizes(old, new)
        click.echo(f"{_sign(change)} {printable(name)}{sizes}")
        for tensor in tensors or ():
            click.echo(f"    {_line(tensor)}")
    click.echo(f"{counted(len(rows), 'path')} changed", err=True)


def _at(repo: Repository, first: Entry, second: Entry, path: str) -> Iterator[Change]:
    name = tree_path(path)
    if not name:
        yield from changes_below(repo, b"", first, second)
        return
    old, new = repo.find(first, name), repo.find(second, name)
    if old is None and new is None:
        existing(repo, second, path)  # says so
    if old != new:
        yield from changes(repo, name, old, new)


def _sign(change: Change) -> str:
    _, old, new = change
    if old is None:
        return "A"
    if new is None:
        return "D"
    if old.kind is Kind.DIRECTORY or new.kind is Kind.DIRECTORY:
        return "T"
    return "T" if old.content == new.content else "M"


def _tensors(repo: Repository, change: Change) -> list[TensorChange] | None:
    name, old, new = change
    if old is None or new is None or old.kind is not Kind.FILE or new.kind is not Kind.FILE:
        return None
    before, after = _manifest(repo, old), _manifest(repo, new)
    if not before.tensors or not after.tensors:
        return None
    with progress_bar(printable(name), after.size) as advance:
        return compare_tensors(repo, before, after, advance)


def _manifest(repo: Repository, entry: Entry) -> Manifest:
    return repo.read_manifest(ManifestId(entry.content))


def _sizes(old: Entry | None, new: Entry | None) -> str:
    sizes = [size(entry.size) for entry in (old, new) if entry is not None and entry.kind is not Kind.DIRECTORY]
    return f"  {' -> '.join(dict.fromkeys(sizes))}" if sizes else ""


def _line(change: TensorChange) -> str:
    name = printable(change.name.encode("utf-8", "surrogateescape"))
    if change.before is None and change.after is not None:
        return f"A {name}  {_what(change.after)}"
    if change.after is None and change.before is not None:
        return f"D {name}  {_what(change.before)}"
    assert change.before is not None
    assert change.after is not None
    what = " -> ".join(dict.fromkeys((_what(change.before), _what(change.after))))
    share = change.changed / max(change.before.length, change.after.length)
    return f"M {name}  {what}  {size(change.changed)} of it differ ({share:.1%})"


def _what(span: Span) -> str:
    shape = "x".join(map(str, span.shape)) or "scalar"
    return f"{span.dtype or '?'} {shape} ({size(span.length)})"


def _described(change: Change, tensors: list[TensorChange] | None) -> dict[str, object]:
    name, old, new = change
    facts: dict[str, object] = {
        "change": _sign(change),
        "path": name.decode(errors="replace"),
        "size_before": old.size if old is not None else None,
        "size_after": new.size if new is not None else None,
    }
    if tensors is not None:
        facts["tensors"] = [
            {"name": t.name, "before": _span(t.before), "after": _span(t.after), "changed_bytes": t.changed}
            for t in tensors
        ]
    return facts


def _span(span: Span | None) -> dict[str, object] | None:
    return None if span is None else {"dtype": span.dtype, "shape": list(span.shape), "bytes": span.length}
