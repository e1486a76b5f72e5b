"""``modelfs mount``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import click

from modelfs import config, limits
from modelfs.cli.access import access_options, mount_keys, mount_secret, sign_option
from modelfs.cli.location import compression_option
from modelfs.cli.output import note
from modelfs.codecs import Compression
from modelfs.config import MountOptions
from modelfs.errors import UsageError
from modelfs.fuse import daemon
from modelfs.store.open import redact_url

_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY: Final = {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]I?|)B?", re.IGNORECASE)
# What the kernel and fusermount3 know, beside those that mean an option of ours.
_PASSED_ON: Final = frozenset(
    ("nodev", "dev", "nosuid", "suid", "noexec", "exec", "noatime", "atime", "sync", "async", "dirsync", "nonempty")
)
_PASSED_ON_WITH_VALUE: Final = frozenset({"max_read", "fsname", "subtype"})
_IGNORED: Final = frozenset({"rw", "defaults", "_netdev", "auto", "noauto", "nofail", "user", "default_permissions"})


def parse_size(text: str) -> int:
    """ "50GB", "50GiB", "1.5T" or plain bytes -> bytes. UsageError otherwise."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"not a size: {text!r} (such as 50GB or 512MiB)")
    unit = found[2].upper()
    count = float(found[1]) * (_UNITS.get(unit) or _BINARY[unit])
    if count > limits.FILE_SIZE_MAX:
        raise UsageError(f"not a size: {text[:80]!r} (it is larger than any file can be)")
    return int(count)


@click.command("mount")
@click.argument("store")
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground and log to standard error.")
@click.option("--read-only", is_flag=True, help="Mount without the right to write.")
@click.option("--at", metavar="REF", help="Mount history: a tag, BRANCH@NUMBER or commit id. Read-only.")
@click.option("--branch", default="main", show_default=True, help="Branch to mount.")
@click.option(
    "--refresh",
    type=click.FloatRange(min=0),
    default=limits.REFRESH_DEFAULT,
    show_default=True,
    metavar="SECONDS",
    help="How soon changes of others are seen; 0 asks the store at every open.",
)
@click.option("--write-back", is_flag=True, help="close() returns when the bytes are safe on this machine.")
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    default=limits.DRAIN_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="How long the daemon waits for the store when it is told to end.",
)
@click.option(
    "--store-timeout",
    type=click.FloatRange(min=1),
    default=limits.STORE_RETRY_BUDGET,
    show_default=True,
    metavar="SECONDS",
    help="How long a store that does not answer is asked again before that is an error.",
)
@click.option("--cache-dir", type=click.Path(path_type=Path), help="Where chunks are kept on this machine.")
@click.option("--cache-size", default="50GB", show_default=True, help="How much of them.")
@click.option("--allow-other", is_flag=True, help="Let other users in (as their permissions allow).")
@click.option("--uid", type=click.IntRange(min=0), help="Show all files as owned by this user.")
@click.option("--gid", type=click.IntRange(min=0), help="Show all files as owned by this group.")
@click.option("--umask", metavar="OCTAL", help="Take these bits from all modes shown.")
@compression_option
@click.option("--single-writer", is_flag=True, help="Write to a store without exclusive creation, under a lease.")
@access_options
@sign_option
@click.option("-o", "options", multiple=True, metavar="OPTION,…", help="Options as mount(8) writes them.")
@click.option("--log-file", type=click.Path(path_type=Path), help="Log of a mount in the background.")
@click.option("--debug", is_flag=True, help="Log more.")
def command(
    store: str,
    mountpoint: Path,
    foreground: bool,
    read_only: bool,
    at: str | None,
    branch: str,
    refresh: float,
    write_back: bool,
    drain_timeout: float,
    store_timeout: float,
    cache_dir: Path | None,
    cache_size: str,
    allow_other: bool,
    uid: int | None,
    gid: int | None,
    umask: str | None,
    compression: Compression | None,
    single_writer: bool,
    options: tuple[str, ...],
    log_file: Path | None,
    debug: bool,
) -> None:
    """Mount STORE at MOUNTPOINT, an empty directory. Returns when the mount answers.

    \b
    modelfs mount /srv/models ~/models
    modelfs mount s3://checkpoints/team-a ~/models --cache-size 200GB
    modelfs mount /srv/models ~/release --at v1.2
    modelfs mount s3://checkpoints/team-b ~/models --passphrase-file ~/.config/modelfs/team-b
    """
    given = _split(options)
    passed = _passed_on(given)
    if at is not None and (write_back or single_writer):
        raise UsageError("--at mounts history, which cannot be written")
    sign_with, verify_with = mount_keys()
    wanted = MountOptions(
        store_url=_absolute(store),
        mountpoint=mountpoint.expanduser().absolute(),
        branch=branch,
        at=at,
        read_only=read_only or "ro" in given,
        refresh=refresh,
        write_back=write_back,
        drain_timeout=drain_timeout,
        store_timeout=store_timeout,
        cache_dir=cache_dir.expanduser().absolute() if cache_dir else None,
        cache_size=parse_size(cache_size),
        allow_other=allow_other or "allow_other" in given,
        uid=uid if uid is not None else _number(given, "uid", 10),
        gid=gid if gid is not None else _number(given, "gid", 10),
        umask=_octal(umask) if umask is not None else _number(given, "umask", 8),
        single_writer=single_writer,
        secret=mount_secret(store),
        sign_with=sign_with,
        verify_with=verify_with,
        compression=compression.value if compression is not None else None,
        fuse_options=passed,
        log_file=log_file.expanduser().absolute() if log_file else None,
        debug=debug,
    )
    if foreground:
        daemon.setup_logging(sys.stderr, debug=debug)
        sys.exit(daemon.mount_foreground(wanted))
    if single_writer:
        note(f"{redact_url(store)} is written under a lease; a second writer without one would damage its history")
    daemon.mount_background(wanted)
    click.echo(f"{redact_url(store)} is mounted at {mountpoint} (log: {log_file or config.mount_log(mountpoint)})")


def _absolute(store: str) -> str:
    """A plain path must not depend on the daemon's working directory."""
    return store if "://" in store else str(Path(store).expanduser().absolute())


def _split(options: tuple[str, ...]) -> dict[str, str]:
    """``-o a,b=c -o d`` -> names and values."""
    pairs = (word.partition("=") for group in options for word in group.split(",") if word)
    return {name: value for name, _, value in pairs}


def _passed_on(given: dict[str, str]) -> tuple[str, ...]:
    ours = {"ro", "allow_other", "uid", "gid", "umask"}
    passed = []
    for name, value in given.items():
        if name in _PASSED_ON:
            passed.append(name)
        elif name in _PASSED_ON_WITH_VALUE and value:
            passed.append(f"{name}={value}")
        elif name not in ours and name not in _IGNORED and not name.startswith("x-"):
            raise UsageError(f"unknown mount option {name!r}")
    return tuple(passed)


def _number(given: dict[str, str], name: str, base: int) -> int | None:
    if name not in given:
        return None
    try:
        return int(given[name], base)
    except ValueError as error:
        raise UsageError(f"-o {name}: not a number: {given[name]!r}") from error


def _octal(text: str) -> int:
    try:
        value = int(text, 8)
    except ValueError:
        value = -1
    if not 0 <= value <= 0o777:
        raise UsageError(f"--umask: not an octal mode: {text!r}")
    return value
