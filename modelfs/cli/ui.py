"""``modelfs ui``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from modelfs import config, limits
from modelfs.cli.access import access, access_options
from modelfs.cli.options import located
from modelfs.cli.output import json_option, note, print_json
from modelfs.errors import ExtraMissingError
from modelfs.fuse import daemon
from modelfs.memory import keep_heap
from modelfs.store.open import redact_url


@click.command("ui")
@click.argument("what", metavar="[MOUNTPOINT|STORE]", required=False)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default=limits.UI_ADDRESS,
    show_default=True,
    help="Where the page is; port 0 is one that is free.",
)
@click.option("--no-token", is_flag=True, help="Let everybody in who reaches the address.")
@access_options
@json_option
def command(what: str | None, listen: str, no_token: bool, as_json: bool) -> None:
    """Show mounts and stores as a page for a browser: throughput over time, what is in the cache, the history and what
    each commit saved, the tensors of checkpoints.

    Of all your mounts on this machine, of one, or of a STORE and its mounts. It changes nothing. The address that is
    printed has a token, without which nobody is let in: other users of this machine reach it as well. Ends with Ctrl-C.

    \b
    modelfs ui
    modelfs ui s3://checkpoints/team-a --listen :0
    """
    try:
        from modelfs.ui.server import Server, Shown
        from modelfs.ui.stores import open_repository
    except ImportError as error:
        raise ExtraMissingError(f"the page needs {error.name}: pip install 'modelfs[ui]'") from error
    keep_heap()
    daemon.setup_logging(sys.stderr, debug=False)
    server = Server(listen, token=not no_token)
    if what is None:
        shown = Shown(access())
    elif (mountpoint := _mountpoint(what)) is not None:
        shown = Shown(access(), mountpoint=mountpoint, name=what)
    else:
        url = located(what)  # before `access`: the file of a named mount says what opens its store
        given = access()
        shown = Shown(given, repo=open_repository(url, given), name=redact_url(what))
    if not server.loopback:
        note("the page can be reached from other machines, and nothing on the way to them is encrypted")

    def started() -> None:
        if as_json:
            print_json({"url": server.url, "pid": os.getpid()})
        else:
            click.echo(server.url)

    server.run(shown, started)


def _mountpoint(what: str) -> Path | None:
    """The absolute path of a mount of ours, dead ones included; None when ``what`` is none."""
    if what.startswith("@") or "://" in what:
        return None
    path = Path(os.path.normpath(Path(what).expanduser().absolute()))
    return path if config.mount_record(path).exists() else None
