"""``modelfs scrub``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from modelfs import config
from modelfs.cli.access import access_options
from modelfs.cli.findings import described, show, stages
from modelfs.cli.location import repository
from modelfs.cli.output import counted, json_option, print_json
from modelfs.quantities import parse_size
from modelfs.repository.scrub import Pace, Scrub


@click.command("scrub")
@click.argument("store")
@click.option(
    "--rate", default="50M", show_default=True, metavar="SIZE", help="Plain bytes a second on average; 0: no limit."
)
@click.option("--stop-after", default="0", metavar="SIZE", help="Read so much in this run (default: the whole round).")
@click.option(
    "--state", type=click.Path(path_type=Path), help="Where the round stands is kept (default: the state directory)."
)
@access_options
@json_option
def command(store: str, rate: str, stop_after: str, state: Path | None, as_json: bool) -> None:
    """Verify the chunks of a store little by little, from where the last run stopped.

    A round goes over all chunks once; when it is finished, the next run begins a new one. A run may be interrupted at
    any time. It reports as fsck does, and exits with 1 when it found damage; `modelfs fsck --read-data --repair` puts
    it right.

    \b
    modelfs scrub /srv/models --rate 50M
    modelfs scrub s3://checkpoints/team-a --stop-after 200G --json     # once a night
    """
    pace, share = Pace(parse_size(rate)), parse_size(stop_after)
    with repository(store) as repo, stages() as stage:
        path = state or config.state_directory() / "scrub" / f"{repo.format.id}.json"
        found, progress = Scrub(repo, path, pace, share, stage).run()
    if as_json:
        standing = {"finished": progress.finished or None, "rounds": progress.rounds, "checked": progress.checked}
        print_json({"store": repo.store.url, "store_id": repo.format.id, "round": standing, **described(found)})
    else:
        show(found)
        if progress.last:
            click.echo(
                f"this round: {counted(progress.checked, 'chunk')} of {found.chunks}; the next run goes on there"
            )
        else:
            click.echo(f"{counted(progress.rounds, 'round')} finished; the next run begins anew")
    if found.damages.left():
        sys.exit(1)
