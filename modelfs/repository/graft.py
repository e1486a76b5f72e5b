"""Putting entries at paths: the one change that commands without a mount make to a tree."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping

import msgspec

from modelfs import limits
from modelfs.errors import CorruptError, UsageError
from modelfs.ids import TreeId
from modelfs.repository.objects import EMPTY_TREE, OWN_NAME, Entry, Kind, TreeDelta
from modelfs.repository.repository import Repository


def graft(repo: Repository, root: Entry, puts: Mapping[bytes, Entry]) -> Entry:
    """``root`` with each entry of ``puts`` at its path, replacing what is there; missing directories are made.

    A path is relative and has no empty parts; its entry's own name is ignored. What is put is a copy: it is not linked
    with what it was copied from, only names inside one directory stay linked with each other. UsageError when a file
    stands where a directory is needed, or a mount could not show a path.
    """
    for path in puts:
        check_place(path)
    delta = TreeDelta()
    deltas: dict[bytes, tuple[Entry, TreeDelta]] = {b"": (root, delta)}
    for path, entry in sorted(puts.items()):
        parent, _, name = path.rpartition(b"/")
        below = _delta_of(repo, root, parent, deltas)
        below.puts[name] = msgspec.structs.replace(_unlinked(repo, root, path, entry), name=name, group=b"")
    tree = repo.apply(TreeId(root.content), delta)
    return msgspec.structs.replace(repo.directory(root, tree), mtime_ns=time.time_ns())


def check_place(path: bytes) -> None:
    """UsageError for a path that a mount could not show."""
    if path.partition(b"/")[0] == OWN_NAME:
        raise UsageError(f"{os.fsdecode(OWN_NAME)} in the root of a store is where a mount shows its own state")


def _unlinked(repo: Repository, root: Entry, path: bytes, entry: Entry) -> Entry:
    """A directory whose linked files are linked only among themselves, unless it is the one that is there already;
    other entries as they are."""
    there = repo.find(root, path) if entry.linked else None
    if not entry.linked or (there is not None and there.content == entry.content):
        return entry
    groups: dict[bytes, bytes] = defaultdict(lambda: os.urandom(limits.LINK_GROUP))
    return repo.directory(entry, repo.apply(TreeId(entry.content), _regrouped(repo, entry, groups)))


def _regrouped(repo: Repository, directory: Entry, groups: Mapping[bytes, bytes], depth: int = 0) -> TreeDelta:
    if depth > limits.TREE_DEPTH_MAX:
        raise CorruptError(f"directories nested deeper than {limits.TREE_DEPTH_MAX} in the store")
    delta = TreeDelta()
    for entry in repo.linked_entries(TreeId(directory.content)):
        if entry.kind is Kind.DIRECTORY:
            delta.subdirs[entry.name] = (entry, _regrouped(repo, entry, groups, depth + 1))
        else:
            delta.puts[entry.name] = msgspec.structs.replace(entry, group=groups[entry.group])
    return delta


def _delta_of(repo: Repository, root: Entry, path: bytes, deltas: dict[bytes, tuple[Entry, TreeDelta]]) -> TreeDelta:
    """The changes to the directory at ``path``, begun here if need be."""
    if path in deltas:
        return deltas[path][1]
    parent, _, name = path.rpartition(b"/")
    above = _delta_of(repo, root, parent, deltas)
    now = time.time_ns()
    found = above.puts.pop(name, None)  # a directory that is itself being put keeps the time it came with
    if found is None and (there := repo.find(root, path)) is not None:
        found = msgspec.structs.replace(there, name=name, mtime_ns=now)
    if found is None:
        found = Entry(name, Kind.DIRECTORY, 0o755, os.getuid(), os.getgid(), now, 0, EMPTY_TREE)
    if found.kind is not Kind.DIRECTORY:
        raise UsageError(f"{os.fsdecode(path)} is a file in the store, not a directory")
    made = TreeDelta()
    above.subdirs[name] = (found, made)
    deltas[path] = (found, made)
    return made
