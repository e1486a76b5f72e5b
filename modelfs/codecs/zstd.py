"""zstd frames (RFC 8878) with their content size. Level 1: higher levels save under 1 % more on weights."""

from __future__ import annotations

from typing import Final

import zstandard

from modelfs.errors import CorruptError

_LEVEL: Final = 1


def compress(plain: bytes | bytearray | memoryview) -> bytes:
    """The frame."""
    # A compressor must not be shared between threads; making one is cheap beside a chunk.
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False, write_content_size=True).compress(plain)


def decompress(payload: memoryview, length: int) -> bytes:
    """``length`` bytes, or CorruptError. The frame's own claim is checked before anything is allocated for it."""
    try:
        claimed = zstandard.get_frame_parameters(payload).content_size
        if claimed != length:
            raise CorruptError(f"its zstd frame claims {claimed} bytes, not {length}")
        return zstandard.ZstdDecompressor().decompress(payload, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptError(f"its zstd frame is damaged: {error}") from error
