"""Options that say what opens an encrypted store, who signs and who is trusted; every command that opens one has them.

The options put what they were given into click's context, and `access` makes the `Access` of it, so that a command
needs the decorator and nothing else. A secret comes, in this order, from an option, ``MODELFS_PASSPHRASE_FILE`` or
``MODELFS_KEY_FILE``, systemd's credentials, or a person at a terminal. It is never an argument, and is shown nowhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from modelfs import config, limits
from modelfs.config import Secret
from modelfs.errors import UsageError
from modelfs.repository.access import Access
from modelfs.repository.format import read_format
from modelfs.repository.keyfiles import passphrase, public_keys, read_key, read_passphrase, read_signing_key
from modelfs.store.open import open_store, redact_url

F = TypeVar("F", bound=Callable[..., Any])

_META: Final = "modelfs.access."
_SOURCES: Final = ("passphrase_file", "passphrase_command", "key_file")


def _kept(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    context.meta[f"{_META}{parameter.name}"] = value


def _option(*names: str, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_kept, **settings)


def secret_options(function: F) -> F:
    """What opens an encrypted store."""
    for option in (
        _option("--key-file", type=click.Path(path_type=Path), help="Its key is in this file of 32 bytes."),
        _option("--passphrase-command", metavar="COMMAND", help="Its passphrase is what this prints."),
        _option("--passphrase-file", type=click.Path(path_type=Path), help="Its passphrase is in this file."),
    ):
        function = option(function)
    return function


def access_options(function: F) -> F:
    """`secret_options`, and whose history is believed."""
    trusted = _option(
        "--verify-with",
        multiple=True,
        metavar="KEY",
        help="Refuse history that this public key (or one in this file) did not sign.",
    )
    return secret_options(trusted(function))


sign_option: Final = _option(
    "--sign-with", type=click.Path(path_type=Path), help="Sign commits with the key in this file."
)


def _given(name: str) -> Any:
    return click.get_current_context().meta.get(f"{_META}{name}")


def given_secret() -> Secret | None:
    """What the options, the environment or systemd give; None when they give nothing."""
    chosen = [name for name in _SOURCES if _given(name) is not None]
    if len(chosen) > 1:
        raise UsageError(" and ".join(f"--{name.replace('_', '-')}" for name in chosen) + ": one of them, please")
    if chosen:
        return read_secret(*(_given(name) for name in _SOURCES))
    if path := os.environ.get("MODELFS_PASSPHRASE_FILE"):
        return read_passphrase(Path(path))
    if path := os.environ.get("MODELFS_KEY_FILE"):
        return read_key(Path(path))
    if directory := os.environ.get("CREDENTIALS_DIRECTORY"):
        for name, read in (("modelfs.passphrase", read_passphrase), ("modelfs.key", read_key)):
            if (found := Path(directory) / name).exists():
                return read(found)
    return None


def read_secret(passphrase_file: Path | None, passphrase_command: str | None, key_file: Path | None) -> Secret | None:
    """The secret of the first source that is not None."""
    if passphrase_file is not None:
        return read_passphrase(passphrase_file.expanduser())
    if passphrase_command is not None:
        return _run(passphrase_command)
    return read_key(key_file.expanduser()) if key_file is not None else None


def _run(command: str) -> Secret:
    try:
        done = subprocess.run(
            command, shell=True, stdout=subprocess.PIPE, timeout=limits.PASSPHRASE_COMMAND_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise UsageError("--passphrase-command did not end in time") from None  # its text holds what was printed
    if done.returncode:
        raise UsageError(f"--passphrase-command failed (exit code {done.returncode})")
    return passphrase(done.stdout, "--passphrase-command")


def ask(what: str, *, new: bool = False) -> Secret:
    """A passphrase from the person at the terminal, twice for a ``new`` one."""
    typed: str = click.prompt(f"{what}passphrase", hide_input=True, confirmation_prompt=new, err=True)
    return passphrase(typed.encode("utf-8", "surrogateescape"), "the terminal")


def _ask_for(url: str) -> Secret:
    return ask(f"{url}: ")


def access() -> Access:
    """What this command was given for the store that it opens."""
    sign_with = _given("sign_with")
    return Access(
        secret=given_secret(),
        ask=_ask_for if sys.stdin.isatty() else None,
        signer=read_signing_key(sign_with.expanduser()) if sign_with is not None else None,
        trusted=frozenset(key for word in _given("verify_with") or () for key in public_keys(word)),
        seen=config.seen_directory,
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


def mount_keys() -> tuple[Path | None, tuple[str, ...]]:
    """The file of the signing key, and the public keys that are trusted."""
    sign_with: Path | None = _given("sign_with")
    trusted = tuple(str(key) for word in _given("verify_with") or () for key in public_keys(word))
    return (sign_with.expanduser().absolute() if sign_with is not None else None), trusted
