"""Sealed objects: what an encrypted store holds in the place of every object but format.json.

    version: u8 = 1 | epoch: u32, big-endian | nonce: 12 bytes
    head: the first 64 plain bytes (fewer if there are no more), encrypted | tag: 16 bytes
    body: the plain bytes after them, encrypted                            | tag: 16 bytes

AES-256-GCM. The keys of head and body follow from the epoch's data key and the object's key in the store, which says
what it is and which one, so a seal fits one place only; the random nonce makes head and body one object. The head
stands alone so that a codec or the base of a delta can be learnt without fetching 4 MiB.
"""

from __future__ import annotations

import secrets
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from modelfs.crypto import kdf
from modelfs.crypto.blob import NONCE_LENGTH, TAG_LENGTH
from modelfs.crypto.keyring import Keyring
from modelfs.errors import CorruptError

Buffer = bytes | bytearray | memoryview

VERSION: Final = 1
HEAD_LENGTH: Final = 64  # a delta's head is 44
_HEADER: Final = struct.Struct(f">BI{NONCE_LENGTH}s")
OVERHEAD: Final = _HEADER.size + 2 * TAG_LENGTH
PEEK_LENGTH: Final = OVERHEAD + HEAD_LENGTH  # with so many sealed bytes the head is a full one
_AAD: Final = b"modelfs object\n%d\n%d\n%s\n%s\n%s"


class Sealer:
    """Seals and opens the objects of one store. Safe to use from many threads; the ciphers let go of the GIL."""

    def __init__(self, store_id: str, keyring: Keyring) -> None:
        self._store_id = store_id.encode()
        self._keyring = keyring

    @property
    def epoch(self) -> int:
        """The epoch that seals; it and those before it can be opened."""
        return self._keyring.epoch

    def seal(self, key: str, plain: Buffer) -> bytearray:
        """The sealed object for the place ``key``."""
        view = memoryview(plain)
        epoch, nonce = self.epoch, secrets.token_bytes(NONCE_LENGTH)
        head, body = self._ciphers(key, epoch)
        out = bytearray(OVERHEAD + len(view))
        _HEADER.pack_into(out, 0, VERSION, epoch, nonce)
        target, cut = memoryview(out), min(HEAD_LENGTH, len(view))
        middle = _HEADER.size + cut + TAG_LENGTH
        head.encrypt_into(nonce, view[:cut], self._aad(key, epoch, b"head"), target[_HEADER.size : middle])
        body.encrypt_into(nonce, view[cut:], self._aad(key, epoch, b"body"), target[middle:])
        return out

    def open(self, key: str, sealed: Buffer) -> memoryview:
        """The plain bytes. CorruptError unless every byte is as it was sealed, for this place in this store."""
        view = memoryview(sealed)
        epoch, nonce = self._header(key, view)
        length = len(view) - OVERHEAD
        cut = min(HEAD_LENGTH, length)
        head, body = self._ciphers(key, epoch)
        out = memoryview(bytearray(length))
        middle = _HEADER.size + cut + TAG_LENGTH
        try:
            head.decrypt_into(nonce, view[_HEADER.size : middle], self._aad(key, epoch, b"head"), out[:cut])
            body.decrypt_into(nonce, view[middle:], self._aad(key, epoch, b"body"), out[cut:])
        except InvalidTag as error:
            raise _broken(key) from error
        return out

    def open_head(self, key: str, start: Buffer) -> bytes:
        """The first plain bytes, from the first `PEEK_LENGTH` sealed ones (all, if there are fewer)."""
        view = memoryview(start)
        if len(view) < PEEK_LENGTH:
            return bytes(self.open(key, view))
        epoch, nonce = self._header(key, view)
        head, _ = self._ciphers(key, epoch)
        try:
            sealed = view[_HEADER.size : _HEADER.size + HEAD_LENGTH + TAG_LENGTH]
            return head.decrypt(nonce, sealed, self._aad(key, epoch, b"head"))
        except InvalidTag as error:
            raise _broken(key) from error

    def _header(self, key: str, view: memoryview) -> tuple[int, bytes]:
        if len(view) < OVERHEAD:
            raise CorruptError("it is too short for a sealed object", key)
        version, epoch, nonce = _HEADER.unpack_from(view)
        if version != VERSION:
            raise CorruptError("it is not sealed, or by a newer modelfs", key)
        if not 1 <= epoch <= self.epoch:
            raise CorruptError(f"it is sealed with a key of epoch {epoch}, which is not there", key)
        return epoch, nonce

    def _ciphers(self, key: str, epoch: int) -> tuple[AESGCM, AESGCM]:
        both = kdf.expand(self._keyring.data_keys[epoch - 1], b"modelfs object\n" + key.encode(), 2 * kdf.KEY_LENGTH)
        return AESGCM(both[: kdf.KEY_LENGTH]), AESGCM(both[kdf.KEY_LENGTH :])

    def _aad(self, key: str, epoch: int, part: bytes) -> bytes:
        return _AAD % (VERSION, epoch, self._store_id, key.encode(), part)


def epoch_of(sealed: Buffer) -> int:
    """The epoch that a sealed object claims to be of; 0 when it is too short for one. Not authenticated."""
    return int(_HEADER.unpack_from(sealed)[1]) if len(sealed) >= _HEADER.size else 0


def _broken(key: str) -> CorruptError:
    return CorruptError("its seal does not fit: it was changed, or sealed for another place", key)
