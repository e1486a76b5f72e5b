"""Encoded chunk = one header byte + payload. `encode` picks the codec, `decode` is bounded by the declared length.

Header byte: low 4 bits the codec (0 raw, 1 lz4 block, 2 zstd frame, 3 byte planes, 4 delta, 5 link), high 4 bits
flags, all 0 in version 1. A reader refuses what it does not know. One module a codec; all of them let go of the GIL.

A delta names the chunk that it builds on, its base, in a fixed head (`DeltaHead`) before its payload. A link (`link`)
names an object outside the store in which the bytes lie.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from modelfs.codecs import delta, link, lz4, planes, zstd
from modelfs.codecs.choose import Codec, Compression, choose, sample
from modelfs.codecs.elements import Element, element_of
from modelfs.codecs.link import Link, is_link
from modelfs.errors import CorruptError

__all__ = [
    "DELTA_HEAD_LENGTH",
    "Codec",
    "Compression",
    "DeltaHead",
    "Element",
    "Link",
    "codec_name",
    "decode",
    "delta_head",
    "delta_pays",
    "element_of",
    "encode",
    "encode_delta",
    "is_link",
]

Buffer = bytes | bytearray | memoryview
_CODEC_BITS: Final = 0x0F
_HOPE: Final = 1.05  # a sample is packed less well than a chunk
_HEAD: Final = struct.Struct("<B32sBHQ")
DELTA_HEAD_LENGTH: Final = _HEAD.size


@dataclass(frozen=True, slots=True)
class DeltaHead:
    """What an encoded delta says before its payload.

    ``age``: how many versions since the base, this one counted. ``series``: stored bytes of the base and of those
    versions; with ``age`` it tells a writer when a new base pays.
    """

    base: bytes
    element: Element
    age: int
    series: int


def encode(plain: Buffer, element: Element | None = None, compression: Compression = Compression.BALANCED) -> bytes:
    """The encoded chunk. Never longer than the plain bytes plus one."""
    plan = choose(plain, element, compression)
    if plan.codec is Codec.LZ4:
        payload = lz4.compress(plain)
    elif plan.codec is Codec.ZSTD:
        payload = zstd.compress(plain, small=compression is Compression.SMALL)
    elif plan.codec is Codec.PLANES:
        payload = planes.encode(plain, plan.width, plan.packing)
    else:
        payload = b""
    if plan.codec is Codec.RAW or len(payload) >= len(plain):
        return b"".join((bytes((Codec.RAW,)), plain))
    return b"".join((bytes((plan.codec,)), payload))


def encode_delta(plain: Buffer, base: Buffer, before: DeltaHead) -> bytes:
    """The chunk as its differences to ``base``, which has the same length, a multiple of the element's width.

    ``before``: the head, but for the bytes of this version, which are added to its ``series``.
    """
    payload = delta.encode(plain, base, before.element)
    series = before.series + DELTA_HEAD_LENGTH + len(payload)
    return _HEAD.pack(Codec.DELTA, before.base, before.element, min(before.age, 0xFFFF), series) + payload


def delta_pays(plain: Buffer, base: Buffer, element: Element, worth: int) -> bool:
    """Whether a sample lets hope for a delta of less than ``worth`` bytes."""
    ours, theirs = sample(memoryview(plain)), sample(memoryview(base))
    return len(delta.encode(ours, theirs, element)) * len(plain) < worth * len(ours) * _HOPE


def delta_head(encoded: Buffer) -> DeltaHead | None:
    """The head of an encoded chunk that is a delta (its first `DELTA_HEAD_LENGTH` bytes are enough), else None."""
    if not encoded or encoded[0] != Codec.DELTA:
        return None
    try:
        _, base, element, age, series = _HEAD.unpack_from(encoded)
        return DeltaHead(base, Element(element), age, series)
    except (struct.error, ValueError) as error:
        raise CorruptError("the head of its delta is damaged") from error


def decode(
    encoded: Buffer,
    length: int,
    read_base: Callable[[bytes], Buffer] | None = None,
    follow: Callable[[Link], Buffer] | None = None,
) -> Buffer:
    """Exactly ``length`` plain bytes, or CorruptError. Allocates no more than a few times that, whatever the payload
    claims. ``read_base`` gives the ``length`` plain bytes of a delta's base, ``follow`` those that a link names;
    without them a delta, a link is refused."""
    view = memoryview(encoded)
    if not view:
        raise CorruptError("it is empty")
    header, payload = view[0], view[1:]
    if header & ~_CODEC_BITS:
        raise CorruptError(f"it has flags that this modelfs does not know ({header:#04x})")
    if header == Codec.RAW:
        plain: Buffer = payload
    elif header == Codec.LZ4:
        plain = lz4.decompress(payload, length)
    elif header == Codec.ZSTD:
        plain = zstd.decompress(payload, length)
    elif header == Codec.PLANES:
        plain = planes.decode(payload, length)
    elif header == Codec.DELTA:
        plain = _decode_delta(view, length, read_base)
    elif header == Codec.LINK:
        if follow is None:
            raise CorruptError("it is a link where none may be")
        plain = follow(link.decode(view))
    else:
        raise CorruptError(f"it has a codec that this modelfs does not know ({header})")
    if len(plain) != length:
        raise CorruptError(f"it holds {len(plain)} bytes, not {length}")
    return plain


def _decode_delta(view: memoryview, length: int, read_base: Callable[[bytes], Buffer] | None) -> memoryview:
    head = delta_head(view)
    if head is None or read_base is None:
        raise CorruptError("it is a delta where none may be")
    return delta.decode(view[DELTA_HEAD_LENGTH:], read_base(head.base), head.element, length)


def codec_name(encoded: Buffer) -> str:
    """Name of the codec of an encoded chunk, for people: "raw", "lz4", …, or "unknown"."""
    try:
        return Codec(encoded[0] & _CODEC_BITS).name.lower()
    except (IndexError, ValueError):
        return "unknown"
