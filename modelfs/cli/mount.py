"""``modelfs mount``."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from modelfs import config
from modelfs.assembly.wanted import mount_options
from modelfs.cli.access import mount_secret
from modelfs.cli.options import located, mount_flags, resolved, use_file
from modelfs.cli.output import note
from modelfs.concurrency import first_cause
from modelfs.errors import ModelfsError, UsageError
from modelfs.fuse import daemon
from modelfs.settings import files
from modelfs.settings.resolve import check_together
from modelfs.store.open import redact_url


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of mounts, and directories."""
    given_already = context.params.get(parameter.name or "") or ()
    named = [] if given_already else [CompletionItem(name) for name in files.names() if name.startswith(incomplete)]
    # click's function for bash forgets what it has when it comes to directories: they go first.
    return [CompletionItem(incomplete, type="dir"), *named]


@click.command("mount")
@click.argument("what", nargs=-1, metavar="NAME | STORE MOUNTPOINT", shell_complete=_complete)
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground and log to standard error.")
@click.option("--config", "file", type=click.Path(path_type=Path), metavar="FILE", help="Take what FILE says.")
@mount_flags
def command(what: tuple[str, ...], foreground: bool, file: Path | None) -> None:
    """Mount STORE at MOUNTPOINT, an empty directory, or the mount NAME as its file says. Returns when it answers.

    One argument is a name: of ~/.config/modelfs/NAME.toml, or else /etc/modelfs/NAME.toml. Two are a store and a
    directory; the store can be @NAME, for all that the file says but its mountpoint. What a flag does not say comes
    from the environment (MODELFS_CACHE_SIZE for --cache-size), then from the file: see `modelfs config show`.

    \b
    modelfs mount /srv/models ~/models
    modelfs mount s3://checkpoints/team-a ~/models --cache-size 200GB
    modelfs mount /srv/models ~/release --at v1.2
    modelfs mount s3://checkpoints/team-b ~/models --passphrase-file ~/.config/modelfs/team-b
    modelfs mount team-a
    """
    store, mountpoint = place(what, file)
    chosen = resolved().settings
    check_together(chosen)
    wanted = mount_options(chosen, store, mountpoint.absolute(), mount_secret(store))
    if foreground:
        daemon.setup_logging(sys.stderr, debug=wanted.debug)
        try:
            sys.exit(daemon.mount_foreground(wanted))
        except BaseExceptionGroup as failures:
            if isinstance(cause := first_cause(failures), ModelfsError):
                raise cause from failures
            raise
    if wanted.single_writer:
        note(f"{redact_url(store)} is written under a lease; a second writer without one would damage its history")
    daemon.mount_background(wanted)
    log = wanted.log_file or config.mount_log(mountpoint)
    click.echo(f"{redact_url(store)} is mounted at {mountpoint} (log: {log})")


def place(what: tuple[str, ...], file: Path | None) -> tuple[str, Path]:
    """Store and mount point that the arguments, or the file that they name, say. The file counts from now on."""
    if len(what) > 2:
        raise UsageError("a name, or a store and a directory, are expected")
    if len(what) == 1 and file is not None:
        raise UsageError(f"--config {file} says what is mounted: no argument, or a store and a directory")
    if len(what) == 1:
        name = what[0].removeprefix("@")
        if not files.NAME.fullmatch(name):
            raise UsageError(f"where is {redact_url(what[0])[:200]} to be mounted? A directory is expected after it")
        file = files.find(name)
    if file is None and not what:
        raise UsageError("what is to be mounted? A name, or a store and a directory, are expected")
    said = use_file(file.expanduser().absolute()) if file is not None else None
    if len(what) == 2:
        return located(what[0]), Path(what[1]).expanduser()
    assert said is not None
    for key in ("store", "mountpoint"):
        if key not in said.values:
            raise UsageError(f"{said.path}: it has no {key}")
    return str(said.values["store"]), said.values["mountpoint"]
