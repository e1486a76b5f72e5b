"""``modelfs cache``: stats, ls, verify, clear."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from modelfs import config
from modelfs.cache.cache import Cache
from modelfs.cache.directory import is_keyed, read_store_id
from modelfs.cache.verify import verify as verify_cache
from modelfs.cli.access import access_options
from modelfs.cli.location import repository
from modelfs.cli.output import counted, json_option, moment, note, print_json, progress_bar, size, table
from modelfs.errors import UsageError
from modelfs.ids import PLAIN, Ids

directory_option = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    help="A cache directory (default: every cache below the user's cache directory).",
)


@click.group("cache", no_args_is_help=True)
def command() -> None:
    """Look at and clear the chunks kept on this machine. Works while mounts are running.

    \b
    modelfs cache stats
    modelfs cache ls --cache-dir /fast/cache
    modelfs cache verify
    modelfs cache clear
    """


def _directories(cache_dir: Path | None) -> list[Path]:
    if cache_dir is not None:
        read_store_id(cache_dir)
        return [cache_dir]
    root = config.cache_root()
    return [path for path in sorted(root.iterdir()) if (path / "store").is_file()] if root.is_dir() else []


@contextmanager
def _opened(directory: Path, ids: Ids = PLAIN) -> Iterator[Cache]:
    cache = Cache(directory, read_store_id(directory), ids=ids)
    try:
        yield cache
    finally:
        cache.close()


@command.command("stats")
@directory_option
@json_option
def stats(cache_dir: Path | None, as_json: bool) -> None:
    """How much each cache holds.

    \b
    modelfs cache stats --json
    """
    found = []
    for directory in _directories(cache_dir):
        with _opened(directory) as cache:
            held = asdict(cache.statistics())
        found.append(
            {
                "directory": str(directory),
                "store_id": read_store_id(directory),
                **{name: held[name] for name in ("bytes", "files", "chunks")},
            }
        )
    if as_json:
        print_json(found)
    else:
        rows = [[f["store_id"], size(f["bytes"]), str(f["files"]), str(f["chunks"]), f["directory"]] for f in found]
        table(["STORE ID", "SIZE", "FILES", "CHUNKS", "DIRECTORY"], rows, right=["SIZE", "FILES", "CHUNKS"])


@command.command("ls")
@directory_option
@json_option
def ls(cache_dir: Path | None, as_json: bool) -> None:
    """List cached files, least recently used first.

    \b
    modelfs cache ls
    """
    found = []
    for directory in _directories(cache_dir):
        with _opened(directory) as cache:
            found += [(directory, file) for file in cache.list()]
    if as_json:
        print_json([{**asdict(file), "manifest": file.manifest.hex(), "directory": str(d)} for d, file in found])
        return
    rows = [
        [
            file.manifest.hex()[:16],
            size(file.size),
            f"{100 * file.resident / file.size:.0f} %" if file.size else "",
            "pinned" if file.pinned else "",
            moment(file.last_use),
        ]
        for _, file in found
    ]
    table(["MANIFEST", "SIZE", "RESIDENT", "PINNED", "LAST USE"], rows, right=["SIZE", "RESIDENT"])


@command.command("verify")
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
            store_id, ids = repo.format.id, repo.ids
        cache_dir = cache_dir or config.cache_directory(store_id)
        if not cache_dir.is_dir():
            raise UsageError(f"{cache_dir} is not a cache directory")
        if read_store_id(cache_dir) != store_id:
            raise UsageError(f"the cache directory {cache_dir} belongs to another store ({read_store_id(cache_dir)})")
    found = []
    for directory in _directories(cache_dir):
        if is_keyed(directory) and not ids.keyed:
            why = f"{directory} is the cache of an encrypted store: name the store (`modelfs cache verify STORE`)"
            if cache_dir is not None:
                raise UsageError(why)
            note(f"not verified: {why}")
            continue
        with _opened(directory, ids) as cache, progress_bar("verifying", cache.statistics().bytes) as advance:
            found.append({"directory": str(directory), **asdict(verify_cache(cache, advance))})
    if as_json:
        print_json(found)
    for row in found if not as_json else ():
        wrong = f"{counted(row['damaged_chunks'], 'damaged chunk')} forgotten, {size(row['damaged_bytes'])}"
        outcome = wrong if row["damaged_chunks"] else "sound"
        click.echo(f"{row['directory']}: {counted(row['chunks'], 'chunk')}, {size(row['bytes'])}: {outcome}")
    if any(row["damaged_chunks"] for row in found):
        sys.exit(1)


@command.command("clear")
@directory_option
@json_option
def clear(cache_dir: Path | None, as_json: bool) -> None:
    """Give the space of everything that no mount has open back.

    \b
    modelfs cache clear
    """
    freed = left = 0
    for directory in _directories(cache_dir):
        with _opened(directory) as cache:
            freed += cache.clear()
            left += cache.statistics().bytes
    if as_json:
        print_json({"freed": freed, "left": left})
    else:
        click.echo(f"freed {size(freed)}" + (f"; {size(left)} are in use" if left else ""))
