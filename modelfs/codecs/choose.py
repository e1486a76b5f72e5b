"""Which codec pays for a chunk, from a sample of it.

Rule: zstd must save at least 3 % of the sample, else the chunk stays raw. lz4 decodes several times faster than zstd,
so it is taken when it saves at least 90 % of what zstd saves. 64 KiB in four places cost under 1 % of compressing a
4 MiB chunk and catch chunks whose beginning is not like the rest.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from modelfs.codecs import lz4, zstd

_PIECE: Final = 16 * 1024
_PIECES: Final = 4
_WORTH: Final = 0.03
_LZ4_SHARE: Final = 0.9
_SMALLEST: Final = 64


class Codec(IntEnum):
    """Number of a codec in the header byte."""

    RAW = 0
    LZ4 = 1
    ZSTD = 2


def choose(plain: bytes | bytearray | memoryview) -> Codec:
    """The codec to try."""
    if len(plain) < _SMALLEST:
        return Codec.RAW
    sample = _sample(memoryview(plain))
    saved = 1 - len(zstd.compress(sample)) / len(sample)
    if saved < _WORTH:
        return Codec.RAW
    fast = 1 - len(lz4.compress(sample)) / len(sample)
    return Codec.LZ4 if fast >= _LZ4_SHARE * saved else Codec.ZSTD


def _sample(plain: memoryview) -> bytes:
    if len(plain) <= _PIECE * _PIECES:
        return bytes(plain)
    step = (len(plain) - _PIECE) // (_PIECES - 1)
    return b"".join(plain[i * step : i * step + _PIECE] for i in range(_PIECES))
