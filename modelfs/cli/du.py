"""``modelfs du``."""

from __future__ import annotations

from dataclasses import asdict

import click

from modelfs.cli.access import access_options
from modelfs.cli.location import existing, repository, split_ref, tree_path
from modelfs.cli.output import facts, json_option, print_json, printable, progress_bar, size, table
from modelfs.ids import TreeId
from modelfs.repository.keys import DELTAS, chunk_key
from modelfs.repository.linked import links_among
from modelfs.repository.objects import Entry, Kind
from modelfs.repository.repository import Repository
from modelfs.repository.usage import Usage, bases, by_codec, chunk_sizes


@click.command("du")
@click.argument("location", metavar="STORE[:REF]")
@click.argument("path", default="")
@click.option("--by", type=click.Choice(["codec", "path"]), help="Split it up: by codec, or by what is in PATH.")
@access_options
@json_option
def command(location: str, path: str, by: str | None, as_json: bool) -> None:
    """How much PATH (default: everything) takes: as files, as distinct chunks, and as bytes in the store.

    Without PATH it also says what the whole store holds, history included. --by path shows for each name in PATH what
    only it holds: what would become free if it and its history were gone. --by codec asks the store for a byte of
    every chunk.

    \b
    modelfs du /srv/models
    modelfs du /srv/models:v1.2 runs/7 --json
    modelfs du /srv/models runs/7 --by path
    """
    store_url, ref = split_ref(location)
    with repository(store_url) as repo:
        top = existing(repo, repo.resolve(ref).commit.root, path)
        sizes = chunk_sizes(repo)
        used = _usage(repo, top)
        report = _report(repo, used, sizes)
        linked = links_among(repo, used.chunks, lambda chunk: sizes.get(chunk_key(chunk)))
        report["linked"] = sum(used.chunks[chunk] for chunk in linked)
        if not path:
            areas = ("meta/", "commits/", "tags/", DELTAS)
            meta = sum(found.size for area in areas for found in repo.store.list(area))
            report |= {"store_objects": len(sizes), "store_data": sum(sizes.values()), "store_metadata": meta}
        if by == "codec":
            with progress_bar("looking at chunks", sum(used.chunks.values())) as advance:
                report["codecs"] = {
                    name: asdict(row) for name, row in sorted(by_codec(repo, used, sizes, advance).items())
                }
        elif by == "path":
            report["paths"] = _by_path(repo, top, path, sizes)
    if as_json:
        print_json(report)
    else:
        _show(report)


def _usage(repo: Repository, top: Entry) -> Usage:
    used = Usage()
    used.add(repo, (e for _, e in repo.walk(TreeId(top.content))) if top.kind is Kind.DIRECTORY else [top])
    return used


def _report(repo: Repository, used: Usage, sizes: dict[str, int]) -> dict[str, object]:
    outside = {base for base, delta in bases(repo) if delta in used.chunks and base not in used.chunks}
    return {
        "files": used.files,
        "logical": used.logical,
        "unique": used.unique,
        "stored": used.stored(sizes),
        "chunks": len(used.chunks),
        "bases": sum(sizes.get(chunk_key(base), 0) for base in outside),
    }


def _by_path(repo: Repository, top: Entry, path: str, sizes: dict[str, int]) -> list[dict[str, object]]:
    """For every name in a directory what it takes, and what nothing beside it has."""
    entries = list(repo.list(TreeId(top.content))) if top.kind is Kind.DIRECTORY else [top]
    parts = [(entry, _usage(repo, entry)) for entry in entries]
    owners: dict[bytes, int] = {}
    for _, used in parts:
        for chunk in used.chunks:
            owners[chunk] = owners.get(chunk, 0) + 1
    rows: list[dict[str, object]] = []
    for entry, used in parts:
        own = sum(sizes.get(chunk_key(chunk), 0) for chunk in used.chunks if owners[chunk] == 1)
        name = tree_path(path) + b"/" + entry.name if path and top.kind is Kind.DIRECTORY else entry.name
        rows.append(
            {
                "path": printable(name) + ("/" if entry.kind is Kind.DIRECTORY else ""),
                "files": used.files,
                "logical": used.logical,
                "unique": used.unique,
                "stored": used.stored(sizes),
                "only_here": own,
            }
        )
    return rows


def _show(report: dict[str, object]) -> None:
    def bytes_of(name: str) -> str:
        count = report[name]
        assert isinstance(count, int)
        return size(count)

    lines = [
        ("files", str(report["files"])),
        ("logical", f"{bytes_of('logical')}  what the files add up to"),
        ("unique", f"{bytes_of('unique')}  after deduplication"),
        ("stored", f"{bytes_of('stored')}  after compression, in {report['chunks']} chunks"),
    ]
    if report["linked"]:
        lines.append(("linked", f"{bytes_of('linked')}  of them lie outside the store, where chunks are links to"))
    if report["bases"]:
        lines.append(("bases", f"{bytes_of('bases')}  of other versions, which chunks here are differences to"))
    if "store_data" in report:
        data, meta = report["store_data"], report["store_metadata"]
        assert isinstance(data, int)
        assert isinstance(meta, int)
        lines.append(("whole store", f"{size(data + meta)}  with all history, {size(meta)} of it metadata"))
    facts(lines)
    if isinstance(codecs := report.get("codecs"), dict):
        click.echo()
        rows = [
            [name, str(row["chunks"]), size(row["plain"]), size(row["stored"]), f"{row['stored'] / row['plain']:.3f}"]
            for name, row in codecs.items()
        ]
        columns = ["CODEC", "CHUNKS", "PLAIN", "STORED", "RATIO"]
        table(columns, rows, right=columns[1:])
    if isinstance(paths := report.get("paths"), list):
        click.echo()
        keys = ("logical", "unique", "stored", "only_here")
        rows = [[str(row["files"]), *(size(row[key]) for key in keys), row["path"]] for row in paths]
        columns = ["FILES", "LOGICAL", "UNIQUE", "STORED", "ONLY HERE"]
        table([*columns, "PATH"], rows, right=columns)
