"""Structs <-> plain msgpack, validated in both directions.

``pack_*`` raise UsageError when asked to write what the format does not allow: they read back what they wrote, so
that one set of rules serves both ways. ``unpack_*`` raise ValueError with the reason; the caller knows the object's
key and makes a CorruptError of it. A tree page is the array ``[level, items]``: level 0 holds entries, higher levels
hold references to the pages below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from modelfs import limits
from modelfs.crypto.signing import PublicKey, Signature
from modelfs.errors import UsageError
from modelfs.repository import checks
from modelfs.repository.objects import Commit, Entry, Manifest, PageRef, SignedCommit, Tag, TensorTable

Item = Entry | PageRef
T = TypeVar("T")

_Bounded = Meta(max_length=limits.TREE_PAGE_MAX)
_encoder: Final = msgspec.msgpack.Encoder()
_manifest: Final = msgspec.msgpack.Decoder(Manifest)
_tensors: Final = msgspec.msgpack.Decoder(TensorTable)
_commit: Final = msgspec.msgpack.Decoder(Commit)
_signed: Final = msgspec.msgpack.Decoder(SignedCommit)
_tag: Final = msgspec.msgpack.Decoder(Tag)
_leaf: Final = msgspec.msgpack.Decoder(tuple[int, Annotated[tuple[Entry, ...], _Bounded]])
_index: Final = msgspec.msgpack.Decoder(tuple[int, Annotated[tuple[PageRef, ...], _Bounded]])


def pack_manifest(manifest: Manifest) -> bytes:
    """Plain bytes of a manifest."""
    return _pack(manifest, unpack_manifest)


def unpack_manifest(plain: bytes) -> Manifest:
    """A manifest that obeys the format."""
    manifest = _decode(_manifest, plain)
    checks.check_manifest(manifest)
    return manifest


def pack_tensors(table: TensorTable) -> bytes:
    """Plain bytes of a tensor table."""
    return _pack(table, unpack_tensors)


def unpack_tensors(plain: bytes) -> TensorTable:
    """A tensor table that obeys the format."""
    table = _decode(_tensors, plain)
    checks.check_tensors(table)
    return table


def pack_commit(commit: Commit) -> bytes:
    """Plain bytes of a commit."""
    return _pack(commit, unpack_commit)


def unpack_commit(plain: bytes) -> Commit:
    """A commit that obeys the format."""
    commit = _decode(_commit, plain)
    checks.check_commit(commit)
    return commit


def pack_signed(plain: bytes, signature: Signature) -> bytes:
    """A commit's plain bytes with their signature."""
    return _encoder.encode(SignedCommit(plain, signature.by.raw, signature.value))


def split_signed(stored: bytes) -> tuple[bytes, Signature | None]:
    """A commit's plain bytes and their signature, if there is one. The signature is not verified."""
    if stored[:1] != b"\x93":  # an array of three; a commit is one of nine
        return stored, None
    found = _decode(_signed, stored)
    return found.commit, Signature(PublicKey(found.key), found.signature)


def pack_tag(tag: Tag) -> bytes:
    """Plain bytes of a tag."""
    return _pack(tag, unpack_tag)


def unpack_tag(plain: bytes) -> Tag:
    """A tag that obeys the format."""
    tag = _decode(_tag, plain)
    checks.check_tag(tag)
    return tag


def pack_page(level: int, items: Sequence[Item]) -> bytes:
    """Plain bytes of a tree page."""
    return _pack((level, items), unpack_page)


def unpack_page(plain: bytes) -> tuple[int, tuple[Item, ...]]:
    """Level and items of a tree page that obeys the format."""
    # The level decides what the items are, so it is read first: an array of two that begins with a small integer.
    if len(plain) < 3 or plain[0] != 0x92 or plain[1] > limits.TREE_INDEX_LEVELS:
        raise ValueError("not a tree page")
    if plain[1]:
        level, refs = _decode(_index, plain)
        checks.check_index(refs)
        return level, refs
    level, entries = _decode(_leaf, plain)
    checks.check_leaf(entries)
    return level, entries


def _decode(decoder: msgspec.msgpack.Decoder[T], plain: bytes) -> T:
    try:
        return decoder.decode(plain)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _pack(value: object, unpack: Callable[[bytes], object]) -> bytes:
    try:
        plain = _encoder.encode(value)
        if len(plain) > limits.META_OBJECT_MAX:
            raise ValueError(f"{len(plain)} bytes of metadata in one object")
        unpack(plain)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"the store format has no room for this: {error}") from error
    return plain
