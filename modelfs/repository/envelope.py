"""The outer layer of every metadata object: one header byte, then msgpack, plain or as one zstd frame.

    0x00  the msgpack bytes follow
    0x01  one zstd frame follows, which declares the size of its content

Used for manifests, tree pages, commits and tags. The last two are not named by their hash, so nothing else would tell
that a bit of them has flipped: they are always a frame, with the checksum that zstd frames can have. `unwrap` looks at
the declared size before anything is decompressed, so that a bomb costs no more than ``META_OBJECT_MAX``.
"""

from __future__ import annotations

from typing import Final

import zstandard

from modelfs import limits

_RAW: Final = 0
_ZSTD: Final = 1
_LEVEL: Final = 3


def wrap(plain: bytes, *, checksum: bool = False) -> bytes:
    """The bytes to store: compressed when that is smaller, or when a checksum is wanted."""
    frame = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True, write_checksum=checksum)
    packed = frame.compress(plain)
    if checksum or len(packed) < len(plain):
        return bytes((_ZSTD,)) + packed
    return bytes((_RAW,)) + plain


def unwrap(stored: bytes | bytearray | memoryview) -> bytes:
    """The msgpack bytes. ValueError when they are damaged or too large."""
    if not stored:
        raise ValueError("no bytes")
    view = memoryview(stored)
    header, payload = view[0], view[1:]
    if header == _RAW:
        if len(payload) > limits.META_OBJECT_MAX:
            raise ValueError(f"{len(payload)} bytes of metadata")
        return bytes(payload)
    if header != _ZSTD:
        raise ValueError(f"unknown header byte {header}")
    try:
        size = zstandard.frame_content_size(payload)
        if not 0 <= size <= limits.META_OBJECT_MAX:
            raise ValueError(f"{size} bytes of metadata" if size > 0 else "no declared size")
        plain = zstandard.ZstdDecompressor().decompress(payload, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    if len(plain) != size:
        raise ValueError(f"{len(plain)} bytes where {size} are declared")
    return plain
