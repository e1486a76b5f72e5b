"""``modelfs import``."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, replace

import click

from modelfs import limits
from modelfs.cli.access import access_options, sign_option
from modelfs.cli.location import compression_option, repository, single_writer_option, tree_path, writing
from modelfs.cli.output import counted, json_option, note, print_json, progress_bar, size
from modelfs.codecs import Compression
from modelfs.errors import UsageError
from modelfs.quantities import parse_size
from modelfs.repository.objects import Kind
from modelfs.repository.repository import Repository
from modelfs.writer.imports import Import, Imported
from modelfs.writer.sources import Item, Source, excluded, open_source


@click.command("import")
@click.argument("url", metavar="URL")
@click.argument("store", metavar="STORE")
@click.argument("destination", metavar="[DST]", default="")
@click.option("--branch", default="main", show_default=True)
@click.option("-m", "--message", default="", help="Why, for the history.")
@click.option("--exclude", metavar="PATTERN", multiple=True, help="Leave out paths or names like this (`*.bin`).")
@click.option("--revision", metavar="REV", help="Of repositories in a Hugging Face cache.  [default: main]")
@click.option("--group", metavar="SIZE", help="Commit whenever so much was read, so that a stopped run goes on there.")
@click.option("--dry-run", is_flag=True, help="Say what would be brought in.")
@compression_option
@single_writer_option
@access_options
@sign_option
@json_option
def command(
    url: str,
    store: str,
    destination: str,
    branch: str,
    message: str,
    exclude: tuple[str, ...],
    revision: str | None,
    group: str | None,
    dry_run: bool,
    compression: Compression | None,
    single_writer: bool,
    as_json: bool,
) -> None:
    """Bring existing checkpoints into a store without a mount: a directory, a bucket, a Hugging Face repository.

    What is in URL (a path, s3://, gs://, az://, hf://, sftp://, or any that fsspec knows) goes into the directory DST
    of the branch, by default its root, with its modification times, in one commit. A URL of one file is that file.
    Files that are there with the same size and time are not read again, chunks that the store has are not sent, and
    nothing is removed, so it can be repeated.

    Links that lead out of a directory are followed, others stay links. A repository in a Hugging Face cache is the
    files of one revision; of a whole cache each goes to ORG/NAME. hf://ORG/NAME@REVISION is a repository of the Hub
    itself: the message of the commit ends with the commit's hash there.

    \b
    modelfs import /data/checkpoints ~/store runs
    modelfs import s3://old-bucket/llama s3://checkpoints/team-a llama --group 50GB
    modelfs import ~/.cache/huggingface/hub ~/store hub --exclude '*.bin'
    modelfs import hf://openai-community/gpt2@main ~/store gpt2 --exclude '*.h5'
    """
    each = _group(group) if group is not None else 0
    with contextlib.ExitStack() as stack:
        repo = stack.enter_context(repository(store))
        if not dry_run:
            stack.enter_context(writing(repo, single_writer=single_writer))
        if compression is not None:
            repo.compression = compression
        source = open_source(url, revision)
        stack.callback(source.close)
        origin = f"({source.pinned})" if message and source.pinned else source.pinned
        bringing = Import(repo, branch, " ".join(filter(None, (message, origin))), each)
        into = _target(repo, branch, source, destination)
        items = (item for item in source.items() if not excluded(item.path, exclude))
        plan = bringing.plan(_placed(item, into) for item in items)
        report = Imported(plan.files, plan.bytes, same=plan.same, same_bytes=plan.same_bytes)
        if not dry_run:
            with progress_bar("importing", plan.bytes) as advance:
                report = bringing.run(source, plan, advance)
    if source.left_out:
        more = len(source.left_out) - limits.IMPORT_SHOWN
        shown = ", ".join(source.left_out[: limits.IMPORT_SHOWN])
        note(f"left out: {shown}" + (f" and {counted(more, 'other')}" if more > 0 else ""))
    if as_json:
        facts = {"source": source.name, "dry_run": dry_run, "left_out": source.left_out}
        print_json({**facts, **asdict(report)})
        return
    would = "would be read" if dry_run else f"read; {size(report.sent)} were new to the store"
    where = f" ({branch}@{report.number})" if report.commits else ""
    click.echo(f"{counted(report.files, 'file')}, {size(report.bytes)} {would}{where}")
    if report.same:
        click.echo(f"{counted(report.same, 'file')}, {size(report.same_bytes)}: there already")


def _group(text: str) -> int:
    found = parse_size(text)
    if not found:
        raise UsageError("--group: a size above 0 is expected")
    return found


def _target(repo: Repository, branch: str, source: Source, destination: str) -> bytes:
    """Where it goes: the path of a directory for what is in the source, or of the one file that it is."""
    into = tree_path(destination)
    if source.single is None:
        return into
    there = repo.find(repo.resolve(branch).commit.root, into)
    if destination.endswith("/") or not into or (there is not None and there.kind is Kind.DIRECTORY):
        return into + b"/" + source.single if into else source.single
    return into


def _placed(item: Item, into: bytes) -> Item:
    return replace(item, path=b"/".join(part for part in (into, item.path) if part))
