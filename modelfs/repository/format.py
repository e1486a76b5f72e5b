"""format.json: what makes a prefix of an object store a modelfs store.

It is the last object that `Repository.create` writes and the first that `Repository.open` reads. A program refuses
what it does not know: a higher version, another hash, or a field that has no meaning to it. In an encrypted store it
holds the key slots too and is rewritten when they change (`keyslots`); all else in it is sealed along with the keys.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from modelfs import limits
from modelfs.chunking.params import ChunkParams
from modelfs.codecs import Compression
from modelfs.crypto.slots import Encryption
from modelfs.errors import (
    AlreadyExistsError,
    CorruptError,
    FormatVersionError,
    NotAStoreError,
    NotFoundError,
    UsageError,
)
from modelfs.repository.keys import FORMAT_KEY
from modelfs.store.base import Buffer, Store

VERSION: Final = 1
HASH: Final = "blake3-256"
CIPHER: Final = "aes-256-gcm"

_Length = Annotated[int, Meta(ge=1, le=limits.CHUNK_LENGTH_MAX)]


@dataclass(frozen=True, slots=True)
class Format:
    """What a store says about itself. ``id`` is 32 random hex digits, ``created`` RFC 3339 in UTC; ``compression`` is
    what writers pack chunks for unless they are told otherwise, and means nothing to readers."""

    id: str = field(default_factory=lambda: secrets.token_hex(16))
    chunking: ChunkParams = field(default_factory=ChunkParams)
    compression: Compression = Compression.BALANCED
    created: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    version: int = VERSION
    hash: str = HASH
    encryption: Encryption | None = None

    @property
    def context(self) -> bytes:
        """All that format.json says but for the sealed keys: what they are sealed along with."""
        assert self.encryption is not None
        return format_bytes(replace(self, encryption=msgspec.structs.replace(self.encryption, keyring="")))


class _Chunking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    min_size: _Length
    avg_size: _Length
    max_size: _Length
    group_size: _Length


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    format: Literal["modelfs"]
    version: Literal[1]
    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
    hash: Literal["blake3-256"]
    chunking: _Chunking
    compression: Compression
    created: Annotated[str, Meta(max_length=64)]
    encryption: Encryption | None = None


def format_bytes(made: Format) -> bytes:
    """format.json."""
    c = made.chunking
    chunking = _Chunking(c.min_size, c.avg_size, c.max_size, c.group_size)
    file = _File("modelfs", 1, made.id, "blake3-256", chunking, made.compression, made.created, made.encryption)
    return msgspec.json.encode(file)


def write_format(store: Store, made: Format) -> None:
    """Write format.json. UsageError when there is a store already."""
    data = format_bytes(made)
    try:
        store.put_if_absent(FORMAT_KEY, data)
    except AlreadyExistsError as error:
        if store.get(FORMAT_KEY) != data:  # else it was our own, its acknowledgement lost on the way
            raise UsageError(f"there is a modelfs store at {store.url} already") from error


def read_format(store: Store) -> Format:
    """What the store says about itself: NotAStoreError, FormatVersionError, or CorruptError when it makes no sense."""
    try:
        data = store.get(FORMAT_KEY)
    except NotFoundError as error:
        raise NotAStoreError(f"no modelfs store at {store.url} (`modelfs init` makes one)") from error
    return parse_format(store, data)


def parse_format(store: Store, data: Buffer) -> Format:
    """What the bytes of a format.json say. Errors as `read_format`."""
    if len(data) > limits.FORMAT_OBJECT_MAX:
        raise NotAStoreError(f"{FORMAT_KEY} at {store.url} is not modelfs's")
    _check_known(store, data)
    try:
        found = msgspec.json.decode(data, type=_File)
        if found.encryption is not None:
            found.encryption.check()
    except ValueError as error:
        raise CorruptError(f"{FORMAT_KEY} of {store.url} is damaged: {error}", FORMAT_KEY) from error
    c = found.chunking
    if not c.min_size <= c.avg_size <= c.max_size:
        raise CorruptError(f"{FORMAT_KEY} of {store.url} is damaged: chunk sizes out of order", FORMAT_KEY)
    params = ChunkParams(c.min_size, c.avg_size, c.max_size, c.group_size)
    return Format(found.id, params, found.compression, found.created, encryption=found.encryption)


def _check_known(store: Store, data: Buffer) -> None:
    """Say "newer" of a newer store, rather than "damaged"."""
    try:
        found = msgspec.json.decode(data, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAStoreError(f"{FORMAT_KEY} at {store.url} is not modelfs's") from error
    if found.get("format") != "modelfs":
        raise NotAStoreError(f"{FORMAT_KEY} at {store.url} is not modelfs's")
    version = found.get("version")
    if isinstance(version, int) and version > VERSION:
        raise FormatVersionError(
            f"the store at {store.url} has format version {version}; this modelfs knows up to {VERSION}: update it"
        )
    unknown = sorted(found.keys() - {f.name for f in msgspec.structs.fields(_File)})
    encryption = found.get("encryption")
    cipher = encryption.get("cipher", CIPHER) if isinstance(encryption, dict) else CIPHER
    if unknown or found.get("hash", HASH) != HASH or cipher != CIPHER:
        what = f"`{unknown[0][:80]}`" if unknown else "another hash" if cipher == CIPHER else "another cipher"
        raise FormatVersionError(f"the store at {store.url} uses {what}, which this modelfs does not know: update it")
