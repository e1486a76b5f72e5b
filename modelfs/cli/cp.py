"""``modelfs cp``."""

from __future__ import annotations

import time

import click
import msgspec

from modelfs.cli.access import access_options, sign_option
from modelfs.cli.location import existing, repository, single_writer_option, split_ref, tree_path, writing
from modelfs.cli.output import counted, json_option, print_json
from modelfs.errors import UsageError
from modelfs.repository.graft import graft
from modelfs.repository.objects import Kind
from modelfs.repository.usage import extent


@click.command("cp")
@click.argument("location", metavar="STORE[:REF]")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@click.option("--branch", default="main", show_default=True, help="Branch that gets the copy.")
@click.option("-m", "--message", default="", help="Why, for the history.")
@single_writer_option
@access_options
@sign_option
@json_option
def command(
    location: str, source: str, destination: str, branch: str, message: str, single_writer: bool, as_json: bool
) -> None:
    """Copy a file or directory inside a store, from now or from REF. It costs one commit, whatever its size.

    \b
    modelfs cp /srv/models runs/7/checkpoint-1000 best
    modelfs cp /srv/models:main@12 runs/7 restored
    """
    store_url, ref = split_ref(location)
    with repository(store_url) as repo, writing(repo, single_writer=single_writer):
        record = repo.resolve(ref, branch)
        entry = existing(repo, record.commit.root, source)
        base = repo.resolve(branch)
        target = tree_path(destination)
        there = repo.find(base.commit.root, target)
        if destination.endswith("/") or (there is not None and there.kind is Kind.DIRECTORY):
            name = tree_path(source).rpartition(b"/")[2]
            target = target + b"/" + name if target else name
        if not target:
            raise UsageError("the destination needs a name")
        files, length = extent(repo, entry)
        copied = msgspec.structs.replace(entry, mtime_ns=time.time_ns())
        reached = repo.adopt(record, entry)
        root = graft(repo, base.commit.root, {target: copied})
        made = repo.commit(branch, base, root, message, files, length, reached=reached)
    if as_json:
        print_json({"commit": made.id.hex(), "number": made.number, "files": files, "bytes": length})
    else:
        click.echo(f"copied {counted(files, 'file')} ({branch}@{made.number}); no bytes moved")
