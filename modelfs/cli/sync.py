"""``modelfs sync``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import click

from modelfs.assembly.secret import read_secret
from modelfs.cli.access import access, access_options, sign_option
from modelfs.cli.location import single_writer_option, writing
from modelfs.cli.options import located
from modelfs.cli.output import counted, counter, json_option, note, print_json, progress_bar, size
from modelfs.config import Secret
from modelfs.errors import NotAStoreError, UsageError
from modelfs.memory import keep_heap
from modelfs.repository.access import Access
from modelfs.repository.format import read_format
from modelfs.repository.keys import COMMITS, DATA, DELTAS, FORMAT_KEY, META, TAGS
from modelfs.repository.repository import Repository
from modelfs.repository.sources import SOURCES
from modelfs.store.base import Store
from modelfs.store.open import open_store
from modelfs.store.probe import probe_exclusive_put
from modelfs.sync.history import parse_since
from modelfs.sync.mark import SYNC
from modelfs.sync.sync import Report, Sync, same_ids

_OURS = (COMMITS, DATA, DELTAS, META, TAGS, SOURCES, SYNC, "gc/", "probe/", "lease.json")


@click.command("sync")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option(
    "--ref", "refs", metavar="NAME", multiple=True, help="Only this branch, tag or BRANCH@N, and what led to it."
)
@click.option("--since", metavar="COMMIT|DATE", help="Where history begins in a branch that DST does not have yet.")
@click.option(
    "--create", is_flag=True, help="Make DST a mirror: the same store, with its id and keys, in another place."
)
@click.option("--rewrite", is_flag=True, help="Write objects anew: with DST's keys, for DST's compression.")
@click.option(
    "--from-passphrase-file", type=click.Path(path_type=Path), help="What opens SRC, when it is not what opens DST."
)
@click.option("--from-passphrase-command", metavar="CMD", help="The same from a command.")
@click.option("--from-key-file", type=click.Path(path_type=Path), help="The same, a key file.")
@click.option("--dry-run", is_flag=True, help="Say what would be copied.")
@single_writer_option
@access_options
@sign_option
@json_option
def command(
    source: str,
    target: str,
    refs: tuple[str, ...],
    since: str | None,
    create: bool,
    rewrite: bool,
    from_passphrase_file: Path | None,
    from_passphrase_command: str | None,
    from_key_file: Path | None,
    dry_run: bool,
    single_writer: bool,
    as_json: bool,
) -> None:
    """Copy what the store SRC has and the store DST lacks: history, tags, and the objects that they need.

    All branches and tags, or those of --ref. The next run copies only what has come since; one that was stopped goes
    on. Every object is verified on the way, and no commit is made before all that it needs is there. Works beside
    writers and collections of both stores. Branches of DST only ever move forward: one with commits that SRC does not
    have is refused.

    DST is a store of its own that `modelfs init` made: its commits get the times, authors and texts of SRC's, and other
    ids. Or, with --create, it is a mirror with the same commits.

    \b
    modelfs init s3://backup/models && modelfs sync /srv/models s3://backup/models
    modelfs sync /srv/models sftp://nas/volume1/mirror --create
    modelfs sync s3://team/models /srv/release --ref main --ref v1.2 --since 2026-01-01
    modelfs sync /srv/models s3://vault/models --rewrite --passphrase-file ~/.config/modelfs/vault
    """
    keep_heap()
    theirs = read_secret(from_passphrase_file, from_passphrase_command, from_key_file)
    with contextlib.ExitStack() as stack:
        first = open_store(located(source))
        stack.callback(first.close)
        given = access()
        repo = Repository.open(first, _for_source(first, given, theirs))
        stack.callback(repo.close)
        second = open_store(located(target), create=create and not dry_run)
        stack.callback(second.close)
        if first.url == second.url:
            raise UsageError(f"{first.url} cannot be copied to itself")
        copy, mirror = _opened(second, repo, given, create=create)
        _check_ids(repo, copy, rewrite=rewrite)
        begin = parse_since(repo, since) if since is not None else None
        if not dry_run:
            if copy.format.id == repo.format.id and not single_writer:
                probe_exclusive_put(copy.store)  # that a store of this id was probed says nothing of this one
            stack.enter_context(writing(copy, single_writer=single_writer))
        run = Sync(repo, copy, rewrite=rewrite)
        report = run.run(
            refs, begin, dry_run=dry_run, bar=lambda total: progress_bar("copying", total), looking=_looking
        )
        if mirror and not dry_run:
            second.put_if_absent(FORMAT_KEY, first.get(FORMAT_KEY))
    for branch in report.branches:
        for why in branch.ends:
            note(f"{branch.branch}: {why}")
        if branch.ahead:
            note(f"{branch.branch}: {second.url} has all of it, and more")
    if report.tags_left_out:
        note(f"tags on commits that were not copied are left out: {', '.join(report.tags_left_out)}")
    if as_json:
        print_json({"source": first.url, "target": second.url, "dry_run": dry_run, **asdict(report)})
    else:
        _show(report, dry_run=dry_run)


@contextlib.contextmanager
def _looking() -> Iterator[Callable[[], None]]:
    with counter() as tick:
        yield lambda: tick("looking at objects", 1)


def _for_source(store: Store, given: Access, theirs: Secret | None) -> Access:
    """What opens the source: what was given for it, else what opens both."""
    if theirs is not None:
        return replace(given, secret=theirs, signer=None)
    return replace(given, secret=given.secret if read_format(store).encryption is not None else None, signer=None)


def _opened(store: Store, source: Repository, given: Access, *, create: bool) -> tuple[Repository, bool]:
    """The target; True when it is a mirror that still lacks its format.json."""
    # Who signs nothing copies what the source is trusted for.
    opens = given if given.signer is not None else replace(given, trusted=frozenset())
    mirror = replace(opens, seen=None)  # what this machine has seen of the one place is not in the other yet
    try:
        made = read_format(store)
    except NotAStoreError as error:
        if not create:
            hint = f"`modelfs init` makes one, `modelfs sync --create` a mirror of {source.store.url}"
            raise NotAStoreError(f"{error}: {hint}") from error
        foreign = next((found.key for found in store.list("") if not found.key.startswith(_OURS)), None)
        if foreign is not None:
            message = f"{store.url} is not empty (it has {foreign!r}); give the mirror a place of its own"
            raise UsageError(message) from error
        return Repository(store, source.format, source.keys, mirror), True
    if made == source.format:
        return Repository(store, made, source.keys, mirror), False
    if made.id == source.format.id:
        return Repository.open(store, mirror), False
    if create:
        raise UsageError(f"there is another store at {store.url} already: without --create it gets what it lacks")
    return Repository.open(store, opens), False


def _check_ids(source: Repository, target: Repository, *, rewrite: bool) -> None:
    if rewrite or same_ids(source, target):
        return
    kinds = ["is encrypted" if repo.ids.keyed else "is not encrypted" for repo in (source, target)]
    keys = " with other keys" if kinds[0] == kinds[1] else ""
    raise UsageError(
        f"{source.store.url} {kinds[0]}, {target.store.url} {kinds[1]}{keys}: "
        "every object has to be written anew, which --rewrite does"
    )


def _show(report: Report, *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    for branch in report.branches:
        if branch.commits:
            click.echo(f"{branch.branch}: {counted(branch.commits, 'commit')} {would}copied")
    if report.tags:
        click.echo(f"{counted(len(report.tags), 'tag')} {would}copied: {', '.join(report.tags)}")
    moved = (
        f"{counted(report.chunks, 'chunk')} ({size(report.bytes)} of files), {counted(report.metadata, 'other object')}"
    )
    if not report.chunks + report.metadata + sum(b.commits for b in report.branches) + len(report.tags):
        click.echo("nothing to copy")
    else:
        click.echo(f"{moved} {would}copied" + ("" if dry_run else f"; {size(report.sent)} were sent"))
