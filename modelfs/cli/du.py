"""``modelfs du``."""

from __future__ import annotations

import click

from modelfs.cli.location import existing, repository, split_ref
from modelfs.cli.output import facts, json_option, print_json, size
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.repository.keys import chunk_key
from modelfs.repository.objects import Entry, Kind
from modelfs.repository.repository import Repository


@click.command("du")
@click.argument("location", metavar="STORE[:REF]")
@click.argument("path", default="")
@json_option
def command(location: str, path: str, as_json: bool) -> None:
    """How much PATH (default: everything) takes: as files, as distinct chunks, and as bytes in the store.

    Without PATH it also says what the whole store holds, history included.

    \b
    modelfs du /srv/models
    modelfs du /srv/models:v1.2 runs/7 --json
    """
    store_url, ref = split_ref(location)
    with repository(store_url) as repo:
        top = existing(repo, repo.resolve(ref).commit.root, path)
        objects = {found.key: found.size for found in repo.store.list("data/")}
        report = usage(repo, top, objects)
        if not path:
            meta = sum(found.size for area in ("meta/", "commits/", "tags/") for found in repo.store.list(area))
            report |= {"store_objects": len(objects), "store_data": sum(objects.values()), "store_metadata": meta}
    if as_json:
        print_json(report)
        return
    lines = [
        ("files", str(report["files"])),
        ("logical", f"{size(report['logical'])}  what the files add up to"),
        ("unique", f"{size(report['unique'])}  after deduplication"),
        ("stored", f"{size(report['stored'])}  after compression, in {report['chunks']} chunks"),
    ]
    if "store_data" in report:
        whole = report["store_data"] + report["store_metadata"]
        lines.append(
            ("whole store", f"{size(whole)}  with all history, {size(report['store_metadata'])} of it metadata")
        )
    facts(lines)


def usage(repo: Repository, top: Entry, objects: dict[str, int]) -> dict[str, int]:
    """Bytes of ``top`` and what is below it: logical (files), unique (distinct chunks, inline files), stored."""
    entries = [entry for _, entry in repo.walk(TreeId(top.content))] if top.kind is Kind.DIRECTORY else [top]
    logical = files = 0
    inline: set[bytes] = set()
    chunks: dict[bytes, int] = {}
    seen: set[bytes] = set()
    for entry in entries:
        if entry.kind not in (Kind.FILE, Kind.INLINE):
            continue
        files += 1
        logical += entry.size
        if entry.kind is Kind.INLINE:
            inline.add(entry.content)
        elif entry.content not in seen:
            seen.add(entry.content)
            manifest = repo.read_manifest(ManifestId(entry.content))
            chunks.update((extent.id, extent.length) for extent in manifest.chunks if extent.id)
    small = sum(map(len, inline))
    stored = sum(objects.get(chunk_key(ChunkId(chunk)), 0) for chunk in chunks)
    return {
        "files": files,
        "logical": logical,
        "unique": sum(chunks.values()) + small,
        "stored": stored + small,
        "chunks": len(chunks),
    }
