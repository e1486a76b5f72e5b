"""Links: a chunk whose object says where its bytes lie, as a range of an object outside the store.

This is only the writing and reading of such an object (docs/store-format.md, "Links"). Whether it is followed, and
where to, is decided by `repository.originals`.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from modelfs import limits
from modelfs.codecs.choose import Codec
from modelfs.errors import CorruptError

_SOURCE_LENGTH: Final = 32
_Number = Annotated[int, Meta(ge=0, le=limits.FILE_SIZE_MAX)]


class Link(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """``source``: the id of a source; ``key``: the original below its URL; ``offset``: where the chunk begins in it.

    ``size`` (bytes) and ``mtime_ns`` (0: not known) are of the original when the link was written.
    """

    source: Annotated[bytes, Meta(min_length=_SOURCE_LENGTH, max_length=_SOURCE_LENGTH)]
    key: Annotated[bytes, Meta(min_length=1, max_length=limits.PATH_MAX)]
    offset: _Number
    size: _Number
    mtime_ns: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


def encode(link: Link) -> bytes:
    """The encoded chunk."""
    return bytes((Codec.LINK,)) + msgspec.msgpack.encode(link)


def is_link(encoded: bytes | bytearray | memoryview) -> bool:
    """True for an encoded chunk that is a link; its first byte is enough."""
    return len(encoded) > 0 and encoded[0] == Codec.LINK


def decode(encoded: bytes | bytearray | memoryview) -> Link:
    """The link that an encoded chunk is. CorruptError."""
    if len(encoded) > limits.LINK_OBJECT_MAX:
        raise CorruptError(f"its link has {len(encoded)} bytes")
    try:
        return msgspec.msgpack.decode(memoryview(encoded)[1:], type=Link)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CorruptError(f"its link is damaged: {error}") from error
