"""``modelfs branch``: ls, create, rm."""

from __future__ import annotations

import click

from modelfs.cli.access import access_options, sign_option
from modelfs.cli.location import repository, single_writer_option, writing
from modelfs.cli.output import json_option, moment, print_json, table
from modelfs.errors import UsageError
from modelfs.repository.repository import MAIN


@click.group("branch", no_args_is_help=True)
def command() -> None:
    """Lines of history beside each other in one store.

    \b
    modelfs branch ls /srv/models
    modelfs branch create /srv/models experiment main@40
    modelfs branch rm /srv/models experiment
    """


@command.command("ls")
@click.argument("store")
@access_options
@json_option
def ls(store: str, as_json: bool) -> None:
    """List branches with their newest commits.

    \b
    modelfs branch ls /srv/models --json
    """
    with repository(store) as repo:
        heads = [head for name in repo.branches() if (head := repo.head(name)) is not None]
    if as_json:
        print_json(
            [{"name": h.branch, "number": h.number, "commit": h.id.hex(), "time_ns": h.commit.time_ns} for h in heads]
        )
    else:
        rows = [[h.branch, str(h.number), h.id.hex()[:12], moment(h.commit.time_ns / 1e9)] for h in heads]
        table(["BRANCH", "COMMITS", "ID", "NEWEST"], rows, right=["COMMITS"])


@command.command("create")
@click.argument("store")
@click.argument("name")
@click.argument("ref", required=False)
@single_writer_option
@access_options
@sign_option
@json_option
def create(store: str, name: str, ref: str | None, single_writer: bool, as_json: bool) -> None:
    """Begin a branch with the files of a commit (default: the newest of main). No bytes move.

    The name of a deleted branch may be used again; its numbers go on.

    \b
    modelfs branch create /srv/models experiment v1.2
    """
    with repository(store) as repo, writing(repo, single_writer=single_writer):
        record = repo.resolve(ref)
        if repo.head(name) is not None:
            raise UsageError(f"{store} has a branch {name!r} already")
        root = record.commit.root
        message = f"from {record.branch}@{record.number}"
        made = repo.commit(name, None, root, message, reached=repo.adopt(record, root), revive=True)
    if as_json:
        print_json({"name": name, "number": made.number, "commit": made.id.hex()})
    else:
        click.echo(f"{name} begins at {record.branch}@{record.number} ({name}@{made.number})")


@command.command("rm")
@click.argument("store")
@click.argument("name")
@click.option("--force", is_flag=True, help="Even if it is main, or the only one.")
@single_writer_option
@access_options
@sign_option
@json_option
def remove(store: str, name: str, force: bool, single_writer: bool, as_json: bool) -> None:
    """Delete a branch. What only it holds is freed by `modelfs gc`; tagged commits stay.

    Until then its commits can be mounted and copied from by number, and a branch be made of them again.

    \b
    modelfs branch rm /srv/models experiment
    """
    with repository(store) as repo, writing(repo, single_writer=single_writer):
        branches = repo.branches()
        if name in branches and not force:
            if name == MAIN:
                raise UsageError(f"{MAIN} is what mounts and commands use by default: --force deletes it all the same")
            if len(branches) == 1:
                raise UsageError(f"{name} is the only branch: --force deletes it all the same")
        end = repo.end_branch(name)
    if as_json:
        print_json({"name": name, "last": end.number - 1})
    else:
        click.echo(f"deleted {name}; until a collection takes it, its newest state is {name}@{end.number - 1}")
