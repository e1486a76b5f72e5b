"""``modelfs status``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from modelfs.cli.output import counted, facts, json_option, moment, print_json, size, table
from modelfs.fuse import daemon


@click.command("status")
@click.argument("mountpoint", type=click.Path(path_type=Path), required=False)
@json_option
def command(mountpoint: Path | None, as_json: bool) -> None:
    """Show your mounts on this machine, or one of them closely: exit code 1 then when it does not answer.

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
        sys.exit(found["state"] != "mounted")
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
                size(found["cache"]["bytes"]) if found.get("cache") else "",
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


def _oldest(found: dict[str, Any]) -> str:
    return "" if found["pending_oldest"] is None else f", the oldest for {found['pending_oldest']:.0f} s"


def _freshness(found: dict[str, Any]) -> str:
    if found["away"] is not None:
        return f", the store is away since {found['away']:.0f} s"
    return "" if found["asked"] is None else f", the store was asked {found['asked']:.1f} s ago"


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
            ("commit", _ref(found) + _freshness(found)),
            ("mounted since", moment(found["since"])),
            ("process", str(found["pid"])),
            ("pending", _pending(found) + _oldest(found)),
            ("open files", str(found["open_files"])),
            ("read", f"{size(found['read_bytes'])}, written {size(found['written_bytes'])}"),
            (
                "fetched",
                f"{counted(found['fetched_chunks'], 'chunk')}, {size(found['fetched_bytes'])}; {found['fetching']} on "
                f"their way, {counted(found['uploading'], 'file')} going up",
            ),
            ("hits", "" if found["hit_ratio"] is None else f"{100 * found['hit_ratio']:.1f} % of bytes were here"),
            (
                "cache",
                f"{size(cache['bytes'])} of {size(cache['limit'])} in {found['cache_directory']}"
                if cache is not None
                else f"{found['cache_directory']} cannot be used",
            ),
            ("session", f"{found['session']} ({found['session_reason']})"),
            ("kernel limits", "raised" if found["kernel_limits_raised"] else "the kernel's default"),
            ("errors", str(found["errors"]) + (f" (last: {found['last_error']})" if found["last_error"] else "")),
        ]
    )
