"""``modelfs stat``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import msgspec

from modelfs import config, limits
from modelfs.cache.cache import Cache
from modelfs.cli.access import access_options
from modelfs.cli.location import existing, repository, split_ref, tree_path
from modelfs.cli.ls import describe, mode_text
from modelfs.cli.output import facts, json_option, moment, print_json, printable, size, table
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.repository.keys import chunk_key
from modelfs.repository.linked import links_among
from modelfs.repository.objects import Entry, Kind, Manifest
from modelfs.repository.repository import Repository


@click.command("stat")
@click.argument("location", metavar="STORE[:REF]")
@click.argument("path")
@click.option("--chunks", is_flag=True, help="List the chunks.")
@click.option("--cache-dir", type=click.Path(path_type=Path), help="Cache to look into (default: the store's own).")
@access_options
@json_option
def command(location: str, path: str, chunks: bool, cache_dir: Path | None, as_json: bool) -> None:
    """What a store knows of PATH: its manifest, its chunks, and how much of it is cached on this machine.

    \b
    modelfs stat /srv/models runs/7/model.safetensors
    modelfs stat /srv/models:v1.2 model.pt --chunks --json
    """
    store_url, ref = split_ref(location)
    with repository(store_url) as repo:
        root = repo.resolve(ref).commit.root
        entry = existing(repo, root, path)
        report: dict[str, Any] = describe(tree_path(path), entry)
        report["xattrs"] = [printable(name) for name, _ in entry.xattrs]
        if entry.group:
            report["names"] = [printable(name) for name in _names(repo, root, entry)]
        pieces: list[dict[str, Any]] = []
        if entry.kind is Kind.FILE:
            manifest = repo.read_manifest(ManifestId(entry.content))
            pieces = _pieces(repo, manifest)
            linked = _mark_links(repo, pieces)
            report |= {
                "manifest": entry.content.hex(),
                "chunks": sum("id" in piece for piece in pieces),
                "holes": sum(piece["length"] for piece in pieces if "id" not in piece),
                "stored": sum(piece["stored"] or 0 for piece in pieces if "id" in piece),
                "linked": sum(piece["length"] for piece in pieces if "original" in piece),
                "originals": linked,
                "missing": sum("id" in piece and piece["stored"] is None for piece in pieces),
                "cached": _cached(repo, manifest, cache_dir),
            }
    if as_json:
        print_json(report | ({"chunk_list": pieces} if chunks else {}))
        return
    _show(report, mode_text(entry), tree_path(path))
    if chunks and pieces:
        rows = [
            [str(p["offset"]), str(p["length"]), str(p.get("stored", "")), p.get("id", "zeros, not stored")]
            for p in pieces
        ]
        table(["OFFSET", "LENGTH", "STORED", "CHUNK"], rows, right=["OFFSET", "LENGTH", "STORED"])


def _names(repo: Repository, root: Entry, entry: Entry) -> list[bytes]:
    """All paths of a linked file, its own included."""
    bare = msgspec.structs.replace(entry, name=b"")
    found = repo.walk(TreeId(root.content), linked=True)
    return [path for path, other in found if msgspec.structs.replace(other, name=b"") == bare]


def _pieces(repo: Repository, manifest: Manifest) -> list[dict[str, Any]]:
    """Extents with their place; ``stored`` is the size of the encoded chunk, None when the store lacks it."""
    ids = list({ChunkId(extent.id) for extent in manifest.chunks if extent.id})
    with ThreadPoolExecutor(limits.STORE_CONCURRENCY, "stat") as pool:
        sizes = dict(zip(ids, pool.map(lambda chunk: repo.store.size(chunk_key(chunk)), ids), strict=True))
    out: list[dict[str, Any]] = []
    offset = 0
    for extent in manifest.chunks:
        piece: dict[str, Any] = {"offset": offset, "length": extent.length}
        if extent.id:
            piece |= {"id": extent.id.hex(), "stored": sizes[ChunkId(extent.id)]}
        out.append(piece)
        offset += extent.length
    return out


def _mark_links(repo: Repository, pieces: list[dict[str, Any]]) -> list[str]:
    """Where chunks lie that are links, sorted; their pieces get an ``original`` and the offset in it."""
    lengths = {ChunkId(bytes.fromhex(piece["id"])): piece["length"] for piece in pieces if "id" in piece}
    stored = {ChunkId(bytes.fromhex(piece["id"])): piece["stored"] for piece in pieces if "id" in piece}
    links = links_among(repo, lengths, stored.get)
    for piece in pieces:
        if "id" in piece and (link := links.get(ChunkId(bytes.fromhex(piece["id"])))) is not None:
            piece |= {"original": repo.look_at_original(link).place, "original_offset": link.offset}
    return sorted({piece["original"] for piece in pieces if "original" in piece})


def _cached(repo: Repository, manifest: Manifest, cache_dir: Path | None) -> int:
    """Bytes of the file on this disk; 0 when there is no cache of the store."""
    directory = cache_dir or config.cache_directory(repo.format.id)
    if not directory.is_dir():
        return 0
    cache = Cache(directory, repo.format.id, ids=repo.ids)
    try:
        return cache.resident(manifest)
    finally:
        cache.close()


def _show(report: dict[str, Any], mode: str, path: bytes) -> None:
    lines = [
        ("path", printable(path)),
        ("kind", report["kind"]),
        ("size", f"{report['size']} bytes ({size(report['size'])})"),
        ("mode", f"{mode}  owner {report['uid']}:{report['gid']}"),
        ("modified", moment(report["mtime_ns"] / 1e9)),
    ]
    if report["xattrs"]:
        lines.append(("xattrs", ", ".join(report["xattrs"])))
    lines += [("linked with", name) for name in report.get("names", ()) if name != printable(path)]
    if "manifest" in report:
        holes = f", {size(report['holes'])} of zeros" if report["holes"] else ""
        share = 100 * report["cached"] / report["size"] if report["size"] else 100.0
        lines += [
            ("manifest", report["manifest"]),
            ("chunks", f"{report['chunks']}{holes}"),
            ("stored", f"{size(report['stored'])}"),
            ("cached here", f"{size(report['cached'])} ({share:.0f} %)"),
        ]
        if report["linked"]:
            lines.append(("linked", f"{size(report['linked'])} of it lie in"))
            lines += [("", original) for original in report["originals"][: limits.REFS_SHOWN]]
        if report["missing"]:
            lines.append(("MISSING", f"{report['missing']} chunks are not in the store"))
    facts(lines)
