"""``modelfs status``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from modelfs.cli.output import counted, facts, json_option, moment, print_json, size, table
from modelfs.fuse import daemon


@click.command("status")
@click.argument("mountpoint", type=click.Path(path_type=Path), required=False)
@json_option
def command(mountpoint: Path | None, as_json: bool) -> None:
    """Show your mounts on this machine, or one of them closely.

    \b
    modelfs status
    modelfs status ~/models --json
    """
    if mountpoint is not None:
        found = daemon.status(mountpoint.expanduser().absolute())
        if as_json:
            print_json(found)
        else:
            _details(found)
        return
    all_mounts = daemon.mounts()
    if as_json:
        print_json(all_mounts)
    elif not all_mounts:
        click.echo("nothing is mounted")
    else:
        rows = [
            [
                found["mountpoint"],
                found["state"],
                str(found.get("store", "")),
                _ref(found),
                _pending(found),
                size(found["cache"]["bytes"]) if "cache" in found else "",
            ]
            for found in all_mounts
        ]
        table(["MOUNTPOINT", "STATE", "STORE", "COMMIT", "PENDING", "CACHE"], rows)


def _ref(found: dict[str, Any]) -> str:
    return f"{found['branch']}@{found['commit']}" if "commit" in found else ""


def _pending(found: dict[str, Any]) -> str:
    if "pending" not in found:
        return ""
    if found["pending_files"]:
        return f"{counted(found['pending_files'], 'file')}, {size(found['pending_bytes'])}"
    return "changes" if found["pending"] else "nothing"


def _details(found: dict[str, Any]) -> None:
    if "store" not in found:
        facts([("mount point", found["mountpoint"]), ("state", found["state"]), ("process", str(found["pid"]))])
        return
    cache = found["cache"]
    facts(
        [
            ("mount point", found["mountpoint"]),
            ("state", found["state"] + (", read-only" if found["read_only"] else "")),
            ("store", found["store"]),
            ("commit", _ref(found)),
            ("mounted since", moment(found["since"])),
            ("process", str(found["pid"])),
            ("pending", _pending(found)),
            ("open files", str(found["open_files"])),
            ("fetched", f"{found['fetched_chunks']} chunks, {size(found['fetched_bytes'])}"),
            ("cache", f"{size(cache['bytes'])} of {size(cache['limit'])} in {found['cache_directory']}"),
            ("kernel limits", "raised" if found["kernel_limits_raised"] else "the kernel's default"),
            ("errors", str(found["errors"]) + (f" (last: {found['last_error']})" if found["last_error"] else "")),
        ]
    )
