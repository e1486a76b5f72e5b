"""``modelfs umount``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from modelfs import limits
from modelfs.cli.output import counted, size
from modelfs.fuse import daemon
from modelfs.fuse.daemon import Facts


@click.command("umount")
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=limits.UMOUNT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for pending uploads.",
)
@click.option("--lazy", is_flag=True, help="Detach now, although files are open.")
@click.option("--force", is_flag=True, help="Do not wait; what is pending stays on this machine for the next mount.")
def command(mountpoint: Path, timeout: float, lazy: bool, force: bool) -> None:
    """Unmount MOUNTPOINT once everything written there is in the store.

    \b
    modelfs umount ~/models
    """
    console = Console(stderr=True)
    with console.status(f"unmounting {mountpoint}") as line:

        def show(facts: Facts) -> None:
            if facts.get("pending_files"):
                files = counted(facts["pending_files"], "file")
                line.update(f"{files} ({size(facts['pending_bytes'])}) on their way to the store")
            if facts.get("last_error"):
                line.update(f"waiting for the store: {facts['last_error']}")

        daemon.unmount(mountpoint.expanduser().absolute(), progress=show, timeout=timeout, lazy=lazy, force=force)
