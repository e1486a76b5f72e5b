"""Where what opens an encrypted store comes from: a file or a command that options name, or systemd's credentials."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from modelfs import limits
from modelfs.config import Secret
from modelfs.errors import UsageError
from modelfs.repository.keyfiles import passphrase, read_key, read_passphrase
from modelfs.settings.options import Settings

_CREDENTIALS: Final = {"modelfs.passphrase": read_passphrase, "modelfs.key": read_key}


def chosen_secret(chosen: Settings) -> Secret | None:
    """What options or systemd give; None when they give nothing. UsageError."""
    found = read_secret(chosen.passphrase_file, chosen.passphrase_command, chosen.key_file)
    if found is None and (credential := secret_credential()) is not None:
        found = _CREDENTIALS[credential.name](credential)
    return found


def secret_credential() -> Path | None:
    """The file of the credential from which systemd gives a passphrase or key (systemd.exec(5)), if it does."""
    if directory := os.environ.get("CREDENTIALS_DIRECTORY"):
        for name in _CREDENTIALS:
            if (found := Path(directory) / name).exists():
                return found
    return None


def read_secret(passphrase_file: Path | None, passphrase_command: str | None, key_file: Path | None) -> Secret | None:
    """The secret of the first source that is not None. UsageError."""
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
