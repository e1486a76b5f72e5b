"""Key slots: the master key of a store, wrapped under a passphrase or the content of a key file.

A slot's own key is derived from the secret and the slot's salt and does not change when the store's keys do, so a
running mount keeps it, not the passphrase, to follow a rotation. These structs are the ``encryption`` member of
format.json; decoding them checks every bound.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from modelfs import limits
from modelfs.config import Secret
from modelfs.crypto import blob, kdf
from modelfs.crypto.kdf import DEFAULT_COST, KEY_LENGTH, Cost

SALT_LENGTH: Final = 16
_WRAPPED: Final = 2 * (KEY_LENGTH + blob.OVERHEAD)
_ID: Final = 8
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Slot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One way to the master key. Byte strings are lower-case hex; ``argon2id`` is there for passphrases alone."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{8}$", max_length=_ID)]
    name: Annotated[str, Meta(pattern=NAME_PATTERN, max_length=64)]
    kind: Literal["passphrase", "key-file"]
    created: Annotated[str, Meta(max_length=64)]
    salt: Annotated[str, Meta(pattern="^[0-9a-f]{32}$", max_length=2 * SALT_LENGTH)]
    wrapped: Annotated[str, Meta(pattern="^[0-9a-f]{120}$", max_length=_WRAPPED)]
    argon2id: Cost | None = None


class Encryption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``encryption`` member of format.json. ``revision`` grows with each change of it."""

    cipher: Literal["aes-256-gcm"]
    revision: Annotated[int, Meta(ge=1, le=limits.FILE_SIZE_MAX)]
    slots: Annotated[tuple[Slot, ...], Meta(min_length=1, max_length=limits.KEY_SLOTS_MAX)]
    keyring: Annotated[str, Meta(pattern="^[0-9a-f]*$", max_length=2 * (blob.OVERHEAD + 32 * (limits.EPOCHS_MAX + 1)))]

    def check(self) -> None:
        """What spans members: ValueError."""
        for slot in self.slots:
            if (slot.kind == "passphrase") != (slot.argon2id is not None):
                raise ValueError(f"slot {slot.id}: argon2id belongs to passphrases, and to all of them")
        if sum(slot.argon2id.work for slot in self.slots if slot.argon2id is not None) > limits.ARGON2_WORK_MAX:
            raise ValueError("trying its passphrases costs more than is accepted")
        if len({slot.id for slot in self.slots}) < len(self.slots):
            raise ValueError("two slots have one id")


def make_slot(name: str, secret: Secret, master: bytes, store_id: str, cost: Cost = DEFAULT_COST) -> tuple[Slot, bytes]:
    """A new slot that gives ``master`` for ``secret``, and the slot's own key."""
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    salt = secrets.token_hex(SALT_LENGTH)
    chosen = cost if secret.kind == "passphrase" else None
    slot = Slot(secrets.token_hex(_ID // 2), name, secret.kind, created, salt, "", chosen)
    own = slot_key(slot, secret)
    return rewrapped(slot, own, master, store_id), own


def rewrapped(slot: Slot, own: bytes, master: bytes, store_id: str) -> Slot:
    """The slot, now giving this master key. ``own``: the slot's own key."""
    return msgspec.structs.replace(slot, wrapped=blob.seal(own, master, _context(slot, store_id)).hex())


def slot_key(slot: Slot, secret: Secret) -> bytes:
    """The slot's own key, if the secret is the one it was made for; some other 32 bytes if not."""
    salt = bytes.fromhex(slot.salt)
    if slot.argon2id is not None:
        return kdf.from_passphrase(secret.value, salt, slot.argon2id)
    return kdf.from_key(secret.value, salt, b"modelfs key file")


def unwrap(slot: Slot, own: bytes, store_id: str) -> bytes | None:
    """The master key; None when ``own`` is not the slot's key or the slot was tampered with."""
    try:
        return blob.unseal(own, bytes.fromhex(slot.wrapped), _context(slot, store_id))
    except ValueError:
        return None


def _context(slot: Slot, store_id: str) -> bytes:
    return f"modelfs slot\n{store_id}\n{slot.id}\n{slot.kind}".encode()
