"""Byte planes: the first bytes of all words, then all second bytes, …, each packed for itself.

The bytes of a floating-point number that hold its exponent repeat, those of its mantissa do not: apart from each
other the former shrink and the latter need no decoding. Payload, integers little-endian:

    u8                  width of a word in bytes: 1, 2, 4 or 8
    u32 × planes        stored length of each plane: block by block (1 MiB of plain bytes, the last shorter), in a
                        block from the lowest byte of a word to the highest
    …                   the planes: as they are when the stored length is the plain length, else one zstd frame each
    …                   the last (length mod width) plain bytes

"Huffman" packing is zstd kept to its entropy stage (strategy fast, long minimum match, tiny tables); any zstd reads
it. Measured in docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Final

import numpy as np
import numpy.typing as npt
import zstandard

from modelfs.codecs import zstd
from modelfs.codecs.elements import Words, empty, words
from modelfs.errors import CorruptError

BLOCK: Final = 1024 * 1024
_WORTH: Final = 0.98  # a plane that shrinks less is stored as it is
_LENGTH: Final = np.dtype("<u4")

Plane = npt.NDArray[np.uint8]


class Packing(Enum):
    """How planes are packed."""

    HUFFMAN = "huffman"
    ZSTD = "zstd"


_HUFFMAN: Final = zstandard.ZstdCompressionParameters.from_level(
    1, strategy=zstandard.STRATEGY_FAST, min_match=7, hash_log=6, window_log=17, write_content_size=1, write_checksum=0
)


def encode(plain: bytes | bytearray | memoryview, width: int, packing: Packing) -> bytes:
    """The payload."""
    rest = memoryview(plain)[len(plain) - len(plain) % width :]
    return encode_words(words(plain, width), packing, bytes(rest))


def encode_words(values: Words, packing: Packing, rest: bytes = b"") -> bytes:
    """The payload of an array of words."""
    width = values.dtype.itemsize
    if packing is Packing.HUFFMAN:
        compressor = zstandard.ZstdCompressor(compression_params=_HUFFMAN)
    else:
        compressor = zstd.compressor()
    parts: list[bytes | memoryview] = []
    for block in _blocks(len(values), width):
        for plane in range(width):
            data = (values[block] >> (8 * plane)).astype(np.uint8).data
            packed = compressor.compress(data)
            parts.append(packed if len(packed) < _WORTH * len(data) else data)
    lengths = np.fromiter(map(len, parts), dtype=_LENGTH, count=len(parts))
    return b"".join((bytes((width,)), lengths.tobytes(), *parts, rest))


def decode(payload: memoryview, length: int) -> memoryview:
    """Exactly ``length`` bytes, or CorruptError."""
    values, rest = decode_words(payload, length)
    if not rest:
        return values.view(np.uint8).data
    return memoryview(values.tobytes() + rest)


def decode_words(payload: memoryview, length: int) -> tuple[Words, bytes]:
    """The words of ``length`` plain bytes, and the bytes behind the last whole one; or CorruptError."""
    width = payload[0] if payload else 0
    if width not in (1, 2, 4, 8):
        raise CorruptError(f"its words have {width} bytes")
    count = length // width
    blocks = list(_blocks(count, width))
    head = 1 + len(blocks) * width * _LENGTH.itemsize
    if len(payload) < head:
        raise CorruptError("its planes are cut off")
    lengths = np.frombuffer(payload[1:head], dtype=_LENGTH).tolist()
    rest = length - count * width
    if head + sum(lengths) + rest != len(payload):
        raise CorruptError("the lengths of its planes do not add up")
    out = empty(count, width)
    at = head
    for i, block in enumerate(blocks):
        planes = []
        for stored in lengths[i * width : (i + 1) * width]:
            planes.append(_unpack(payload[at : at + stored], block.stop - block.start))
            at += stored
        _join(planes, out[block])
    return out, bytes(payload[at:])


def _blocks(count: int, width: int) -> Iterator[slice]:
    step = BLOCK // width
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _unpack(stored: memoryview, length: int) -> Plane:
    data = stored if len(stored) == length else zstd.decompress(stored, length)
    return np.frombuffer(data, dtype=np.uint8)


def _join(planes: list[Plane], out: Words) -> None:
    """The words whose bytes are the planes.

    A whole block at a time: shorter pieces would be no faster, and each call of NumPy is one more fight for the GIL.
    """
    highest, *lower = reversed(planes)
    values: Plane | Words = highest
    for plane in lower:
        np.left_shift(values, 8, out=out, dtype=out.dtype)
        np.bitwise_or(out, plane, out=out)
        values = out
    if not lower:
        out[:] = highest
