"""``modelfs cache pin``, ``unpin``, ``evict``, ``resize`` and ``clear``: what stays, and what goes."""

from __future__ import annotations

from pathlib import Path

import click

from modelfs.cache import names
from modelfs.cli.access import access_options
from modelfs.cli.cache.where import (
    Place,
    at_option,
    chosen,
    directories,
    directory_option,
    opened,
    own_directory_option,
    place,
)
from modelfs.cli.location import tree_path
from modelfs.cli.output import counted, json_option, print_json, size
from modelfs.errors import UsageError
from modelfs.ids import ManifestId
from modelfs.quantities import parse_size


@click.command("pin")
@click.argument("location", metavar="STORE")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@at_option
@own_directory_option
@access_options
@json_option
def pin(location: str, paths: tuple[str, ...], at: str | None, cache_dir: Path | None, as_json: bool) -> None:
    """Keep files, or all files of directories, from eviction, as they are in STORE now (or --at a commit).

    What is here of them stays, and what is still to come has room: pins that do not fit into the limit together are
    refused. A later version of a file is another one and not pinned. `modelfs cache warm --pin` brings them as well.

    \b
    modelfs cache pin /srv/models llama-3 --at v1.2
    """
    with place(location, at, cache_dir, make=True) as here:
        files = here.wanted(paths)
        here.cache.pin(files)
        total = sum(file.manifest.size for file in files)
        resident = sum(here.cache.resident(file.manifest) for file in files)
    if as_json:
        print_json({"files": len(files), "bytes": total, "resident": resident})
    else:
        click.echo(f"{counted(len(files), 'file')} pinned, {size(total)}, {size(resident)} of it here")


@click.command("unpin")
@click.argument("location", metavar="STORE")
@click.argument("paths", metavar="[PATH]…", nargs=-1)
@at_option
@own_directory_option
@access_options
@json_option
def unpin(location: str, paths: tuple[str, ...], at: str | None, cache_dir: Path | None, as_json: bool) -> None:
    """Let pinned files be evicted again; without PATH all of STORE. Earlier versions that were pinned by a path too.

    \b
    modelfs cache unpin /srv/models llama-3
    """
    with place(location, at, cache_dir) as here:
        count = here.cache.unpin(_versions(here, paths) if paths else [file.manifest for file in here.cache.list()])
    if as_json:
        print_json({"files": count})
    else:
        click.echo(f"{counted(count, 'file')} unpinned")


def _versions(here: Place, paths: tuple[str, ...]) -> list[ManifestId]:
    """The files at or below the paths now, and those that the cache has seen there. UsageError for a path that neither
    the store nor the cache knows."""
    found: dict[ManifestId, None] = {}
    for path in paths:
        seen = names.below(here.cache.index, tree_path(path))
        if not seen or here.repo.find(here.root, tree_path(path)) is not None:
            seen += [ManifestId(entry.content) for _, entry in here.entries([path])]
        found.update(dict.fromkeys(seen))
    return list(found)


@click.command("evict")
@click.argument("location", metavar="[STORE]", required=False)
@click.argument("paths", metavar="[PATH]…", nargs=-1)
@click.option("--to", metavar="SIZE", help="Until so much is left, least recently used first.")
@at_option
@directory_option
@access_options
@json_option
def evict(
    location: str | None, paths: tuple[str, ...], to: str | None, at: str | None, cache_dir: Path | None, as_json: bool
) -> None:
    """Give space of the cache back: of files of STORE by path, or of the least recently used until SIZE is left.

    Pinned files stay, and files that a mount has open. What a file shares with another one goes with that one only.

    \b
    modelfs cache evict /srv/models runs/7
    modelfs cache evict --to 20GB
    modelfs cache evict /srv/models --to 5GB
    """
    if (to is None) == (not paths):
        raise UsageError("evict what? a STORE with paths, or --to a size")
    freed = left = 0
    if to is not None:
        target = parse_size(to)
        for directory in chosen(location, cache_dir):
            with opened(directory) as cache:
                freed += cache.evict_to(target)
                left += cache.statistics().bytes
    else:
        assert location is not None
        with place(location, at, cache_dir) as here:
            freed = here.cache.evict_files(_versions(here, paths))
            left = here.cache.statistics().bytes
    if as_json:
        print_json({"freed": freed, "left": left})
    else:
        click.echo(f"freed {size(freed)}, {size(left)} left")


@click.command("resize")
@click.argument("limit", metavar="SIZE")
@click.argument("store", required=False)
@directory_option
@access_options
@json_option
def resize(limit: str, store: str | None, cache_dir: Path | None, as_json: bool) -> None:
    """Say how much a cache may hold: that of STORE, the one at --cache-dir, or the only one there is.

    It holds for running mounts at once, and for later ones that are not told --cache-size. What is too much is evicted
    now, as far as nobody uses it.

    \b
    modelfs cache resize 200GB /srv/models
    """
    wanted = parse_size(limit)
    found = chosen(store, cache_dir)
    if len(found) != 1:
        raise UsageError(f"there are {len(found)} caches: name the store or --cache-dir")
    with opened(found[0]) as cache:
        freed = cache.resize(wanted)
        held = cache.statistics().bytes
    if as_json:
        print_json({"directory": str(found[0]), "limit": wanted, "freed": freed, "bytes": held})
    else:
        over = f"; {size(held - wanted)} more than that are in use" if held > wanted else ""
        click.echo(f"{found[0]}: limited to {size(wanted)}, freed {size(freed)}{over}")


@click.command("clear")
@directory_option
@json_option
def clear(cache_dir: Path | None, as_json: bool) -> None:
    """Give the space of everything that no mount has open back, also of what is pinned, with the pins.

    \b
    modelfs cache clear
    """
    freed = left = 0
    for directory in directories(cache_dir):
        with opened(directory) as cache:
            freed += cache.clear()
            left += cache.statistics().bytes
    if as_json:
        print_json({"freed": freed, "left": left})
    else:
        click.echo(f"freed {size(freed)}" + (f"; {size(left)} are in use" if left else ""))
