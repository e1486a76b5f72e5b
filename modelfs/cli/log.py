"""``modelfs log``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import click

from modelfs.cli.access import access_options
from modelfs.cli.location import repository, split_ref, tree_path
from modelfs.cli.output import counted, json_option, moment, note, print_json, printable, size, table
from modelfs.ids import TreeId
from modelfs.repository.objects import EMPTY_TREE, CommitRecord, Entry, Kind
from modelfs.repository.repository import Repository
from modelfs.repository.vouching import verified


@click.command("log")
@click.argument("location", metavar="STORE[:REF]")
@click.argument("path", required=False)
@click.option("-n", "--max-count", type=click.IntRange(min=1), help="At most so many commits.")
@click.option("--changes", is_flag=True, help="Show the paths that each commit changed.")
@access_options
@json_option
def command(location: str, path: str | None, max_count: int | None, changes: bool, as_json: bool) -> None:
    """Show commits, newest first; with PATH only those that changed it.

    Any of them can be mounted (mount --at main@12), listed and copied from (ls, get, cp STORE:main@12).

    \b
    modelfs log /srv/models
    modelfs log /srv/models runs/7/model.pt --json
    """
    store_url, ref = split_ref(location)
    ends: list[str] = []
    with repository(store_url) as repo:
        commits: Iterator[CommitRecord] = verified(repo.log(repo.resolve(ref)), ends)
        if path is not None:
            commits = _touching(repo, commits, tree_path(path))
        chosen = list(itertools.islice(commits, max_count))
        collected = _collected(repo, chosen) if max_count is None or len(chosen) < max_count else ""
        changed = {record.number: list(_changed(repo, record)) for record in chosen} if changes else {}
    if as_json:
        print_json([_described(record, changed.get(record.number)) for record in chosen])
    elif changes:
        for record in chosen:
            click.echo("  ".join(_row(record)))
            for sign, name in changed[record.number]:
                click.echo(f"    {sign} {printable(name)}")
    else:
        columns = ["COMMIT", "ID", "TIME", "BY", "FILES", "SIZE", "MESSAGE"]
        table(columns, [_row(record) for record in chosen], right=["FILES", "SIZE"])
    for line in (collected, *ends):
        if line:
            note(line)


def _collected(repo: Repository, shown: list[CommitRecord]) -> str:
    """What to say of history that is not there any more."""
    branch = shown[0].branch if shown else ""
    ranges = repo.collected(branch).ranges if branch else ()
    oldest = ranges[0][1] + 1 if ranges and ranges[0][0] == 1 else 0
    between = sum(last - first + 1 for first, last in ranges if first > 1 and first < shown[0].number)
    lines = [f"history before commit {branch}@{oldest} was collected"] if 0 < oldest <= shown[0].number else []
    lines += [f"{counted(between, 'commit')} of {branch} in between were collected"] if between else []
    return "; ".join(lines)


def _row(record: CommitRecord) -> list[str]:
    commit = record.commit
    return [
        f"{record.branch}@{record.number}",
        record.id.hex()[:12],
        moment(commit.time_ns / 1e9),
        f"{commit.user}@{commit.host}",
        str(commit.files),
        size(commit.size),
        printable(commit.message.encode()),
    ]


def _described(record: CommitRecord, changed: list[tuple[str, bytes]] | None) -> dict[str, object]:
    commit = record.commit
    facts: dict[str, object] = {
        "branch": record.branch,
        "number": record.number,
        "id": record.id.hex(),
        "parent": commit.parent.hex(),
        "time_ns": commit.time_ns,
        "host": commit.host,
        "user": commit.user,
        "message": commit.message,
        "files": commit.files,
        "bytes": commit.size,
        "signed_by": f"ed25519:{record.signed_by.hex()}" if record.signed_by else None,
    }
    if changed is not None:
        facts["changes"] = [{"change": sign, "path": name.decode(errors="replace")} for sign, name in changed]
    return facts


def _before(repo: Repository, record: CommitRecord) -> Entry | None:
    """Root of the newest commit before it that was not collected and can be verified."""
    before = next(itertools.islice(verified(repo.log(record), []), 1, None), None)
    return before.commit.root if before is not None else None


def _touching(repo: Repository, commits: Iterator[CommitRecord], path: bytes) -> Iterator[CommitRecord]:
    for record in commits:
        before = _before(repo, record)
        old = repo.find(before, path) if before is not None else None
        new = repo.find(record.commit.root, path)
        if (old and (old.kind, old.content)) != (new and (new.kind, new.content)):
            yield record


def _changed(repo: Repository, record: CommitRecord) -> Iterator[tuple[str, bytes]]:
    before = _before(repo, record)
    old = TreeId(before.content) if before is not None else EMPTY_TREE
    yield from _between(repo, old, TreeId(record.commit.root.content), b"")


def _between(repo: Repository, old: TreeId, new: TreeId, prefix: bytes) -> Iterator[tuple[str, bytes]]:
    """("+" | "-" | "~", path) of what differs, files rather than their directories."""
    for name, a, b in repo.diff(old, new):
        path = prefix + name
        below_old = TreeId(a.content) if a is not None and a.kind is Kind.DIRECTORY else EMPTY_TREE
        below_new = TreeId(b.content) if b is not None and b.kind is Kind.DIRECTORY else EMPTY_TREE
        both = a is not None and b is not None and a.kind is Kind.DIRECTORY and b.kind is Kind.DIRECTORY
        if not both:
            yield ("+" if a is None else "-" if b is None else "~"), path
        if below_old != below_new:
            yield from _between(repo, below_old, below_new, path + b"/")
