"""``modelfs cache stats`` and ``ls``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from modelfs.cache.directory import read_store_id
from modelfs.cli.access import access_options
from modelfs.cli.cache.where import chosen, directory_option, opened
from modelfs.cli.output import json_option, moment, print_json, printable, size, table


@click.command("stats")
@click.argument("store", required=False)
@directory_option
@access_options
@json_option
def stats(store: str | None, cache_dir: Path | None, as_json: bool) -> None:
    """How much each cache holds, may hold, and how often it had what was wanted. Only that of STORE, if it is given.

    The hit ratio is the share of bytes that were here when a file was read, of all mounts since the cache was made.

    \b
    modelfs cache stats
    modelfs cache stats /srv/models --json
    """
    found = []
    for directory in chosen(store, cache_dir):
        with opened(directory) as cache:
            held = cache.statistics()
        found.append(
            {
                "directory": str(directory),
                "store_id": read_store_id(directory),
                "bytes": held.bytes,
                "limit": held.limit,
                "pinned_bytes": held.pinned,
                "files": held.files,
                "chunks": held.chunks,
                "hit_ratio": held.lookups.ratio,
                **asdict(held.lookups),
            }
        )
    if as_json:
        print_json(found)
        return
    rows = [
        [
            f["store_id"],
            size(f["bytes"]),
            size(f["limit"]),
            size(f["pinned_bytes"]) if f["pinned_bytes"] else "",
            f"{100 * f['hit_ratio']:.1f} %" if f["hit_ratio"] is not None else "",
            str(f["files"]),
            str(f["chunks"]),
            f["directory"],
        ]
        for f in found
    ]
    columns = ["STORE ID", "SIZE", "LIMIT", "PINNED", "HITS", "FILES", "CHUNKS", "DIRECTORY"]
    table(columns, rows, right=columns[1:7])


@click.command("ls")
@click.argument("store", required=False)
@directory_option
@access_options
@json_option
def ls(store: str | None, cache_dir: Path | None, as_json: bool) -> None:
    """List cached files, least recently used first, of STORE or of all stores.

    A path is where the file was when it was last opened by it. RESIDENT is what lies in the file's own cache file; what
    it shares with another one may lie there (`modelfs cache map` counts both).

    \b
    modelfs cache ls
    modelfs cache ls /srv/models --json
    """
    found = []
    for directory in chosen(store, cache_dir):
        with opened(directory) as cache:
            found += [(directory, file) for file in cache.list()]
    if as_json:
        print_json(
            [
                {
                    **asdict(file),
                    "manifest": file.manifest.hex(),
                    "paths": [printable(path) for path in file.paths],
                    "directory": str(directory),
                }
                for directory, file in found
            ]
        )
        return
    rows = [
        [
            file.manifest.hex()[:16],
            size(file.size),
            f"{100 * file.resident / file.size:.0f} %" if file.size else "",
            "pinned" if file.pinned else "",
            moment(file.last_use),
            ", ".join(printable(path) for path in file.paths),
        ]
        for _, file in found
    ]
    table(["MANIFEST", "SIZE", "RESIDENT", "PINNED", "LAST USE", "PATH"], rows, right=["SIZE", "RESIDENT"])
