"""Which codec pays for a chunk, from a sample of it.

Rule: a chunk costs its stored bytes over a link and then the time to decode it; the codec with the lowest cost for
the sample is taken. How slow the link is that a store is tuned for is its *compression*: the slower, the more decoding
a saved byte may cost. Decoding speeds are those of one core of the machine that docs/decisions.md names; only their
proportions matter.

    none      nothing is packed
    fast      a link of 1 GB/s: local disks, a fast network
    balanced  250 MB/s
    small     25 MB/s: the store's size is what counts
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from modelfs.codecs import lz4, planes, zstd
from modelfs.codecs.elements import Element

_PIECE: Final = 16 * 1024  # a multiple of every word's width
_PIECES: Final = 4
_SMALLEST: Final = 64
_GUESSED_WIDTHS: Final = (2, 4, 8)
_GB: Final = 1e9


class Codec(IntEnum):
    """Number of a codec in the header byte."""

    RAW = 0
    LZ4 = 1
    ZSTD = 2
    PLANES = 3
    DELTA = 4
    LINK = 5


class Compression(Enum):
    """What a store or a mount is tuned for."""

    NONE = "none"
    FAST = "fast"
    BALANCED = "balanced"
    SMALL = "small"


@dataclass(frozen=True, slots=True)
class Plan:
    """How to encode a chunk. ``width`` and ``packing`` are for `Codec.PLANES`."""

    codec: Codec
    width: int = 1
    packing: planes.Packing = planes.Packing.HUFFMAN


_LINK: Final = {Compression.FAST: 1 * _GB, Compression.BALANCED: 0.25 * _GB, Compression.SMALL: 0.025 * _GB}
_DECODE: Final = {Codec.LZ4: 4 * _GB, Codec.ZSTD: 1.2 * _GB}
_DECODE_PLANES: Final = {planes.Packing.HUFFMAN: 2.5 * _GB, planes.Packing.ZSTD: 1.5 * _GB}
_RAW: Final = Plan(Codec.RAW)


def choose(plain: bytes | bytearray | memoryview, element: Element | None, compression: Compression) -> Plan:
    """The plan with the lowest cost. ``element`` None: the width of a word is found by trying."""
    if compression is Compression.NONE or len(plain) < _SMALLEST:
        return _RAW
    taken = sample(memoryview(plain))
    link = _LINK[compression]

    def cost(packed: int, speed: float) -> float:
        return packed / link + len(taken) / speed

    small = compression is Compression.SMALL
    best, lowest = _RAW, len(taken) / link
    candidates = [
        (Plan(Codec.LZ4), len(lz4.compress(taken)), _DECODE[Codec.LZ4]),
        (Plan(Codec.ZSTD), len(zstd.compress(taken, small=small)), _DECODE[Codec.ZSTD]),
    ]
    for width in (element.width,) if element is not None else _GUESSED_WIDTHS:
        for packing, speed in _DECODE_PLANES.items():
            candidates.append((Plan(Codec.PLANES, width, packing), len(planes.encode(taken, width, packing)), speed))
    for plan, packed, speed in candidates:
        if (found := cost(packed, speed)) < lowest:
            best, lowest = plan, found
    return best


def sample(plain: memoryview) -> bytes:
    """64 KiB from four places, aligned to words; all of a shorter chunk."""
    if len(plain) <= _PIECE * _PIECES:
        return bytes(plain)
    step = (len(plain) - _PIECE) // (_PIECES - 1) // 8 * 8
    return b"".join(plain[i * step : i * step + _PIECE] for i in range(_PIECES))
