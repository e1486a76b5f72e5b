"""zstd frames (RFC 8878) with their content size."""

from __future__ import annotations

import threading
from typing import Final

import zstandard

from modelfs.errors import CorruptError

_LEVEL: Final = 1  # higher levels save under 1 % more on weights
_LEVEL_SMALL: Final = 9  # for what is not weights, when size is all that counts

_own: Final = threading.local()  # a decompressor must not be shared between threads, and is dear to make


def compressor(*, small: bool = False) -> zstandard.ZstdCompressor:
    """For one thread. Making one is cheap beside a chunk."""
    level = _LEVEL_SMALL if small else _LEVEL
    return zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)


def compress(plain: bytes | bytearray | memoryview, *, small: bool = False) -> bytes:
    """The frame."""
    return compressor(small=small).compress(plain)


def decompress(payload: memoryview, length: int) -> bytes:
    """``length`` bytes, or CorruptError. The frame's own claim is checked before anything is allocated for it."""
    try:
        claimed = zstandard.frame_content_size(payload)
        if claimed != length:
            raise CorruptError(f"its zstd frame claims {claimed} bytes, not {length}")
        found = getattr(_own, "decompressor", None)
        if found is None:
            found = _own.decompressor = zstandard.ZstdDecompressor()
        plain: bytes = found.decompress(payload, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptError(f"its zstd frame is damaged: {error}") from error
    if len(plain) != length:
        raise CorruptError(f"its zstd frame holds {len(plain)} bytes, not {length}")
    return plain
