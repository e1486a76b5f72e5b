"""``modelfs get``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from modelfs.cli.access import access_options
from modelfs.cli.location import existing, repository, split_ref, tree_path
from modelfs.cli.output import counted, json_option, print_json, progress_bar, size
from modelfs.errors import UsageError
from modelfs.ids import TreeId
from modelfs.reader.export import Export
from modelfs.repository.objects import Entry, Kind


@click.command("get")
@click.argument("location", metavar="STORE[:REF]")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST", type=click.Path(path_type=Path))
@access_options
@json_option
def command(location: str, source: str, destination: Path, as_json: bool) -> None:
    """Copy a file or directory out of a store, many chunks at a time and without a mount.

    \b
    modelfs get /srv/models runs/7/model.safetensors .
    modelfs get s3://checkpoints/team-a:v1.2 runs/7 ./release
    """
    store_url, ref = split_ref(location)
    with repository(store_url) as repo:
        entry = existing(repo, repo.resolve(ref).commit.root, source)
        path = tree_path(source)
        target = destination
        if destination.is_dir() and path:
            target = destination / os.fsdecode(path.rpartition(b"/")[2])
        if not target.absolute().parent.is_dir():
            raise UsageError(f"{target.parent} is not a directory")
        items = [(target, entry)]
        if entry.kind is Kind.DIRECTORY:
            items += [(target / os.fsdecode(p), e) for p, e in repo.walk(TreeId(entry.content))]
        total = sum(found.size for _, found in items if found.kind in (Kind.FILE, Kind.INLINE))
        directories: list[tuple[Path, Entry]] = []
        with Export(repo) as export, progress_bar("downloading", total) as advance:
            for place, found in items:
                export.entry(found, place, advance)
                if found.kind is Kind.DIRECTORY:
                    directories.append((place, found))
            for place, found in reversed(directories):
                export.finish_directory(found, place)
    files = sum(found.kind in (Kind.FILE, Kind.INLINE) for _, found in items)
    if as_json:
        print_json({"files": files, "bytes": total, "path": str(target)})
    else:
        click.echo(f"{counted(files, 'file')}, {size(total)}")
