"""Encoded chunk = one header byte + payload. `encode` picks the codec, `decode` is bounded by the declared length.

Header byte: low 4 bits the codec (0 raw, 1 lz4 block, 2 zstd frame), high 4 bits flags, all 0 in version 1. A reader
refuses what it does not know. One module a codec; all of them let go of the GIL.
"""

from __future__ import annotations

from typing import Final

from modelfs.codecs import lz4, zstd
from modelfs.codecs.choose import Codec, choose
from modelfs.errors import CorruptError

__all__ = ["Codec", "codec_name", "decode", "encode"]

_CODEC_BITS: Final = 0x0F


def encode(plain: bytes | bytearray | memoryview) -> bytes:
    """The encoded chunk. Never longer than the plain bytes plus one."""
    codec = choose(plain)
    if codec is Codec.LZ4:
        payload = lz4.compress(plain)
    elif codec is Codec.ZSTD:
        payload = zstd.compress(plain)
    else:
        payload = b""
    if codec is Codec.RAW or len(payload) >= len(plain):
        return b"".join((bytes((Codec.RAW,)), plain))
    return b"".join((bytes((codec,)), payload))


def decode(encoded: bytes | bytearray | memoryview, length: int) -> bytes | memoryview:
    """Exactly ``length`` plain bytes, or CorruptError. Allocates no more than that, whatever the payload claims."""
    view = memoryview(encoded)
    if not view:
        raise CorruptError("it is empty")
    header, payload = view[0], view[1:]
    if header & ~_CODEC_BITS:
        raise CorruptError(f"it has flags that this modelfs does not know ({header:#04x})")
    if header == Codec.RAW:
        plain: bytes | memoryview = payload
    elif header == Codec.LZ4:
        plain = lz4.decompress(payload, length)
    elif header == Codec.ZSTD:
        plain = zstd.decompress(payload, length)
    else:
        raise CorruptError(f"it has a codec that this modelfs does not know ({header})")
    if len(plain) != length:
        raise CorruptError(f"it holds {len(plain)} bytes, not {length}")
    return plain


def codec_name(encoded: bytes | bytearray | memoryview) -> str:
    """Name of the codec of an encoded chunk, for people: "raw", "lz4", "zstd" or "unknown"."""
    try:
        return Codec(encoded[0] & _CODEC_BITS).name.lower()
    except (IndexError, ValueError):
        return "unknown"
