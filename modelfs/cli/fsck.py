"""``modelfs fsck``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from modelfs import config
from modelfs.cache.cache import Cache
from modelfs.cache.directory import read_store_id
from modelfs.cli.access import access, access_options
from modelfs.cli.findings import described, show, stages
from modelfs.cli.location import repository, single_writer_option, writing
from modelfs.cli.options import located
from modelfs.cli.output import json_option, note, print_json
from modelfs.errors import CorruptError, NotAStoreError, UsageError
from modelfs.memory import keep_heap
from modelfs.repository.chunks import Local
from modelfs.repository.fsck import Findings, Fsck
from modelfs.repository.repair import Repair, damaged_format, restore_format
from modelfs.repository.repository import Repository
from modelfs.store.base import Store
from modelfs.store.open import open_store


@click.command("fsck")
@click.argument("store")
@click.option("--ref", help="Check only what this branch head, tag or commit reaches.")
@click.option("--read-data", is_flag=True, help="Read and verify every chunk, instead of looking it up in a listing.")
@click.option("--repair", is_flag=True, help="Put intact copies in the place of what is damaged.")
@click.option("--from", "source", metavar="STORE2", help="A store that holds the same objects, to repair from.")
@click.option(
    "--cache-dir",
    "cache_dirs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A cache of this store to repair from, beside the default one.",
)
@single_writer_option
@access_options
@json_option
def command(
    store: str,
    ref: str | None,
    read_data: bool,
    repair: bool,
    source: str | None,
    cache_dirs: tuple[Path, ...],
    single_writer: bool,
    as_json: bool,
) -> None:
    """Find what is missing or damaged in a store, and which paths of which commits it hurts.

    History, directories and manifests are read and verified. Chunks are looked up in a listing; with --read-data each
    is read, decoded and verified. Works beside mounts and writers. Nothing is ever deleted; objects that nothing uses
    are counted, and are no damage.

    --repair writes what can be verified: chunks from the local cache, everything from the store of --from, and the
    notes of deltas. Wrong numbers of linked names are put right by a new commit, unless commits are signed. Exit codes:
    0 no damage, or all repaired; 1 damage is left; 2 the request cannot be met.

    \b
    modelfs fsck /srv/models
    modelfs fsck s3://checkpoints/team-a --read-data --json
    modelfs fsck /srv/models --read-data --repair --from s3://mirror/models
    """
    if not repair and (source is not None or cache_dirs):
        raise UsageError("--from and --cache-dir say what to repair from: add --repair")
    keep_heap()
    with contextlib.ExitStack() as stack:
        target = open_store(located(store))
        stack.callback(target.close)
        other = None if source is None else stack.enter_context(repository(source))
        if other is not None and other.store.url == target.url:
            raise UsageError("--from names the store itself")
        findings = Findings()
        repo = _opened(target, other, findings)
        if repo is not None:
            stack.callback(repo.close)
            made = None
            if repair:
                stack.enter_context(writing(repo, single_writer=single_writer, commits=False))
                made = Repair(repo, list(_caches(stack, repo, cache_dirs)), other)
            before = list(findings.damages)
            with stages() as stage:
                fsck = Fsck(repo, made, stage)
                for damage in before:
                    fsck.findings.damages.add(damage)
                findings = fsck.run(ref, read_data=read_data)
    if as_json:
        print_json({"store": target.url, "store_id": repo.format.id if repo else None, **described(findings)})
    else:
        show(findings)
    if findings.damages.left():
        sys.exit(1)


def _opened(target: Store, other: Repository | None, findings: Findings) -> Repository | None:
    """The repository, its format.json restored if need be; None when it cannot be opened, which is noted."""
    try:
        return Repository.open(target, access())
    except (NotAStoreError, CorruptError):
        damage = damaged_format(target)
        if damage is None:
            raise
    findings.damages.add(damage)
    if other is None or not restore_format(target, other):
        return None
    damage.repaired = other.store.url
    return Repository.open(target, access())


def _caches(stack: contextlib.ExitStack, repo: Repository, named: tuple[Path, ...]) -> Iterator[tuple[str, Local]]:
    """The caches of this store on this machine."""
    default = config.cache_directory(repo.format.id)
    for path in dict.fromkeys((*named, *([default] if default.is_dir() else []))):
        read_store_id(path)  # it makes nothing where there is no cache
        cache = Cache(path, repo.format.id, ids=repo.ids)
        stack.callback(cache.close)
        note(f"chunks may come from the cache {path}")
        yield f"the cache {path}", cache.read_chunk
