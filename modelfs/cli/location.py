"""Arguments that name a store, a commit in it, and a path in that: ``STORE[:REF]`` and ``PATH``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import click

from modelfs.cli.access import access
from modelfs.cli.options import located
from modelfs.cli.output import note
from modelfs.codecs import Compression
from modelfs.errors import UsageError
from modelfs.journal.admission import admit_writer
from modelfs.memory import keep_heap
from modelfs.repository.objects import Entry
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

_WITH_REF: Final = re.compile(r"(?P<store>.*[^/:])/*:(?P<ref>[A-Za-z0-9][A-Za-z0-9._@-]{0,90})", re.DOTALL)


def split_ref(location: str) -> tuple[str, str | None]:
    """``STORE[:REF]`` -> (store, ref or None). A colon counts only after the last slash, so ports stay ports."""
    found = _WITH_REF.fullmatch(location)
    if found is None or found["store"].endswith(":/"):
        return location, None
    if "://" in location and "/" not in location.partition("://")[2].rpartition(":")[0]:
        return location, None  # scheme://host:port
    if "://" not in location:
        with suppress(OSError):  # a name that no file system takes
            if Path(location).exists():
                return location, None
    return found["store"], found["ref"]


single_writer_option = click.option(
    "--single-writer", is_flag=True, help="Write to a store without exclusive creation, under a lease."
)


def _compression(context: click.Context, parameter: click.Parameter, value: str | None) -> Compression | None:
    return None if value is None else Compression(value)


compression_option = click.option(
    "--compression",
    type=click.Choice([level.value for level in Compression]),
    callback=_compression,
    help="What new chunks are packed for: small takes the most time. Default: what the store was made with.",
)


@contextmanager
def repository(store_url: str) -> Iterator[Repository]:
    """The repository at a URL or ``@NAME``, opened with what `cli.access` finds, closed afterwards."""
    keep_heap()
    store = open_store(located(store_url))
    try:
        repo = Repository.open(store, access())
        try:
            yield repo
        finally:
            repo.close()
    finally:
        store.close()


@contextmanager
def writing(repo: Repository, *, single_writer: bool, commits: bool = True) -> Iterator[None]:
    """Around changes: the store has been found safe to write to, or its lease is held. ``commits``: history is
    written too."""
    repo.access.check(writes=commits)
    if single_writer:
        note(f"{repo.store.url} is written under a lease; a second writer without one would damage its history")
    lease = admit_writer(repo.store, repo.format.id, single_writer=single_writer)
    try:
        repo.begin_writing()
        yield
    finally:
        if lease is not None:
            lease.release()


def tree_path(path: str) -> bytes:
    """A path in a store as the tree knows it: relative, without empty parts. UsageError for ``..``."""
    parts = [part for part in os.fsencode(path).split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise UsageError(f"{path}: a path in a store has no `..`")
    return b"/".join(parts)


def existing(repo: Repository, root: Entry, path: str) -> Entry:
    """The entry at ``path``; UsageError when there is none."""
    entry = repo.find(root, tree_path(path))
    if entry is None:
        raise UsageError(f"{repo.store.url} has no {path}")
    return entry
