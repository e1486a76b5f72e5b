"""``modelfs doctor``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click

from modelfs.cli.options import located
from modelfs.cli.output import counted, json_option, print_json, table
from modelfs.doctor.disks import check_disks
from modelfs.doctor.machine import check_machine
from modelfs.doctor.remote import check_store

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command("doctor")
@click.argument("store", required=False)
@click.option("--cache-dir", type=click.Path(path_type=Path), help="Where chunks are to be kept on this machine.")
@click.option("--read-only", is_flag=True, help="Write nothing to STORE: no measurement, no probe.")
@json_option
def command(store: str | None, cache_dir: Path | None, read_only: bool, as_json: bool) -> None:
    """Look whether this machine, and STORE, are fit for mounts, and say what to do where they are not.

    Measures with some 30 MB of probe objects that are removed again. Exit codes: 0 nothing failed, 1 something did.

    \b
    modelfs doctor
    modelfs doctor s3://checkpoints/team-a
    modelfs doctor @team-a --json
    """
    url = located(store) if store is not None else None
    cache = cache_dir.expanduser().absolute() if cache_dir is not None else None
    remote = check_store(url, read_only=read_only) if url is not None else ()
    found = list(chain(check_machine(), check_disks(cache), remote))
    if as_json:
        print_json([asdict(finding) for finding in found])
    else:
        rows = [[f.level, f.check, f.fact + (f": {f.advice}" if f.advice else "")] for f in found]
        table(["", "CHECK", "FOUND"], rows, styles=_COLOURS, fold=True)
        bad = [sum(f.level == level for f in found) for level in ("fail", "warn")]
        if any(bad):
            click.echo(f"{counted(bad[0], 'failure')}, {counted(bad[1], 'warning')}", err=True)
    if any(finding.level == "fail" for finding in found):
        sys.exit(1)
