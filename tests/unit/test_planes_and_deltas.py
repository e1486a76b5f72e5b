"""Byte planes and deltas: every length and element type comes back, nothing hostile gets through or costs memory."""

from __future__ import annotations

import os
import struct
import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfs.codecs import (
    DELTA_HEAD_LENGTH,
    Codec,
    Compression,
    DeltaHead,
    Element,
    codec_name,
    decode,
    delta_head,
    delta_pays,
    element_of,
    encode,
    encode_delta,
    planes,
)
from modelfs.errors import CorruptError

BASE = b"b" * 32
FLOATS = (Element.BF16, Element.F16, Element.F32, Element.F64)
BLOCK = planes.BLOCK

_elements = st.sampled_from(list(Element))
_seeds = st.integers(0, 2**32 - 1)
# around nothing, words, blocks, and three chunks' worth of blocks
_lengths = st.one_of(
    st.integers(0, 70), st.integers(BLOCK - 9, BLOCK + 9), st.integers(0, 3 * BLOCK + 9), st.integers(0, 5000)
)


def weights(count: int, seed: int = 0, scale: float = 0.02) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(count) * scale).astype(np.float32)


def bf16(values: np.ndarray) -> bytes:
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


@settings(max_examples=60, deadline=None)
@given(_lengths, st.sampled_from((1, 2, 4, 8)), st.sampled_from(list(planes.Packing)), _seeds)
def test_planes_of_every_length_come_back(length: int, width: int, packing: planes.Packing, seed: int) -> None:
    plain = weights(length // 4 + 1, seed).tobytes()[:length]
    payload = planes.encode(plain, width, packing)
    assert bytes(planes.decode(memoryview(payload), length)) == plain
    for wrong in {max(length - 1, 0), length + 1, length + width} - {length}:
        with pytest.raises(CorruptError):
            planes.decode(memoryview(payload), wrong)


@settings(max_examples=60, deadline=None)
@given(_lengths, _elements, _seeds, st.sampled_from(("near", "far", "same")))
def test_deltas_of_every_length_come_back(length: int, element: Element, seed: int, kind: str) -> None:
    length -= length % element.width
    base = np.random.default_rng(seed).bytes(length)
    plain = {"same": base, "far": np.random.default_rng(seed + 1).bytes(length), "near": b""}[kind]
    if kind == "near":
        words = np.frombuffer(base, f"<u{element.width}")
        steps = np.random.default_rng(seed).integers(-3, 4, len(words)).astype(f"<i{element.width}")
        plain = (words + steps.view(words.dtype)).tobytes()
    encoded = encode_delta(plain, base, DeltaHead(BASE, element, 3, 1000))
    asked: list[bytes] = []

    def read_base(wanted: bytes) -> bytes:
        asked.append(wanted)
        return base

    assert bytes(decode(encoded, length, read_base)) == plain
    assert asked == [BASE]
    head = delta_head(encoded[:DELTA_HEAD_LENGTH])
    assert head == DeltaHead(BASE, element, 3, 1000 + len(encoded))


@pytest.mark.parametrize("element", FLOATS)
def test_a_delta_survives_every_kind_of_number(element: Element) -> None:
    """Infinities, NaNs with payloads, zeros of both signs, subnormals: bytes are bytes."""
    word = 8 * element.width
    interesting = [0, 1, (1 << word) - 1, 1 << (word - 1), (1 << (word - 1)) - 1, (1 << (word - 1)) + 1]
    values = np.array([a for a in interesting for _ in interesting], f"<u{element.width}").tobytes()
    base = np.array(interesting * len(interesting), f"<u{element.width}").tobytes()
    encoded = encode_delta(values, base, DeltaHead(BASE, element, 1, 0))
    assert bytes(decode(encoded, len(values), lambda _: base)) == values


def test_a_small_step_costs_little_whatever_the_exponent() -> None:
    old = weights(1 << 20, 1)
    new = old * (1 + 1e-4 * weights(1 << 20, 2, 1.0))
    base, plain = bf16(old), bf16(new.astype(np.float32))
    packed = len(encode(plain, Element.BF16))
    delta = len(encode_delta(plain, base, DeltaHead(BASE, Element.BF16, 1, 0)))
    assert packed < 0.7 * len(plain)
    assert delta < 0.15 * len(plain)
    assert delta_pays(plain, base, Element.BF16, packed)
    assert not delta_pays(plain, bf16(weights(1 << 20, 3)), Element.BF16, packed)


def test_weights_become_planes_with_or_without_being_told_their_type() -> None:
    plain = bf16(weights(1 << 20))
    told, guessed = encode(plain, element_of("BF16")), encode(plain)
    assert codec_name(told) == codec_name(guessed) == "planes"
    assert told == guessed
    assert bytes(decode(told, len(plain))) == plain
    assert codec_name(encode(plain, compression=Compression.FAST)) == "raw"
    assert codec_name(encode(plain, compression=Compression.NONE)) == "raw"
    assert codec_name(encode(bytes(1 << 20), compression=Compression.NONE)) == "raw"


def test_element_types_are_known_by_their_names() -> None:
    assert element_of("BF16") is Element.BF16
    assert element_of("U32") is element_of("I32") is Element.INT32
    assert element_of("F8_E4M3") is element_of("Q4_K") is Element.INT8
    assert element_of("") is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 300), st.sampled_from((Codec.PLANES, Codec.DELTA)))
def test_noise_is_refused_or_has_the_length(noise: bytes, length: int, codec: Codec) -> None:
    try:
        plain = decode(bytes((codec,)) + noise, length, lambda _: bytes(length))
    except CorruptError:
        return
    assert len(plain) == length


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_flipped_byte_is_refused_or_changes_the_bytes_only(data: st.DataObject) -> None:
    base, plain = bf16(weights(3000)), bf16(weights(3000, 1))
    encoded = bytearray(
        data.draw(
            st.sampled_from(
                (encode(plain, Element.BF16), encode_delta(plain, base, DeltaHead(BASE, Element.BF16, 1, 0)))
            )
        )
    )
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = decode(encoded, len(plain), lambda _: base)
    except CorruptError:
        return
    assert len(found) == len(plain)


def test_a_delta_is_refused_without_its_base_or_with_one_that_does_not_fit() -> None:
    plain = bf16(weights(3000))
    encoded = encode_delta(plain, plain, DeltaHead(BASE, Element.BF16, 1, 0))
    with pytest.raises(CorruptError, match="where none may be"):
        decode(encoded, len(plain))
    for wrong in (plain[:-2], plain + b"xx", b""):
        with pytest.raises(CorruptError, match="does not fit its base"):
            decode(encoded, len(plain), lambda _, wrong=wrong: wrong)  # type: ignore[misc]
    with pytest.raises(CorruptError, match="head"):
        delta_head(encoded[: DELTA_HEAD_LENGTH - 1])
    with pytest.raises(CorruptError, match="head"):
        delta_head(encoded[:33] + b"\x63" + encoded[34:])
    assert delta_head(encode(plain)) is None


def test_a_bomb_in_the_planes_costs_no_more_than_the_declared_length() -> None:
    frame = zstandard.ZstdCompressor().compress(bytes(200 << 20))
    head = struct.pack("<B", 1) + struct.pack("<I", len(frame))
    many = struct.pack("<B", 1) + struct.pack("<I", 10) * 1000 + os.urandom(9000)
    for bomb in (head + frame, many):
        tracemalloc.start()
        try:
            with pytest.raises(CorruptError):
                decode(bytes((Codec.PLANES,)) + bomb, BLOCK)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()
