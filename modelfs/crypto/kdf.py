"""Key derivation: Argon2id (RFC 9106) for passphrases, HKDF-SHA256 (RFC 5869) for keys that are random already.

The cost of a passphrase comes from format.json, which whoever holds the bucket may have written, so it is bounded
before anything is computed. Callers are `slots` and `objects`.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from msgspec import Meta

from modelfs import limits
from modelfs.errors import UsageError

KEY_LENGTH: Final = 32


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one guess of a passphrase costs."""

    memory_kib: Annotated[int, Meta(ge=limits.ARGON2_MEMORY_MIN, le=limits.ARGON2_MEMORY_MAX)]
    iterations: Annotated[int, Meta(ge=1, le=limits.ARGON2_ITERATIONS_MAX)]
    lanes: Annotated[int, Meta(ge=1, le=limits.ARGON2_LANES_MAX)]

    @property
    def work(self) -> int:
        """KiB written: time, in effect. `slots` bounds the sum over all slots."""
        return self.memory_kib * self.iterations


DEFAULT_COST: Final = Cost(limits.ARGON2_MEMORY, limits.ARGON2_ITERATIONS, limits.ARGON2_LANES)


def from_passphrase(passphrase: bytes, salt: bytes, cost: Cost) -> bytes:
    """32 bytes. UsageError when this machine lacks the memory."""
    try:
        return Argon2id(
            salt=salt, length=KEY_LENGTH, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory_kib
        ).derive(passphrase)
    except MemoryError as error:
        raise UsageError(f"the passphrase takes {cost.memory_kib // 1024} MiB of memory to check") from error


def from_key(key: bytes, salt: bytes, info: bytes) -> bytes:
    """32 bytes from a random key of at least 32."""
    return HKDF(SHA256(), KEY_LENGTH, salt, info).derive(key)


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """``length`` bytes that belong to ``info``, from a uniformly random key."""
    return HKDFExpand(SHA256(), length, info).derive(key)
