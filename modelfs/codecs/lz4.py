"""lz4 block format (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md), without a size in front."""

from __future__ import annotations

import lz4.block

from modelfs.errors import CorruptError


def compress(plain: bytes | bytearray | memoryview) -> bytes:
    """The block."""
    return bytes(lz4.block.compress(plain, store_size=False))


def decompress(payload: memoryview, length: int) -> bytes:
    """At most ``length`` bytes, or CorruptError."""
    try:
        return bytes(lz4.block.decompress(payload, uncompressed_size=length))
    except (lz4.block.LZ4BlockError, ValueError) as error:
        raise CorruptError(f"its lz4 block is damaged: {error}") from error
