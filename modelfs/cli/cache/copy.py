"""``modelfs cache export`` and ``import``: the cache of one machine as the beginning of another's."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from modelfs import config
from modelfs.cache import seed
from modelfs.cache.cache import Cache
from modelfs.cache.directory import read_store_id
from modelfs.cli.access import access_options
from modelfs.cli.cache.where import chosen, directory_option, opened, own_directory_option
from modelfs.cli.location import repository
from modelfs.cli.output import counted, json_option, note, print_json, progress_bar, size


@click.command("export")
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("store", required=False)
@directory_option
@access_options
@json_option
def export(target: Path, store: str | None, cache_dir: Path | None, as_json: bool) -> None:
    """Copy what is cached, of STORE or of all stores, to DIR, from where another machine imports it.

    DIR gets one sparse file for each cached file, in plain text also for encrypted stores. Again into the same DIR it
    copies what has come since. `rsync --sparse` or `tar --sparse` carry it on.

    \b
    modelfs cache export /mnt/usb/seed /srv/models
    """
    found = []
    for directory in chosen(store, cache_dir):
        with opened(directory) as cache, progress_bar("copying", cache.statistics().bytes) as advance:
            store_id = read_store_id(directory)
            found.append({"store_id": store_id, **asdict(seed.export(cache, target / store_id, advance))})
    if as_json:
        print_json(found)
    for row in found if not as_json else ():
        click.echo(
            f"{target / row['store_id']}: {counted(row['files'], 'file')}, {size(row['copied_bytes'])} copied, "
            f"{size(row['present_bytes'])} were there"
        )


@click.command("import")
@click.argument("store")
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@own_directory_option
@access_options
@json_option
def take_in(store: str, source: Path, cache_dir: Path | None, as_json: bool) -> None:
    """Take what `modelfs cache export` wrote to DIR into the cache of STORE on this machine.

    STORE is asked what each file consists of, and only chunks with the right hash are taken. Exit codes: 0 done, 1 some
    of it was damaged or did not fit.

    \b
    modelfs cache import /srv/models /mnt/usb/seed
    """
    with repository(store) as repo:
        store_id = repo.format.id
        total = seed.size_of(source / store_id)
        cache = Cache(cache_dir or config.cache_directory(store_id), store_id, ids=repo.ids)
        try:
            with progress_bar("verifying", total) as advance:
                done = seed.take_in(cache, repo.read_manifest, source / store_id, advance)
        finally:
            cache.close()
    if as_json:
        print_json(asdict(done))
    else:
        click.echo(
            f"{counted(done.files, 'file')}, {size(done.taken_bytes)} taken, {size(done.present_bytes)} were here"
        )
    if done.unknown_files:
        note(f"{counted(done.unknown_files, 'file')} of the export are not in {store} any more")
    if done.refused_bytes:
        note(f"the cache has no room for {size(done.refused_bytes)}")
    if done.damaged_bytes:
        note(f"{size(done.damaged_bytes)} are not what the store says; they were left out")
    if done.refused_bytes or done.damaged_bytes:
        sys.exit(1)
