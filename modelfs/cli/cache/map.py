"""``modelfs cache map``: which parts of a file are on this machine, as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from modelfs import limits
from modelfs.cli.access import access_options
from modelfs.cli.cache.where import own_directory_option, place
from modelfs.cli.location import existing
from modelfs.cli.output import json_option, note, print_json, printable, size, table
from modelfs.errors import UsageError
from modelfs.fuse import daemon
from modelfs.ids import ManifestId
from modelfs.reader.residency import Ranges, inline, residency
from modelfs.repository.objects import Kind

_SHADES: Final = "·░▒▓█"  # nothing of a cell is here … all of it


@click.command("map")
@click.argument("file", metavar="FILE")
@own_directory_option
@access_options
@json_option
def map_(file: str, cache_dir: Path | None, as_json: bool) -> None:
    """Show which parts of FILE are cached on this machine, and which of its tensors.

    FILE is a path in a mount, or STORE:PATH or STORE:REF:PATH. A cell of the picture is dark where all of it is here
    and a dot where nothing is.

    \b
    modelfs cache map ~/models/llama-3/model.safetensors
    modelfs cache map /srv/models:v1.2:llama-3/model.safetensors --json
    """
    found = _of_mount(file) if cache_dir is None else None
    if found is None:
        found = _of_store(file, cache_dir)
    if as_json:
        print_json(found)
        return
    share = 100 * found["resident"] / found["size"] if found["size"] else 100.0
    click.echo(f"{file}: {size(found['resident'])} of {size(found['size'])} ({share:.0f} %) are here")
    for line in picture(found["size"], [(start, end) for start, end in found["ranges"]]):
        click.echo(line)
    tensors = found["tensors"]
    if tensors:
        rows = [
            [
                str(t["offset"]),
                size(t["length"]),
                f"{100 * t['resident'] / t['length']:.0f} %",
                _SHADES[_shade(t["resident"], t["length"])],
                f"{t['dtype']}{list(t['shape'])}",
                printable(t["name"].encode("utf-8", "surrogatepass")),
            ]
            for t in tensors[: limits.MAP_TENSORS_SHOWN]
        ]
        click.echo()
        table(["OFFSET", "SIZE", "RESIDENT", "", "TYPE", "TENSOR"], rows, right=["OFFSET", "SIZE", "RESIDENT"])
        if len(tensors) > limits.MAP_TENSORS_SHOWN:
            note(f"and {len(tensors) - limits.MAP_TENSORS_SHOWN} more tensors (--json shows all)")


def _of_mount(file: str) -> dict[str, Any] | None:
    """What the daemon says of a file of its mount; None when the path is in no mount of ours."""
    path = Path(file).expanduser()
    return daemon.residency_of(path.resolve()) if os.path.lexists(path) else None


def _of_store(file: str, cache_dir: Path | None) -> dict[str, Any]:
    location, colon, path = file.rpartition(":")
    if not colon or not location or path.startswith("//"):
        raise UsageError(f"{file} is neither in a modelfs mount of yours nor STORE:PATH")
    with place(location, None, cache_dir, make=True) as here:
        entry = existing(here.repo, here.root, path)
        if entry.kind is Kind.INLINE:
            return {**asdict(inline(entry.size)), "path": path}
        if entry.kind is not Kind.FILE:
            raise UsageError(f"{path} is not a regular file")
        manifest = here.repo.read_manifest(ManifestId(entry.content))
        return {**asdict(residency(here.repo, here.cache, manifest)), "path": path}


def picture(length: int, ranges: Sequence[tuple[int, int]]) -> list[str]:
    """Lines of cells, each for the same number of bytes, with the offset of the first one in front."""
    if not length:
        return []
    here = Ranges(list(ranges))
    cells = limits.MAP_WIDTH * limits.MAP_LINES
    step = max(limits.CHUNK_MIN, -(-length // cells))
    drawn = [
        _SHADES[_shade(here.within(at, min(at + step, length)), min(step, length - at))]
        for at in range(0, length, step)
    ]
    lines = range(0, len(drawn), limits.MAP_WIDTH)
    return [f"{size(i * step):>10}  {''.join(drawn[i : i + limits.MAP_WIDTH])}" for i in lines]


def _shade(resident: int, length: int) -> int:
    """An index into the shades: the ends only for nothing and all."""
    if resident in (0, length):
        return (len(_SHADES) - 1) * (resident > 0)
    return 1 + min(len(_SHADES) - 3, resident * (len(_SHADES) - 2) // length)
