"""``modelfs ls``."""

from __future__ import annotations

import stat as modes
from collections.abc import Iterator
from typing import Final

import click

from modelfs.cli.access import access_options
from modelfs.cli.location import existing, repository, split_ref, tree_path
from modelfs.cli.output import json_option, moment, print_json, printable, size, table
from modelfs.ids import TreeId
from modelfs.repository.objects import Entry, Kind
from modelfs.repository.repository import Repository

TYPES: Final = {
    Kind.FILE: modes.S_IFREG,
    Kind.INLINE: modes.S_IFREG,
    Kind.DIRECTORY: modes.S_IFDIR,
    Kind.SYMLINK: modes.S_IFLNK,
    Kind.FIFO: modes.S_IFIFO,
    Kind.SOCKET: modes.S_IFSOCK,
    Kind.CHAR: modes.S_IFCHR,
    Kind.BLOCK: modes.S_IFBLK,
}


@click.command("ls")
@click.argument("location", metavar="STORE[:REF]")
@click.argument("path", default="")
@click.option("-l", "--long", is_flag=True, help="Mode, owner, size and time.")
@click.option("-R", "--recursive", is_flag=True, help="Everything below.")
@access_options
@json_option
def command(location: str, path: str, long: bool, recursive: bool, as_json: bool) -> None:
    """List PATH (default: the root) of a store, now or as of REF.

    \b
    modelfs ls /srv/models runs/7 -l
    modelfs ls s3://checkpoints/team-a:v1.2 --json
    """
    store_url, ref = split_ref(location)
    with repository(store_url) as repo:
        root = repo.resolve(ref).commit.root
        found = list(_entries(repo, existing(repo, root, path), tree_path(path), recursive=recursive))
    if as_json:
        print_json([describe(name, entry) for name, entry in found])
    elif long:
        rows = [
            [
                mode_text(entry),
                str(entry.uid),
                str(entry.gid),
                size(entry.size),
                moment(entry.mtime_ns / 1e9),
                _shown(name, entry),
            ]
            for name, entry in found
        ]
        table(["MODE", "UID", "GID", "SIZE", "MODIFIED", "NAME"], rows, right=["UID", "GID", "SIZE"])
    else:
        for name, entry in found:
            click.echo(printable(name) + ("/" if entry.kind is Kind.DIRECTORY else ""))


def _entries(repo: Repository, top: Entry, path: bytes, *, recursive: bool) -> Iterator[tuple[bytes, Entry]]:
    if top.kind is not Kind.DIRECTORY:
        yield path, top
    elif recursive:
        yield from repo.walk(TreeId(top.content))
    else:
        yield from ((entry.name, entry) for entry in repo.list(TreeId(top.content)))


def describe(path: bytes, entry: Entry) -> dict[str, object]:
    """An entry for programs. Times in nanoseconds since the epoch, mode as an octal string."""
    return {
        "path": path.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode(),
        "kind": "file" if entry.kind is Kind.INLINE else entry.kind.name.lower(),
        "size": entry.size,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "mtime_ns": entry.mtime_ns,
    }


def mode_text(entry: Entry) -> str:
    """Type and permissions as ls(1) writes them."""
    return modes.filemode(TYPES[entry.kind] | entry.mode)


def _shown(name: bytes, entry: Entry) -> str:
    text = printable(name)
    return f"{text} -> {printable(entry.content)}" if entry.kind is Kind.SYMLINK else text
