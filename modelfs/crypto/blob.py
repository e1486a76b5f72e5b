"""Small secrets under a key: AES-256-GCM (NIST SP 800-38D) with a random nonce in front. Used by `slots`, `keyring`.

nonce: 12 bytes | ciphertext | tag: 16 bytes
"""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_LENGTH: Final = 12
TAG_LENGTH: Final = 16
OVERHEAD: Final = NONCE_LENGTH + TAG_LENGTH


def seal(key: bytes, plain: bytes, context: bytes) -> bytes:
    """``plain`` so that only who has ``key`` and ``context`` can read it, and nobody can change it."""
    nonce = secrets.token_bytes(NONCE_LENGTH)
    return nonce + AESGCM(key).encrypt(nonce, plain, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """The inverse of `seal`. ValueError when key, context or bytes are not those."""
    if len(sealed) < OVERHEAD:
        raise ValueError("it is too short")
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_LENGTH], sealed[NONCE_LENGTH:], context)
    except InvalidTag as error:
        raise ValueError("its seal does not fit") from error
