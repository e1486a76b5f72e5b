"""Which cache a command means, and which files of a store: for every verb of ``modelfs cache``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from modelfs import config
from modelfs.cache.cache import Cache
from modelfs.cache.directory import read_store_id
from modelfs.cache.pins import Wanted
from modelfs.cli.location import existing, repository, split_ref, tree_path
from modelfs.errors import UsageError
from modelfs.ids import PLAIN, Ids, ManifestId, TreeId
from modelfs.repository.objects import Entry, Kind
from modelfs.repository.repository import Repository

F = TypeVar("F", bound=Callable[..., Any])

directory_option = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    help="A cache directory (default: every cache below the user's cache directory).",
)
own_directory_option = click.option(
    "--cache-dir", type=click.Path(path_type=Path), help="The cache directory (default: the store's own)."
)
at_option = click.option("--at", metavar="REF", help="The files of a tag, BRANCH, BRANCH@NUMBER or commit id.")


def directories(cache_dir: Path | None) -> list[Path]:
    """The cache directory that was named, or all below the user's. UsageError when that is none."""
    if cache_dir is not None:
        read_store_id(cache_dir)
        return [cache_dir]
    root = config.cache_root()
    return [path for path in sorted(root.iterdir()) if (path / "store").is_file()] if root.is_dir() else []


def directory_of(store_id: str, cache_dir: Path | None) -> Path:
    """The cache directory of a store. UsageError when there is none yet, or it is another store's."""
    directory = cache_dir or config.cache_directory(store_id)
    if (found := read_store_id(directory)) != store_id:
        raise UsageError(f"the cache directory {directory} belongs to another store ({found})")
    return directory


def chosen(store: str | None, cache_dir: Path | None) -> list[Path]:
    """The cache of a store, or, when none is named, `directories`."""
    if store is None:
        return directories(cache_dir)
    with repository(store) as repo:
        return [directory_of(repo.format.id, cache_dir)]


@contextmanager
def opened(directory: Path, ids: Ids = PLAIN) -> Iterator[Cache]:
    """An existing cache."""
    cache = Cache(directory, read_store_id(directory), ids=ids)
    try:
        yield cache
    finally:
        cache.close()


@dataclass(frozen=True, slots=True)
class Place:
    """A store that is open, one commit of it, and its cache on this machine."""

    repo: Repository
    root: Entry
    cache: Cache

    def entries(self, paths: Sequence[str]) -> Iterator[tuple[bytes, Entry]]:
        """Every file of its own at or below the paths that has chunks, with its path. UsageError when a path is not
        there."""
        for path in paths:
            entry, name = existing(self.repo, self.root, path), tree_path(path)
            if entry.kind is Kind.FILE:
                yield name, entry
            elif entry.kind is Kind.DIRECTORY:
                below = self.repo.walk(TreeId(entry.content), name)
                yield from ((found, other) for found, other in below if other.kind is Kind.FILE)

    def wanted(self, paths: Sequence[str]) -> list[Wanted]:
        """`entries` with their manifests, each version once."""
        found = {ManifestId(entry.content): path for path, entry in self.entries(paths)}
        return [Wanted(path, manifest, self.repo.read_manifest(manifest)) for manifest, path in found.items()]


@contextmanager
def place(location: str, at: str | None, cache_dir: Path | None, *, make: bool = False) -> Iterator[Place]:
    """What ``STORE[:REF]`` and ``--at`` mean. ``make``: the cache directory may be new."""
    store_url, ref = split_ref(location)
    if ref is not None and at is not None:
        raise UsageError(f"{location} and --at {at}: one of them, please")
    with repository(store_url) as repo:
        root = repo.resolve(at or ref).commit.root
        store_id = repo.format.id
        directory = (cache_dir or config.cache_directory(store_id)) if make else directory_of(store_id, cache_dir)
        cache = Cache(directory, store_id, ids=repo.ids)
        try:
            yield Place(repo, root, cache)
        finally:
            cache.close()
