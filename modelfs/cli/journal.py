"""``modelfs journal``: ls, retry, export, drop."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import click
import trio

from modelfs import config
from modelfs.cache.cache import Cache
from modelfs.cli.access import access_options, sign_option
from modelfs.cli.location import repository, single_writer_option, writing
from modelfs.cli.options import located
from modelfs.cli.output import counted, json_option, moment, note, print_json, printable, size
from modelfs.errors import ModelfsError, StoreError, UsageError
from modelfs.journal.export import export_file, needs_store, target_of
from modelfs.journal.held import Fate, HeldFile
from modelfs.journal.look import SessionView, find_session, sessions
from modelfs.journal.session import Session, take_over
from modelfs.reader.source import ChunkSource
from modelfs.repository.repository import Repository
from modelfs.store.open import redact_url
from modelfs.vfs.recovery import Replayed, replay
from modelfs.writer.uploader import Uploader

_ID: Final = re.compile(r"[0-9a-f]{8,64}")
_SHOWN: Final = 12  # hex digits of a session's name
_WORDS: Final = {
    Fate.PENDING: "pending upload",
    Fate.UNFINISHED: "unfinished",
    Fate.DAMAGED: "damaged",
}

store_option = click.option("--store", metavar="STORE", help="Where the store is now, if it has moved.")


@click.group("journal", no_args_is_help=True)
def command() -> None:
    """Look at and handle what mounts on this machine have not brought into the store. Works while mounts are running.

    Pending uploads were acknowledged and go up with the next mount, or with `retry`. Unfinished files were being
    written when a mount died: nobody was told that they are safe; `export` saves them, `drop` deletes them.

    \b
    modelfs journal ls
    modelfs journal retry ~/models
    modelfs journal export 3f9a1c2b7d10 ~/rescued
    modelfs journal drop 3f9a1c2b7d10
    """


def _views(store: str | None) -> list[SessionView]:
    found = sessions(config.journals_directory())
    return found if store is None else _of_store(found, store)


def _of_store(found: list[SessionView], store: str) -> list[SessionView]:
    """Those of a store, which is asked for its id only if no journal knows the URL: it may be away."""
    store = located(store)
    url = store if "://" in store else str(Path(store).expanduser().absolute())
    known = {view.store_id for view in found if view.about.store == url}
    if not known and _ID.fullmatch(store) and not Path(store).exists():
        known = {store}
    if not known:
        with repository(store) as repo:
            known = {repo.format.id}
    return [view for view in found if view.store_id in known]


# -- ls -------------------------------------------------------------------------------------------------------------


@command.command("ls")
@click.argument("store", required=False)
@access_options
@json_option
def ls(store: str | None, as_json: bool) -> None:
    """List what is not in STORE (default: any store) yet, or never will be by itself.

    \b
    modelfs journal ls
    modelfs journal ls s3://checkpoints/team-a --json
    """
    found = _views(store)
    if as_json:
        print_json([_facts(view) for view in found])
        return
    shown = [view for view in found if not view.living or view.files or view.changes]
    if not shown:
        click.echo("nothing is left in the journal")
    for view in shown:
        _show(view)
    if any(not view.living and _pending(view) for view in shown):
        click.echo("The next mount of the branch, or `modelfs journal retry`, brings what is pending into the store.")


def _pending(view: SessionView) -> bool:
    return view.changes > 0 or any(held.fate is Fate.PENDING for held in view.files)


def _show(view: SessionView) -> None:
    where = redact_url(view.about.store) or f"store {view.store_id}"
    at = f" at {view.about.mountpoint}" if view.about.mountpoint else ""
    process = f", process {view.pid}" if view.pid is not None else ""
    state = f"mounted{at}{process}" if view.living else f"its mount{at} of {moment(view.about.began)} is gone"
    click.echo(f"{view.id[:_SHOWN]}  {view.branch} of {where}: {state}")
    if view.failure is not None:
        click.echo(f"    could not be replayed: {view.failure.why} ({moment(view.failure.when)})")
    if view.torn:
        click.echo(f"    the log was damaged: {view.torn} bytes at its end are no records and are kept aside")
    width = max((len(_name(held)) for held in view.files), default=0)
    for held in view.files:
        why = f"  {held.why}" if held.why else ""
        when = moment(held.modified) if held.modified else ""
        click.echo(f"    {_WORDS[held.fate]:<14}  {_name(held):<{width}}  {size(held.size):>9}  {when}{why}")
    if view.changes:
        click.echo(f"    {counted(view.changes, 'change')} of names and attributes")
    if not (view.files or view.changes or view.torn):
        click.echo("    nothing is pending")


def _name(held: HeldFile) -> str:
    return f"({held.file.name})" if held.path is None else printable(held.path)


def _facts(view: SessionView) -> dict[str, Any]:
    return {
        "session": view.id,
        "store_id": view.store_id,
        "store": redact_url(view.about.store),
        "branch": view.branch,
        "mountpoint": view.about.mountpoint,
        "began": view.about.began,
        "state": "mounted" if view.living else "dead",
        "pid": view.pid,
        "commit": view.began_on,
        "failure": view.failure.why if view.failure is not None else "",
        "torn_bytes": view.torn,
        "changes": view.changes,
        "directory": str(view.directory),
        "files": [
            {
                "path": None if held.path is None else printable(held.path),
                "state": held.fate.value,
                "why": held.why,
                "size": held.size,
                "modified": held.modified,
                "file": str(held.file),
            }
            for held in view.files
        ],
    }


# -- retry ----------------------------------------------------------------------------------------------------------


@command.command("retry")
@click.argument("store", required=False)
@click.option("--session", "prefix", help="Only this one, by the beginning of its name.")
@click.option("--cache-dir", type=click.Path(path_type=Path), help="Where chunks are kept on this machine.")
@single_writer_option
@access_options
@sign_option
@json_option
def retry(store: str | None, prefix: str | None, cache_dir: Path | None, single_writer: bool, as_json: bool) -> None:
    """Bring what dead mounts had acknowledged into STORE (default: each its own) now, without a mount.

    \b
    modelfs journal retry
    modelfs journal retry ~/models --session 3f9a1c2b7d10
    """
    found = _views(store)
    if prefix is not None:
        wanted = find_session(config.journals_directory(), prefix)
        if wanted.id not in {view.id for view in found}:
            raise UsageError(f"the journal {prefix} is not of {store}")
        if wanted.living:
            raise UsageError(f"the journal {prefix} belongs to the mount at {wanted.about.mountpoint}, which lives")
        found = [wanted]
    done: list[tuple[SessionView, Replayed]] = []
    dead = sorted((view for view in found if not view.living), key=lambda view: (view.store_id, view.branch))
    for _, group in groupby(dead, key=lambda view: view.store_id):
        done += _retry_store(list(group), store, cache_dir, single_writer=single_writer)
    if as_json:
        print_json([_outcome(view, result) for view, result in done])
    elif not done:
        click.echo("no dead mount has left anything")
    else:
        for view, result in done:
            click.echo(f"{view.id[:_SHOWN]}  {_in_words(result)}")
    if any(result.failure for _, result in done):
        sys.exit(1)


def _retry_store(
    views: list[SessionView], store: str | None, cache_dir: Path | None, *, single_writer: bool
) -> list[tuple[SessionView, Replayed]]:
    url = store if store is not None and not _ID.fullmatch(store) else next((v.about.store for v in views), "")
    done = []
    with _repository_of(views[0], url) as repo, writing(repo, single_writer=single_writer):
        cache = Cache(cache_dir or config.cache_directory(repo.format.id), repo.format.id, ids=repo.ids)
        try:
            for view in views:
                session = take_over(view.directory)
                if session is not None:  # else it has gone, or a mount is replaying it just now
                    done.append((view, trio.run(_replay, session, repo, cache, view.branch)))
        finally:
            cache.close()
    return done


async def _replay(session: Session, repo: Repository, cache: Cache, branch: str) -> Replayed:
    [result] = await replay([session], ChunkSource(repo, cache), Uploader(repo, repo.format.chunking), branch)
    return result


@contextmanager
def _repository_of(view: SessionView, url: str) -> Iterator[Repository]:
    if not url:
        raise UsageError(f"the journal {view.id[:_SHOWN]} does not know its store's URL: give it")
    with repository(url) as repo:
        if repo.format.id != view.store_id:
            raise UsageError(f"{redact_url(url)} is another store than that of the journal {view.id[:_SHOWN]}")
        yield repo


def _outcome(view: SessionView, result: Replayed) -> dict[str, Any]:
    return {
        "session": view.id,
        "changes": result.changes,
        "commit": result.record.number if result.record is not None else None,
        "failure": result.failure,
        "kept": [None if held.path is None else printable(held.path) for held in result.left],
    }


def _in_words(result: Replayed) -> str:
    if result.failure:
        return f"could not be replayed and is kept: {result.failure}"
    commit = f" ({result.record.branch}@{result.record.number})" if result.record is not None else ""
    brought = f"{counted(result.changes, 'change')} brought into the store{commit}"
    said = brought if result.changes else "nothing pending"
    return said + (f"; {counted(len(result.left), 'file')} kept" if result.left else "")


# -- export and drop ------------------------------------------------------------------------------------------------


def _chosen(what: str) -> tuple[SessionView, HeldFile | None]:
    prefix, slash, name = what.partition("/")
    view = find_session(config.journals_directory(), prefix)
    return view, view.find(name) if slash else None


@command.command("export")
@click.argument("what", metavar="SESSION[/FILE]")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@store_option
@access_options
@json_option
def export(what: str, directory: Path, store: str | None, as_json: bool) -> None:
    """Copy staged files out as ordinary files in DIR, under their paths in the mount. The journal keeps them.

    What was not written here comes from the version in the store that the file started from.

    \b
    modelfs journal export 3f9a1c2b7d10 ~/rescued
    modelfs journal export 3f9a1c2b7d10/runs/7/model.pt .
    """
    view, chosen = _chosen(what)
    files = [chosen] if chosen is not None else sorted(view.files, key=lambda held: -held.modified)
    if not files:
        raise UsageError(f"the journal {view.id[:_SHOWN]} holds no files")
    directory.mkdir(parents=True, exist_ok=True)
    done: list[dict[str, Any]] = []
    failed: list[str] = []
    taken: set[Path] = set()
    with _store_if_there(view, store, wanted=any(needs_store(held) for held in files)) as repo:
        for held in files:
            try:
                target = target_of(held, directory)
                if target in taken:  # an older one of the same path
                    target = target.with_name(f"{target.name}.{held.file.name[:8]}")
                taken.add(target)
                done.append({"path": str(target), "size": export_file(held, target, repo), "state": held.fate.value})
            except (ModelfsError, OSError) as error:
                failed.append(str(error))
    if as_json:
        print_json({"exported": done, "failed": failed})
    else:
        for one in done:
            click.echo(f"{one['path']}  {size(one['size'])}, {_WORDS[Fate(one['state'])]}")
    for line in failed if not as_json else ():
        note(line)
    if failed:
        sys.exit(1)


@contextmanager
def _store_if_there(view: SessionView, store: str | None, *, wanted: bool) -> Iterator[Repository | None]:
    """The session's store, or None when nothing of it is wanted or it is away."""
    with ExitStack() as opened:
        repo = None
        if wanted:
            try:
                repo = opened.enter_context(_repository_of(view, store or view.about.store))
            except (StoreError, UsageError) as error:
                note(f"the store is away: {error}")
        yield repo


