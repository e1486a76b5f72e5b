"""Options that say what opens an encrypted store, who signs and who is trusted; every command that opens one has them.

The flags are those of the table of options (`cli.options`), and `access` makes the `Access` of them, so that a
command needs the decorator and nothing else. A secret comes, in this order, from what a flag names (a file or a
command), what the environment names, what the file of the mount ``@NAME`` names, systemd's credentials, or a person at
a terminal. It is never an argument, and is shown nowhere.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from modelfs import config
from modelfs.assembly.secret import chosen_secret, read_secret
from modelfs.cli.options import flag, flags, resolved
from modelfs.config import Secret
from modelfs.errors import UsageError
from modelfs.repository.access import Access
from modelfs.repository.format import read_format
from modelfs.repository.keyfiles import passphrase, public_keys, read_signing_key
from modelfs.settings.options import SECRETS
from modelfs.store.open import open_store, redact_url

_ACCESS: Final = (*SECRETS, "verify_with", "allow_source", "sign_with")

secret_options: Final = flags(*SECRETS)  # what opens an encrypted store
access_options: Final = flags(*SECRETS, "verify_with", "allow_source")  # that, whose history is believed, and links
sign_option: Final = flag("sign_with")


def given_secret() -> Secret | None:
    """What options, environment, a named mount's file or systemd give; None when they give nothing."""
    return chosen_secret(resolved(SECRETS).settings)


def ask(what: str, *, new: bool = False) -> Secret:
    """A passphrase from the person at the terminal, twice for a ``new`` one."""
    typed: str = click.prompt(f"{what}passphrase", hide_input=True, confirmation_prompt=new, err=True)
    return passphrase(typed.encode("utf-8", "surrogateescape"), "the terminal")


def _ask_for(url: str) -> Secret:
    return ask(f"{url}: ")


def access() -> Access:
    """What this command was given for the store that it opens."""
    chosen = resolved(_ACCESS).settings
    return Access(
        secret=given_secret(),
        ask=_ask_for if sys.stdin.isatty() else None,
        signer=read_signing_key(chosen.sign_with) if chosen.sign_with is not None else None,
        trusted=frozenset(key for word in chosen.verify_with for key in public_keys(word)),
        seen=config.seen_directory,
        sources=chosen.allow_source,
    )


def new_secret(sources: Sequence[Any] = (None, None, None)) -> Secret:
    """The secret for a new key slot. ``sources``: as `read_secret` takes them."""
    if sum(source is not None for source in sources) > 1:
        raise UsageError("a passphrase file, a command or a key file: one of them, please")
    found = read_secret(*sources)
    if found is not None:
        return found
    if not sys.stdin.isatty():
        raise UsageError("no passphrase or key was given, and there is no terminal to ask for one")
    return ask("new ", new=True)


def mount_secret(store_url: str) -> Secret | None:
    """What a mount needs to open its store. A daemon has no terminal, so a person is asked now, if the store is
    encrypted and nothing was given."""
    found = given_secret()
    if found is None and sys.stdin.isatty():
        store = open_store(store_url)
        try:
            encrypted = read_format(store).encryption is not None
        finally:
            store.close()
        found = _ask_for(redact_url(store_url)) if encrypted else None
    return found
