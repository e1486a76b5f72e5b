"""``modelfs cache warm``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from modelfs import limits
from modelfs.cli.access import access_options
from modelfs.cli.cache.where import at_option, own_directory_option, place
from modelfs.cli.output import counted, json_option, note, print_json, progress_bar, size
from modelfs.reader.warm import Warm


@click.command("warm")
@click.argument("location", metavar="STORE")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@at_option
@click.option("--tensor", "tensors", multiple=True, metavar="PATTERN", help="Only tensors with such names, as *.attn.*")
@click.option("--pin", "pinned", is_flag=True, help="Pin the files first, so that they stay.")
@own_directory_option
@access_options
@json_option
def warm(
    location: str,
    paths: tuple[str, ...],
    at: str | None,
    tensors: tuple[str, ...],
    pinned: bool,
    cache_dir: Path | None,
    as_json: bool,
) -> None:
    """Bring files, or all files of directories, from STORE into its cache on this machine. No mount is needed.

    What is here already is verified and not fetched; a run that was stopped goes on where it was. With --tensor only
    the chunks in which these tensors lie come, and the file's header. Exit codes: 0 all of it is here, 1 something is
    damaged in the store or did not fit, 2 it cannot fit.

    \b
    modelfs cache warm /srv/models llama-3 --at v1.2
    modelfs cache warm s3://models/team-a llama-3/model.safetensors --tensor 'model.layers.[0-7].*'
    """
    with place(location, at, cache_dir, make=True) as here, Warm(here.repo, here.cache) as run:
        files = here.wanted(paths)
        parts = run.plan(files, tensors)
        if pinned:
            here.cache.pin([part.file for part in parts])
        with progress_bar("warming", sum(part.bytes() for part in parts)) as advance:
            done = run.run(parts, advance)
        missing = run.left_out(parts)
    if as_json:
        print_json(
            {
                "files": done.files,
                "bytes": done.bytes,
                "present_bytes": done.present_bytes,
                "fetched_chunks": done.fetched_chunks,
                "fetched_bytes": done.fetched_bytes,
                "missing_bytes": missing,
                "failures": done.failures,
                "pinned": pinned,
            }
        )
    else:
        click.echo(
            f"{counted(done.files, 'file')}, {size(done.bytes)}: {size(done.fetched_bytes)} fetched, "
            f"{size(done.present_bytes)} were here"
        )
    for line in done.failures[: limits.WARM_FAILURES_SHOWN]:
        note(line)
    if missing:
        note(f"{size(missing)} are not in the cache" + ("" if done.failures else ": it has no room for them"))
        sys.exit(1)