@command.command("drop")
@click.argument("what", metavar="SESSION[/FILE]")
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(what: str, yes: bool) -> None:
    """Delete a dead mount's journal, or one unfinished file in it, for good.

    \b
    modelfs journal drop 3f9a1c2b7d10
    modelfs journal drop 3f9a1c2b7d10/runs/7/model.pt --yes
    """
    view, chosen = _chosen(what)
    if view.living:
        raise UsageError(f"the journal {view.id[:_SHOWN]} belongs to the mount at {view.about.mountpoint}, which lives")
    if chosen is not None and chosen.fate is Fate.PENDING:
        raise UsageError(f"{_name(chosen)} is a pending upload; what came after it may need it: drop the whole journal")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody can be asked here: say --yes to delete")
        if not click.confirm(f"Delete {_what_goes(view, chosen)} for good?", err=True):
            raise click.Abort
    session = take_over(view.directory)
    if session is None:
        raise UsageError(f"the journal {view.id[:_SHOWN]} is in use")
    session.drop(chosen)
    click.echo(f"deleted {_what_goes(view, chosen)}")


def _what_goes(view: SessionView, chosen: HeldFile | None) -> str:
    if chosen is not None:
        return f"{_name(chosen)} ({size(chosen.size)})"
    total = sum(held.size for held in view.files)
    pending = sum(held.fate is Fate.PENDING for held in view.files)
    said = f"{counted(len(view.files), 'file')} ({size(total)}), {pending} of them acknowledged and not in the store"
    return f"{said}, and {counted(view.changes, 'change')} of names" if view.changes else said
