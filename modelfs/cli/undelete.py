"""``modelfs undelete``."""

from __future__ import annotations

from typing import Any

import click

from modelfs.cli.access import access_options, sign_option
from modelfs.cli.location import existing, repository, single_writer_option, tree_path, writing
from modelfs.cli.ls import describe
from modelfs.cli.output import counted, json_option, moment, note, print_json, printable, size, table
from modelfs.errors import UsageError
from modelfs.repository.deleted import Deleted, deleted, newest_with
from modelfs.repository.graft import graft
from modelfs.repository.objects import CommitRecord, Entry, Kind
from modelfs.repository.repository import Repository
from modelfs.repository.usage import extent
from modelfs.repository.vouching import verified


@click.command("undelete")
@click.argument("store")
@click.argument("path", required=False)
@click.option("--list", "listing", is_flag=True, help="List what was deleted (at or below PATH).")
@click.option("--at", "ref", metavar="REF", help="The commit to take PATH from (default: the newest that has it).")
@click.option("--to", "destination", metavar="DST", help="Bring it back under another name.")
@click.option("--branch", default="main", show_default=True)
@click.option("-m", "--message", default="", help="Why, for the history.")
@single_writer_option
@access_options
@sign_option
@json_option
def command(
    store: str,
    path: str | None,
    listing: bool,
    ref: str | None,
    destination: str | None,
    branch: str,
    message: str,
    single_writer: bool,
    as_json: bool,
) -> None:
    """Bring a file or directory back as it was, from the history into a new commit; no bytes move.

    With --at a PATH that is there is put back to what it was at REF; what it was until now stays in the history.

    \b
    modelfs undelete /srv/models --list runs
    modelfs undelete /srv/models runs/7/model.pt
    modelfs undelete /srv/models runs/7 --at main@12 --to runs/7-restored
    """
    if listing:
        if ref is not None or destination is not None:
            raise UsageError("--list goes with PATH and --branch alone")
        ends: list[str] = []
        with repository(store) as repo:
            found = verified(deleted(repo, repo.resolve(branch), tree_path(path or "")), ends)
            _list(list(found), as_json=as_json)
        for line in ends:
            note(line)
        return
    if not path or not tree_path(path):
        raise UsageError("say which PATH to bring back, or --list what was deleted")
    with repository(store) as repo, writing(repo, single_writer=single_writer):
        head = repo.resolve(branch)
        record, entry = _source(repo, head, path, ref, branch)
        target = tree_path(path if destination is None else destination)
        if not target:
            raise UsageError("the destination needs a name")
        if destination is not None and repo.find(head.commit.root, target) is not None:
            raise UsageError(f"{destination} exists in {branch}")
        files, length = extent(repo, entry)
        reached = repo.adopt(record, entry)
        root = graft(repo, head.commit.root, {target: entry})
        made = repo.commit(branch, head, root, message, files, length, reached=reached)
    if as_json:
        facts = {"commit": made.id.hex(), "number": made.number, "from": f"{record.branch}@{record.number}"}
        print_json({**facts, "files": files, "bytes": length})
    else:
        click.echo(
            f"{printable(target)} is back as of {record.branch}@{record.number}: {counted(files, 'file')}, "
            f"{size(length)} ({branch}@{made.number})"
        )


def _source(
    repo: Repository, head: CommitRecord, path: str, ref: str | None, branch: str
) -> tuple[CommitRecord, Entry]:
    if ref is not None:
        record = repo.resolve(ref, branch)
        return record, existing(repo, record.commit.root, path)
    found = newest_with(repo, head, tree_path(path))
    if found is None:
        raise UsageError(f"no commit of {branch} that is kept has {path}")
    if found[0].number == head.number:
        raise UsageError(f"{path} is there; --at REF puts it back to what it was")
    return found


def _list(found: list[Deleted], *, as_json: bool) -> None:
    if as_json:
        facts: list[dict[str, Any]] = [
            {**describe(d.path, d.entry), "last_in": f"{d.record.branch}@{d.record.number}"} for d in found
        ]
        print_json(facts)
        return
    rows = [
        [
            f"{d.record.branch}@{d.record.number}",
            moment(d.record.commit.time_ns / 1e9),
            "" if d.entry.kind is Kind.DIRECTORY else size(d.entry.size),
            printable(d.path) + ("/" if d.entry.kind is Kind.DIRECTORY else ""),
        ]
        for d in found
    ]
    table(["LAST IN", "OF", "SIZE", "PATH"], rows, right=["SIZE"])
