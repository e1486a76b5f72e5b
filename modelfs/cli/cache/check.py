"""``modelfs cache verify``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from modelfs.cache.directory import is_keyed
from modelfs.cache.verify import verify as verify_cache
from modelfs.cli.access import access_options
from modelfs.cli.cache.where import directories, directory_of, directory_option, opened
from modelfs.cli.location import repository
from modelfs.cli.output import counted, json_option, note, print_json, progress_bar, size
from modelfs.errors import UsageError
from modelfs.ids import PLAIN


@click.command("verify")
@click.argument("store", required=False)
@directory_option
@access_options
@json_option
def verify(store: str | None, cache_dir: Path | None, as_json: bool) -> None:
    """Hash what is cached again, of STORE or of all stores. Damaged chunks are forgotten, so they are fetched again.

    What is cached of an encrypted store can be verified with its key only: name the store.
    A file that a mount has open, and that was sound when it was opened, is trusted there until it is closed. Exit
    codes: 0 all is sound, 1 something was damaged.

    \b
    modelfs cache verify
    modelfs cache verify /srv/models --json
    """
    ids = PLAIN
    if store is not None:
        with repository(store) as repo:
            ids = repo.ids
            cache_dir = directory_of(repo.format.id, cache_dir)
    found = []
    for directory in directories(cache_dir):
        if is_keyed(directory) and not ids.keyed:
            why = f"{directory} is the cache of an encrypted store: name the store (`modelfs cache verify STORE`)"
            if cache_dir is not None:
                raise UsageError(why)
            note(f"not verified: {why}")
            continue
        with opened(directory, ids) as cache, progress_bar("verifying", cache.statistics().bytes) as advance:
            found.append({"directory": str(directory), **asdict(verify_cache(cache, advance))})
    if as_json:
        print_json(found)
    for row in found if not as_json else ():
        wrong = f"{counted(row['damaged_chunks'], 'damaged chunk')} forgotten, {size(row['damaged_bytes'])}"
        outcome = wrong if row["damaged_chunks"] else "sound"
        click.echo(f"{row['directory']}: {counted(row['chunks'], 'chunk')}, {size(row['bytes'])}: {outcome}")
    if any(row["damaged_chunks"] for row in found):
        sys.exit(1)
