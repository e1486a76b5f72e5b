"""``modelfs tag``."""

from __future__ import annotations

import click

from modelfs.cli.access import access_options
from modelfs.cli.location import repository
from modelfs.cli.output import json_option, moment, print_json, table
from modelfs.errors import UsageError


@click.command("tag")
@click.argument("store")
@click.argument("name", required=False)
@click.argument("ref", required=False)
@click.option("-d", "--delete", is_flag=True, help="Take the name away; the commit is subject to `modelfs gc` again.")
@access_options
@json_option
def command(store: str, name: str | None, ref: str | None, delete: bool, as_json: bool) -> None:
    """Give a commit (default: the newest of main) a NAME that never moves; without NAME, list the tags.

    \b
    modelfs tag /srv/models v1.2
    modelfs tag /srv/models best main@40
    modelfs tag /srv/models
    modelfs tag -d /srv/models best
    """
    if delete and (name is None or ref is not None):
        raise UsageError("--delete takes one NAME")
    with repository(store) as repo:
        if name is None:
            tags = [(found, repo.read_tag(found)) for found in repo.tags()]
        elif delete:
            tags = [(name, repo.delete_tag(name))]
        else:
            tags = [(name, repo.tag(name, repo.resolve(ref)))]
    if as_json:
        facts = [
            {"name": n, "branch": t.branch, "number": t.number, "commit": t.commit.hex(), "time_ns": t.time_ns}
            for n, t in tags
        ]
        print_json(facts if name is None else facts[0])
    elif name is None:
        rows = [[n, f"{t.branch}@{t.number}", t.commit.hex()[:12], moment(t.time_ns / 1e9)] for n, t in tags]
        table(["TAG", "COMMIT", "ID", "MADE"], rows)
    elif delete:
        click.echo(f"{name} was {tags[0][1].branch}@{tags[0][1].number}")
    else:
        click.echo(f"{name} is {tags[0][1].branch}@{tags[0][1].number}")
