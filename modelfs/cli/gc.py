"""``modelfs gc``."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict

import click

from modelfs import limits
from modelfs.cli.access import secret_options
from modelfs.cli.location import repository, single_writer_option, writing
from modelfs.cli.output import counted, counter, facts, json_option, print_json, size
from modelfs.quantities import parse_duration
from modelfs.repository.gc import Collection, Report
from modelfs.repository.retention import Retention


def _duration(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    return None if value is None else parse_duration(value)


_count = click.IntRange(min=1)


@click.command("gc")
@click.argument("store")
@click.option("--keep-last", metavar="N", type=_count, help="Keep the newest N commits of each branch.")
@click.option("--keep-daily", metavar="N", type=_count, help="Keep the newest commit of each of N days that have one.")
@click.option("--keep-weekly", metavar="N", type=_count, help="The same for weeks.")
@click.option("--keep-monthly", metavar="N", type=_count, help="The same for months.")
@click.option("--keep-within", metavar="DURATION", callback=_duration, help="Keep what is younger, as in 12h, 30d, 8w.")
@click.option(
    "--grace",
    metavar="DURATION",
    callback=_duration,
    default=f"{limits.GC_GRACE_DEFAULT / 3600:.0f}h",
    show_default=True,
    help="How long something stays that nothing needs, in case somebody is about to.",
)
@click.option("--exclusive", is_flag=True, help="Nobody has the store open for writing: any --grace will do.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@single_writer_option
@secret_options
@json_option
def command(
    store: str,
    keep_last: int | None,
    keep_daily: int | None,
    keep_weekly: int | None,
    keep_monthly: int | None,
    keep_within: float | None,
    grace: float,
    exclusive: bool,
    dry_run: bool,
    single_writer: bool,
    as_json: bool,
) -> None:
    """Free what no branch, no tag and no kept commit needs any more.

    Without a --keep option all history is kept. With several a commit stays if one of them wants it. The newest
    commit of each branch, tagged ones, and those younger than --grace always stay.

    What nothing needs is condemned by one run and deleted by a later one, when --grace is over and still nothing
    needs it: run it regularly. Mounts and commands may go on reading and writing meanwhile.

    \b
    modelfs gc /srv/models
    modelfs gc s3://checkpoints/team-a --keep-last 20 --keep-daily 14 --dry-run
    """
    retention = Retention(keep_last, keep_daily, keep_weekly, keep_monthly, keep_within)
    with repository(store) as repo:
        guard = nullcontext() if dry_run else writing(repo, single_writer=single_writer)
        with guard, counter() as tick:
            report = Collection(repo, retention, grace, exclusive=exclusive, dry=dry_run, tick=tick).run()
    if as_json:
        print_json({"dry_run": dry_run, **asdict(report)})
    else:
        _show(report, dry=dry_run)


def _show(report: Report, *, dry: bool) -> None:
    would = "would be " if dry else ""
    deleted = f"{report.deleted} {would}deleted ({size(report.deleted_bytes)})"
    if report.commits_deleted:
        deleted += f", and {counted(report.commits_deleted, 'commit')}"
    lines = [
        ("commits", f"{report.commits_kept} kept, {report.commits_dropped} dropped"),
        (
            "objects",
            f"{report.objects}, of which {report.unreached} ({size(report.unreached_bytes)}) are needed by nothing",
        ),
        ("deleted", deleted),
        (
            "condemned",
            f"{report.condemned} {would}condemned now; {report.waiting} wait for the end of their grace period",
        ),
    ]
    if report.young:
        lines.append(("young", f"{report.young} are needed by nothing yet, and too young to be condemned"))
    if report.spared:
        lines.append(("spared", f"{report.spared} had been condemned and are needed again, or gone"))
    facts(lines)
