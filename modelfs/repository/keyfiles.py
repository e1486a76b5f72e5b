"""Keys that lie in files of this machine: passphrases, raw keys, signing keys, lists of public keys.

Every size is bounded, every error is one line that names the file and never shows what is in it. A process that has
read one of them writes no core file from then on. The command line and the mount call this.
"""

from __future__ import annotations

import os
from pathlib import Path

from modelfs import limits
from modelfs.config import Secret
from modelfs.crypto.kdf import KEY_LENGTH
from modelfs.crypto.signing import PublicKey, SigningKey
from modelfs.errors import UsageError
from modelfs.process import forbid_core_dumps


def passphrase(content: bytes, where: str) -> Secret:
    """A passphrase as a file or program gives it: without the end of its line."""
    forbid_core_dumps()
    value = content.removesuffix(b"\n").removesuffix(b"\r")
    if not value:
        raise UsageError(f"{where}: the passphrase is empty")
    if len(value) > limits.PASSPHRASE_MAX:
        raise UsageError(f"{where}: a passphrase has {limits.PASSPHRASE_MAX} bytes at most")
    return Secret("passphrase", value)


def read_passphrase(path: Path) -> Secret:
    """The passphrase in a file."""
    forbid_core_dumps()
    return passphrase(_read(path, limits.PASSPHRASE_MAX + 3), str(path))


def read_key(path: Path) -> Secret:
    """The 32 bytes in a key file."""
    forbid_core_dumps()
    value = _read(path, KEY_LENGTH + 1)
    if len(value) != KEY_LENGTH:
        raise UsageError(f"{path}: a key file has {KEY_LENGTH} random bytes (head -c {KEY_LENGTH} /dev/urandom)")
    return Secret("key-file", value)


def read_signing_key(path: Path) -> SigningKey:
    """The key in a file that `write_signing_key` made and that is its owner's alone."""
    forbid_core_dumps()
    text = _read(path, limits.PASSPHRASE_MAX)
    if path.stat().st_mode & 0o077:
        raise UsageError(f"{path}: others can read this signing key (chmod 600)")
    try:
        return SigningKey.parse(text.decode("ascii"))
    except ValueError as error:
        raise UsageError(f"{path}: {'not text' if isinstance(error, UnicodeError) else error}") from error


def write_signing_key(path: Path, key: SigningKey) -> None:
    """A new file with mode 0600."""
    forbid_core_dumps()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(key.text())
        file.flush()
        os.fsync(fd)


def public_keys(word: str) -> tuple[PublicKey, ...]:
    """One public key, or those in a file: one a line, ``#`` begins a comment."""
    if word.startswith("ed25519:"):
        lines, where = [word], word[:80]
    else:
        try:
            text = _read(Path(word), limits.FORMAT_OBJECT_MAX).decode("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{word}: not text") from error
        lines, where = [line.partition("#")[0].strip() for line in text.splitlines()], word
    try:
        found = tuple(PublicKey.parse(line) for line in lines if line)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    if not found:
        raise UsageError(f"{where}: no public key in it")
    return found


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
