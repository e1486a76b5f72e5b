"""``modelfs put``."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from modelfs.cli.access import access_options, sign_option
from modelfs.cli.location import compression_option, repository, single_writer_option, tree_path, writing
from modelfs.cli.output import counted, json_option, print_json, progress_bar, size
from modelfs.codecs import Compression
from modelfs.errors import UsageError
from modelfs.repository.graft import graft
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind
from modelfs.repository.repository import Repository
from modelfs.writer.bases import Origin
from modelfs.writer.ingest import Ingest, Progress


@dataclass(frozen=True, slots=True)
class _Item:
    """One local file, link or directory, and the path that it gets."""

    source: Path
    path: bytes
    facts: os.stat_result


@click.command("put")
@click.argument("store")
@click.argument("sources", metavar="SRC…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("destination", metavar="DST")
@click.option("--branch", default="main", show_default=True)
@click.option("-m", "--message", default="", help="Why, for the history.")
@click.option("--base", metavar="PATH", help="File or directory in the branch that this is a new version of.")
@compression_option
@single_writer_option
@access_options
@sign_option
@json_option
def command(
    store: str,
    sources: tuple[Path, ...],
    destination: str,
    branch: str,
    message: str,
    base: str | None,
    compression: Compression | None,
    single_writer: bool,
    as_json: bool,
) -> None:
    """Copy local files and directories into a store, in one commit and without a mount.

    As with cp(1): several sources, or a DST that is a directory or ends in a slash, go into DST.

    Tensors that the store has in an earlier version cost only what changed in them. Earlier versions are looked for
    beside DST; --base names them where they lie elsewhere.

    \b
    modelfs put /srv/models model.safetensors runs/7/
    modelfs put s3://checkpoints/team-a ./checkpoint-1000 runs/7
    modelfs put /srv/models tuned.safetensors tuned.safetensors --base llama-3/model.safetensors
    """
    with repository(store) as repo, writing(repo, single_writer=single_writer):
        head = repo.resolve(branch)
        if compression is not None:
            repo.compression = compression
        named = () if base is None else (tree_path(base),)
        for path in named:
            if repo.find(head.commit.root, path) is None:
                raise UsageError(f"--base {base}: not in {branch}")
        into = len(sources) > 1 or destination.endswith("/") or _is_directory(repo, head.commit.root, destination)
        items = [item for source in sources for item in _items(source, _target(source, destination, into=into))]
        total = sum(item.facts.st_size for item in items if modes.S_ISREG(item.facts.st_mode))
        puts: dict[bytes, Entry] = {}
        sent = 0
        with Ingest(repo) as ingest, progress_bar("uploading", total) as advance:
            for item in items:
                origin = Origin(head.commit.root, item.path, named)
                puts[item.path], cost = _entry(ingest, item, origin, advance)
                sent += cost
        _keep_directories(repo, head.commit.root, puts)
        files = sum(entry.kind in (Kind.FILE, Kind.INLINE) for entry in puts.values())
        root = graft(repo, head.commit.root, puts)
        made = repo.commit(branch, head, root, message, files, total)
    if as_json:
        print_json({"commit": made.id.hex(), "number": made.number, "files": files, "bytes": total, "sent": sent})
    else:
        click.echo(
            f"{counted(files, 'file')}, {size(total)}; {size(sent)} were new to the store ({branch}@{made.number})"
        )


def _is_directory(repo: Repository, root: Entry, path: str) -> bool:
    found = repo.find(root, tree_path(path))
    return found is not None and found.kind is Kind.DIRECTORY


def _target(source: Path, destination: str, *, into: bool) -> bytes:
    path = tree_path(destination)
    if into:
        name = os.fsencode(source.absolute().name)
        path = path + b"/" + name if path else name
    if not path:
        raise UsageError("the destination needs a name")
    return path


def _items(source: Path, path: bytes) -> Iterator[_Item]:
    try:
        facts = source.lstat()
    except OSError as error:
        raise UsageError(f"{source}: {error.strerror}") from error
    yield _Item(source, path, facts)
    if modes.S_ISDIR(facts.st_mode):
        for child in sorted(source.iterdir()):
            yield from _items(child, path + b"/" + os.fsencode(child.name))


def _entry(ingest: Ingest, item: _Item, origin: Origin, advance: Progress) -> tuple[Entry, int]:
    facts, mode = item.facts, item.facts.st_mode
    kind, content, length, sent = Kind.DIRECTORY, bytes(EMPTY_TREE), 0, 0
    if modes.S_ISREG(mode):
        done = ingest.file(item.source, advance, origin)
        kind, content, length, sent = done.kind, done.content, done.size, done.sent
    elif modes.S_ISLNK(mode):
        kind, content = Kind.SYMLINK, os.fsencode(item.source.readlink())
        length = len(content)
    elif not modes.S_ISDIR(mode):
        raise UsageError(f"{item.source} is neither a file, a directory nor a symbolic link")
    name = item.path.rpartition(b"/")[2]
    return Entry(name, kind, modes.S_IMODE(mode), facts.st_uid, facts.st_gid, facts.st_mtime_ns, length, content), sent


def _keep_directories(repo: Repository, root: Entry, puts: dict[bytes, Entry]) -> None:
    """A directory that is there already keeps what it holds: the copy is laid into it."""
    for path, entry in list(puts.items()):
        found = repo.find(root, path)
        if entry.kind is Kind.DIRECTORY and found is not None and found.kind is Kind.DIRECTORY:
            puts[path] = found
