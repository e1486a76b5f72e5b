"""``modelfs init``: make a store."""

from __future__ import annotations

import click

from modelfs.cli.access import given_secret, new_secret, secret_options
from modelfs.cli.options import located
from modelfs.cli.output import json_option, note, print_json
from modelfs.codecs import Compression
from modelfs.config import seen_directory
from modelfs.errors import UsageError
from modelfs.repository.access import Access
from modelfs.repository.keys import COMMITS, FORMAT_KEY
from modelfs.repository.keyslots import encrypted
from modelfs.repository.repository import Format, Repository
from modelfs.store.base import Store
from modelfs.store.lease import Lease
from modelfs.store.open import open_store
from modelfs.store.probe import probe_exclusive_put


@click.command("init")
@click.argument("store")
@click.option(
    "--compression",
    type=click.Choice([level.value for level in Compression]),
    default=Compression.BALANCED.value,
    show_default=True,
    help="What chunks are packed for: small takes the most time, fast hardly any.",
)
@click.option("--single-writer", is_flag=True, help="Accept a store that lets two writers create one object.")
@click.option("--encrypt", is_flag=True, help="Seal everything, with a passphrase or a key file.")
@secret_options
@json_option
def command(store: str, compression: str, single_writer: bool, encrypt: bool, as_json: bool) -> None:
    """Make a store at STORE: a directory, or a URL such as s3://bucket/prefix.

    \b
    modelfs init /srv/models
    modelfs init s3://checkpoints/team-a --compression small
    modelfs init sftp://me@nas/volume1/models
    modelfs init s3://checkpoints/team-b --encrypt --passphrase-file ~/.config/modelfs/team-b

    With --encrypt there is no way back to the data without the passphrase or key: keep it, and a copy of format.json.
    """
    made, keys = Format(compression=Compression(compression)), None
    url = located(store)
    secret = given_secret()
    if encrypt:
        made, keys = encrypted(made, secret or new_secret(), "first")
    elif secret is not None:
        raise UsageError("a passphrase or key is given, but not --encrypt")
    opened = open_store(url, create=True)
    draft = Repository(opened, made, keys)
    lease = Lease(draft.store) if single_writer else None
    try:
        if not opened.properties.writable:
            raise UsageError(f"{opened.url} cannot be written")
        _check_empty(opened)
        if lease is not None:
            note(f"{opened.url}: not probed; it must never have two writers at once")
            lease.acquire()
        else:
            probe_exclusive_put(draft.store)
        try:
            repo = Repository.create(opened, made, keys, Access(seen=seen_directory))
        finally:
            if lease is not None:
                lease.release()
    finally:
        opened.close()
    if as_json:
        print_json({"store": opened.url, "id": repo.format.id, "version": repo.format.version, "encrypted": encrypt})
    else:
        click.echo(f"made {'an encrypted' if encrypt else 'a'} store at {opened.url} (id {repo.format.id})")


def _check_empty(store: Store) -> None:
    """Refuse to spread a store among files that are not modelfs's."""
    if store.size(FORMAT_KEY) is not None:
        raise UsageError(f"there is a modelfs store at {store.url} already")
    foreign = next((found.key for found in store.list("") if not found.key.startswith((COMMITS, "probe/"))), None)
    if foreign is not None:
        raise UsageError(f"{store.url} is not empty (it has {foreign!r}); give the store a place of its own")
