"""``modelfs materialise``."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from modelfs import limits
from modelfs.cli.access import access_options
from modelfs.cli.findings import stages
from modelfs.cli.location import compression_option, repository, single_writer_option, writing
from modelfs.cli.output import counted, json_option, note, print_json, progress_bar, size
from modelfs.codecs import Compression
from modelfs.repository.fsck import Fsck
from modelfs.repository.materialise import materialise


@click.command("materialise")
@click.argument("store")
@compression_option
@single_writer_option
@access_options
@json_option
def command(store: str, compression: Compression | None, single_writer: bool, as_json: bool) -> None:
    """Copy into STORE what it only links to (`modelfs import --link`), so that it needs the originals no more.

    Every chunk of every commit that is a link is read where it leads, verified, and stored. Links to what
    --allow-source does not allow are left as they are, so it also says which ones to copy. Nothing else changes: not
    the files, not the history. A run that was stopped goes on where it was. Exit codes: 0 nothing is linked any more
    but what is not allowed; 1 some originals could not be read.

    \b
    modelfs materialise ~/store --allow-source /data/checkpoints
    modelfs materialise s3://checkpoints/team-a --allow-source s3://old-bucket/llama
    """
    with repository(store) as repo, writing(repo, single_writer=single_writer, commits=False):
        if compression is not None:
            repo.compression = compression
        with stages() as stage:
            fsck = Fsck(repo, stage=stage)
            _, survey = fsck.survey()
            links = fsck.linked(survey)
        lengths = {chunk: survey.lengths[chunk] for chunk in links}
        with progress_bar("copying", sum(lengths.values())) as advance:
            report = materialise(repo, lengths, advance)
    if report.refused:
        note(f"{counted(report.refused, 'chunk')}: --allow-source does not say that the originals may be read")
    for why in list(report.failed.values())[: limits.FSCK_SHOWN]:
        note(why)
    if as_json:
        print_json({"store": repo.store.url, **asdict(report)})
    else:
        click.echo(f"{counted(report.chunks, 'chunk')}, {size(report.bytes)} copied; {size(report.sent)} were sent")
        if report.failed_chunks:
            click.echo(f"{counted(report.failed_chunks, 'chunk')} could not be had")
    if report.failed_chunks:
        sys.exit(1)
