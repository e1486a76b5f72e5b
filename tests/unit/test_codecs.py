"""Encoded chunks: any bytes survive, nothing hostile gets through or costs more than the declared length."""

from __future__ import annotations

import os
import random
import tracemalloc

import lz4.block
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfs.codecs import codec_name, decode, encode
from modelfs.errors import CorruptError

_plain = st.one_of(
    st.binary(max_size=5000),
    st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=50), st.integers(1, 3000)),
)


@settings(max_examples=300, deadline=None)
@given(_plain)
def test_round_trip(plain: bytes) -> None:
    for buffer in (plain, bytearray(plain), memoryview(plain)):
        encoded = encode(buffer)
        assert bytes(decode(encoded, len(plain))) == plain
        assert len(encoded) <= len(plain) + 1


def test_the_codec_follows_the_bytes() -> None:
    assert codec_name(encode(os.urandom(1 << 20))) == "raw"
    assert codec_name(encode(bytes(range(256)) * 4096)) == "lz4"
    words = " ".join(random.Random(1).choices(["tensor", "weight", "bias", "layer", "norm", "embed"], k=200_000))
    assert codec_name(encode(words.encode())) == "zstd"
    # Compressible at one end only: the sample looks everywhere, and what does not pay stays raw.
    assert codec_name(encode(bytes(1000) + os.urandom(1 << 20))) == "raw"
    assert codec_name(b"") == codec_name(b"\x0f") == "unknown"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 1000))
def test_noise_is_refused_or_has_the_length(encoded: bytes, length: int) -> None:
    try:
        plain = decode(encoded, length)
    except CorruptError:
        return
    assert len(plain) == length


@pytest.mark.parametrize("damage", ["cut", "longer", "flags", "codec"])
@pytest.mark.parametrize("plain", [os.urandom(3000), b"abcd" * 3000, bytes(range(200)) * 30 + os.urandom(900)])
def test_damage_is_found(plain: bytes, damage: str) -> None:
    encoded = encode(plain)
    broken = {
        "cut": encoded[:-1],
        "longer": encoded + b"x",
        "flags": bytes([encoded[0] | 0x80]) + encoded[1:],
        "codec": bytes([0x0E]) + encoded[1:],
    }[damage]
    with pytest.raises(CorruptError):
        decode(broken, len(plain))
    for wrong in (len(plain) - 1, len(plain) + 1):
        with pytest.raises(CorruptError):
            decode(encoded, wrong)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x02" + zstandard.ZstdCompressor(level=19).compress(bytes(200 << 20)),
        b"\x01" + lz4.block.compress(bytes(200 << 20), store_size=False),
    ],
    ids=["zstd", "lz4"],
)
def test_a_bomb_costs_no_more_than_the_declared_length(bomb: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError):
            decode(bomb, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_zstd_frame_that_does_not_say_its_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 5000)
    with pytest.raises(CorruptError):
        decode(b"\x02" + frame, 5000)
