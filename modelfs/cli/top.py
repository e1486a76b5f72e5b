"""``modelfs top``: the mounts of this machine as they work, frame by frame."""

from __future__ import annotations

import sys
import time
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from modelfs import limits
from modelfs.cli.output import size
from modelfs.errors import UsageError
from modelfs.fuse import daemon

Facts = dict[str, Any]


@click.command("top")
@click.option("--once", is_flag=True, help="Print one frame, with averages since each mount began, and end.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=limits.TOP_INTERVAL,
    show_default=True,
    metavar="SECONDS",
    help="Time between frames.",
)
def command(once: bool, interval: float) -> None:
    """Watch your mounts on this machine: what they read, fetch and send, and what is not in the store yet.

    READ and WRITE are bytes a second between programs and the mount, FETCH and SEND between the mount and the store.
    HITS is the share of bytes that were here when a file was read. Ends with Ctrl-C. NO_COLOR is respected.

    \b
    modelfs top
    modelfs top --once
    """
    if once:
        console = Console(width=None if sys.stdout.isatty() else limits.TOP_WIDTH)
        console.print(frame(daemon.mounts(), {}))
        return
    if not sys.stdout.isatty():
        raise UsageError("this is no terminal; --once prints one frame")
    before: dict[str, Facts] = {}
    with Live(screen=True, auto_refresh=False) as live:
        while True:
            found = daemon.mounts()
            live.update(frame(found, before), refresh=True)
            before = {facts["mountpoint"]: facts for facts in found}
            time.sleep(interval)


def frame(mounts: list[Facts], before: dict[str, Facts]) -> Group:
    """One picture of the mounts; rates are since their facts in ``before`` (by mount point), else since they began."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("MOUNTPOINT", "COMMIT", "STATE"):
        table.add_column(column, no_wrap=True)
    for column in ("READ", "WRITE", "FETCH", "SEND", "HITS", "PENDING", "CACHE", "OPEN", "ERRORS"):
        table.add_column(column, justify="right", no_wrap=True)
    notes = []
    for facts in mounts:
        state, style = _state(facts)
        if "commit" not in facts:
            table.add_row(Text(facts["mountpoint"]), "", Text(state, style))
            continue
        earlier = before.get(facts["mountpoint"], {})
        cache = facts["cache"]
        table.add_row(
            Text(facts["mountpoint"]),
            Text(f"{facts['branch']}@{facts['commit']}"),
            Text(state, style),
            *(_rate(facts, earlier, key) for key in ("read_bytes", "written_bytes")),
            *(_rate(facts, earlier, key) for key in ("store_received_bytes", "store_sent_bytes")),
            "" if facts["hit_ratio"] is None else f"{100 * facts['hit_ratio']:.1f} %",
            f"{facts['pending_files']} / {size(facts['pending_bytes'])}" if facts["pending_files"] else "",
            f"{size(cache['bytes'])} / {size(cache['limit'])}" if cache is not None else "fails",
            str(facts["open_files"]),
            Text(str(facts["errors"]), "red" if facts["errors"] else ""),
        )
        if facts["last_error"]:
            notes.append(Text(f"{facts['mountpoint']}: {facts['last_error']}", "red"))
    if not mounts:
        return Group(Text("nothing is mounted"))
    return Group(table, *notes)


def _state(facts: Facts) -> tuple[str, str]:
    """What is worth knowing first, and its colour."""
    if facts["state"] != "mounted":
        return facts["state"], "red"
    if facts["away"] is not None:
        return f"store away {facts['away']:.0f} s", "red"
    if facts["uploading"]:
        return f"uploading {facts['uploading']}", "green"
    if facts["fetching"]:
        return f"fetching {facts['fetching']}", "green"
    return ("pending", "yellow") if facts["pending"] else ("idle", "")


def _rate(facts: Facts, earlier: Facts, key: str) -> str:
    """Bytes a second."""
    same = earlier.get("pid") == facts["pid"] and key in earlier
    seconds = facts["uptime"] - (earlier["uptime"] if same else 0)
    count = facts[key] - (earlier[key] if same else 0)
    return f"{size(int(count / seconds))}/s" if count and seconds > 0 else ""
