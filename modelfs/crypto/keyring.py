"""The keys of an encrypted store: one for ids, which never changes, and one for data in each epoch.

A new epoch has a key that does not follow from the earlier ones, so who knew those cannot read what is sealed after.
The keyring lies in format.json, sealed under a random master key that the slots wrap.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from modelfs import limits
from modelfs.crypto import blob
from modelfs.crypto.kdf import KEY_LENGTH, expand
from modelfs.errors import UsageError

_INFO = b"modelfs keyring"


@dataclass(frozen=True, slots=True)
class Keyring:
    """``data_keys``: of the epochs 1, 2, …; the last one seals what is new. No key shows in a repr."""

    id_key: bytes = field(repr=False)
    data_keys: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def new(cls) -> Keyring:
        """Random keys, epoch 1."""
        return cls(secrets.token_bytes(KEY_LENGTH), (secrets.token_bytes(KEY_LENGTH),))

    @property
    def epoch(self) -> int:
        """Number of the newest epoch."""
        return len(self.data_keys)

    def rotated(self) -> Keyring:
        """With one more epoch. UsageError when there is no room."""
        if self.epoch >= limits.EPOCHS_MAX:
            raise UsageError(f"the store has had {self.epoch} data keys, and no more fit")
        return Keyring(self.id_key, (*self.data_keys, secrets.token_bytes(KEY_LENGTH)))

    def seal(self, master: bytes, context: bytes) -> str:
        """What format.json says, in hex. ``context``: all else that it says."""
        return blob.seal(expand(master, _INFO, KEY_LENGTH), self.id_key + b"".join(self.data_keys), context).hex()

    @classmethod
    def unseal(cls, master: bytes, sealed: str, context: bytes) -> Keyring:
        """The inverse of `seal`. ValueError when anything is not as it was sealed."""
        plain = blob.unseal(expand(master, _INFO, KEY_LENGTH), bytes.fromhex(sealed), context)
        keys = tuple(plain[at : at + KEY_LENGTH] for at in range(0, len(plain), KEY_LENGTH))
        if len(plain) % KEY_LENGTH or len(keys) < 2:
            raise ValueError("it holds no keys")
        return cls(keys[0], keys[1:])
