"""``modelfs key``: ls, add, rm, rotate, sign-init."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from modelfs.cli.access import new_secret, secret_options
from modelfs.cli.location import repository, single_writer_option, writing
from modelfs.cli.options import F, located
from modelfs.cli.output import json_option, note, print_json, table
from modelfs.crypto.signing import SigningKey
from modelfs.crypto.slots import Slot
from modelfs.errors import UsageError
from modelfs.repository.format import Format, read_format
from modelfs.repository.keyfiles import read_key, read_passphrase, write_signing_key
from modelfs.repository.keyslots import rotated, unlock, with_slot, without_slot
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

break_lock_option = click.option(
    "--break-lock", is_flag=True, help="A change of the keys died half-way, says the error: go on all the same."
)


@click.group("key", no_args_is_help=True)
def command() -> None:
    """Who can open an encrypted store, and keys that sign history.

    A store has up to 16 key slots, each for one passphrase or key file. docs/security.md says what they protect from.

    \b
    modelfs key ls /srv/models
    modelfs key add /srv/models --name backup --new-key-file backup.key
    modelfs key rotate /srv/models
    """


def _new_options(function: F) -> F:
    for option in (
        click.option(
            "--new-key-file", type=click.Path(path_type=Path), help="The new key is in this file of 32 bytes."
        ),
        click.option("--new-passphrase-command", metavar="COMMAND", help="The new passphrase is what this prints."),
        click.option("--new-passphrase-file", type=click.Path(path_type=Path), help="It is in this file."),
    ):
        function = option(function)
    return function


@command.command("ls")
@click.argument("store")
@json_option
def ls(store: str, as_json: bool) -> None:
    """List the key slots of STORE. It takes no key.

    \b
    modelfs key ls s3://checkpoints/team-a
    """
    opened = open_store(located(store))
    try:
        slots = _slots(read_format(opened), opened.url)
    finally:
        opened.close()
    if as_json:
        print_json([{"id": s.id, "name": s.name, "kind": s.kind, "created": s.created} for s in slots])
    else:
        table(["SLOT", "NAME", "KIND", "CREATED"], [[s.id, s.name, s.kind, s.created] for s in slots])


@command.command("add")
@click.argument("store")
@click.option("--name", required=True, help="What the new slot is called.")
@_new_options
@secret_options
@break_lock_option
@single_writer_option
@json_option
def add(
    store: str,
    name: str,
    new_passphrase_file: Path | None,
    new_passphrase_command: str | None,
    new_key_file: Path | None,
    break_lock: bool,
    single_writer: bool,
    as_json: bool,
) -> None:
    """Let one more passphrase or key file open STORE. It takes one that does already.

    \b
    modelfs key add /srv/models --name anna
    modelfs key add /srv/models --name nightly --new-key-file /etc/modelfs/nightly.key
    """

    def change(repo: Repository) -> Format:
        assert repo.keys is not None
        secret = new_secret((new_passphrase_file, new_passphrase_command, new_key_file))
        return with_slot(repo.format, repo.keys, name, secret)

    made = _change(store, change, break_lock=break_lock, single_writer=single_writer)
    slot = _slots(made, store)[-1]
    if as_json:
        print_json({"id": slot.id, "name": slot.name, "kind": slot.kind, "created": slot.created})
    else:
        click.echo(f"slot {slot.name} ({slot.id}) opens the store")


@command.command("rm")
@click.argument("store")
@click.argument("slot")
@secret_options
@break_lock_option
@single_writer_option
def rm(store: str, slot: str, break_lock: bool, single_writer: bool) -> None:
    """Remove the key slot SLOT (its name or id). The last one cannot be removed.

    Who knows its secret and has a copy of format.json from before can still open the store: rotate the keys, and what
    is written from then on is out of reach.

    \b
    modelfs key rm /srv/models anna
    """

    def change(repo: Repository) -> Format:
        assert repo.keys is not None
        return without_slot(repo.format, repo.keys, slot)

    _change(store, change, break_lock=break_lock, single_writer=single_writer)
    click.echo(f"slot {slot} is gone; `modelfs key rotate` keeps its owner from what will be written")


@command.command("rotate")
@click.argument("store")
@click.option(
    "--keep-passphrase-file", multiple=True, type=click.Path(path_type=Path), help="Keep the slot of this passphrase."
)
@click.option("--keep-key-file", multiple=True, type=click.Path(path_type=Path), help="Keep the slot of this key.")
@click.option("--drop-others", is_flag=True, help="Remove the slots whose secrets are not given.")
@secret_options
@break_lock_option
@single_writer_option
@json_option
def rotate(
    store: str,
    keep_passphrase_file: tuple[Path, ...],
    keep_key_file: tuple[Path, ...],
    drop_others: bool,
    break_lock: bool,
    single_writer: bool,
    as_json: bool,
) -> None:
    """Seal what is written from now on with new keys, which no removed slot gives.

    What is in STORE stays as it is and readable. A slot can only be carried on by who has its secret: give those of
    the others too, or drop them and add them again.

    \b
    modelfs key rotate /srv/models --drop-others
    modelfs key rotate /srv/models --keep-key-file /etc/modelfs/nightly.key
    """

    def change(repo: Repository) -> Format:
        assert repo.keys is not None
        secrets = [*map(read_passphrase, keep_passphrase_file), *map(read_key, keep_key_file)]
        kept = [repo.keys, *(unlock(repo.format, secret, repo.store.url) for secret in secrets)]
        ids = {keys.slot for keys in kept}
        others = [slot.name for slot in _slots(repo.format, store) if slot.id not in ids]
        if others and not drop_others:
            raise UsageError(
                f"the slots {', '.join(others)} cannot be carried on without their secrets: "
                "--keep-passphrase-file, --keep-key-file or --drop-others"
            )
        for name in others:
            note(f"slot {name} is dropped")
        return rotated(repo.format, kept)

    made = _change(store, change, break_lock=break_lock, single_writer=single_writer)
    names = [slot.name for slot in _slots(made, store)]
    if as_json:
        print_json({"slots": names})
    else:
        click.echo(f"what is written from now on is sealed with a new key; slots: {', '.join(names)}")


@command.command("sign-init")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def sign_init(file: Path, as_json: bool) -> None:
    """Make a key that signs commits (--sign-with FILE) and print the public key that verifies them (--verify-with).

    \b
    modelfs key sign-init ~/.config/modelfs/signing.key
    """
    key = SigningKey.new()
    write_signing_key(file.expanduser(), key)
    if as_json:
        print_json({"public": str(key.public), "file": str(file)})
    else:
        click.echo(str(key.public))


def _slots(made: Format, url: str) -> tuple[Slot, ...]:
    if made.encryption is None:
        raise UsageError(f"{url} is not encrypted, so it has no keys")
    return made.encryption.slots


def _change(store: str, change: Callable[[Repository], Format], **how: Any) -> Format:
    """Open the store, compute its new format, write it."""
    with repository(store) as repo:
        _slots(repo.format, repo.store.url)
        with writing(repo, single_writer=how["single_writer"]):
            repo.change_keys(change(repo), break_lock=how["break_lock"])
        return repo.format
