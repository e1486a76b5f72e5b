"""Ed25519 signatures (RFC 8032) and the text form of their keys.

    ed25519:<64 hex digits>          a public key, for who verifies
    ed25519-secret:<64 hex digits>   the key that signs; its file is for its owner only

`Signature` is what a signed commit carries beside its bytes. What is signed is the caller's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_PUBLIC: Final = re.compile(r"ed25519:([0-9a-f]{64})")
_SECRET: Final = re.compile(r"ed25519-secret:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Who signed. ``raw``: 32 bytes."""

    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """ValueError when ``text`` is none."""
        found = _PUBLIC.fullmatch(text.strip())
        if found is None:
            raise ValueError("not a public key (ed25519: and 64 hex digits)")
        return cls(bytes.fromhex(found[1]))

    def __str__(self) -> str:
        return f"ed25519:{self.raw.hex()}"


@dataclass(frozen=True, slots=True)
class Signature:
    """``value``: 64 bytes by the secret key that belongs to ``by``."""

    by: PublicKey
    value: bytes

    def fits(self, message: bytes) -> bool:
        """True when ``by`` signed ``message``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.by.raw).verify(self.value, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class SigningKey:
    """A secret key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    @classmethod
    def new(cls) -> SigningKey:
        """A random one."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """The key in the text of a key file: its one line that is no comment. ValueError when there is none."""
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        found = _SECRET.fullmatch(lines[0].strip()) if len(lines) == 1 else None
        if found is None:
            raise ValueError("not a signing key (`modelfs key sign-init` makes one)")
        return cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(found[1])))

    def text(self) -> str:
        """What goes into the key file."""
        secret = self._key.private_bytes_raw().hex()
        return f"# modelfs signing key; public key {self.public}\ned25519-secret:{secret}\n"

    def sign(self, message: bytes) -> Signature:
        """Sign ``message``."""
        return Signature(self.public, self._key.sign(message))
