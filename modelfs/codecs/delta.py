"""Deltas: the differences to the words of another chunk of the same length, as byte planes.

A float becomes an integer that grows with it (negative: all bits flipped; else the sign bit flipped), so a small step
is a small difference whatever the exponent does; XOR would turn a carry into many bits. Differences are folded to
unsigned (0, -1, 1, -2, … as Protocol Buffers' ZigZag). How large a step is in units of the last place depends on the
exponent, so the differences are sorted by the exponent of the base (stable; the reader has the base and undoes it):
what lies together then has one distribution, which the entropy coder uses.
"""

from __future__ import annotations

import threading
from typing import Final

import numpy as np

from modelfs import limits
from modelfs.codecs import planes
from modelfs.codecs.elements import Element, Words, empty, signed, words
from modelfs.errors import CorruptError

_jobs: Final = threading.BoundedSemaphore(limits.DELTA_JOBS)
_STRIP: Final = 16 * 1024  # words worked on at a time: they stay in the processor's first and second cache


def encode(plain: bytes | bytearray | memoryview, base: bytes | bytearray | memoryview, element: Element) -> bytes:
    """The payload. Both have the same length, a multiple of the element's width."""
    ours, theirs = words(plain, element.width), words(base, element.width)
    with _jobs:
        folded = empty(len(ours), element.width)
        for start in range(0, len(ours), _STRIP):
            strip = slice(start, start + _STRIP)
            folded[strip] = _fold(_ordered(ours[strip], element) - _ordered(theirs[strip], element))
        order = _order(theirs, element)
        if order is not None:
            folded = folded[order]
            del order
        return planes.encode_words(folded, planes.Packing.HUFFMAN)


def decode(payload: memoryview, base: bytes | bytearray | memoryview, element: Element, length: int) -> memoryview:
    """Exactly ``length`` bytes, or CorruptError."""
    if len(base) != length or length % element.width or payload[:1] != bytes((element.width,)):
        raise CorruptError("its delta does not fit its base")
    theirs = words(base, element.width)
    with _jobs:
        folded, _ = planes.decode_words(payload, length)
        order = _order(theirs, element)
        if order is not None:
            scattered = empty(len(folded), element.width)
            scattered[order] = folded
            folded = scattered
            del order
        for start in range(0, len(folded), _STRIP):
            strip = folded[start : start + _STRIP]
            strip[:] = _unordered(_ordered(theirs[start : start + _STRIP], element) + _unfold(strip), element)
    return folded.view(np.uint8).data


def _order(base: Words, element: Element) -> np.ndarray[tuple[int], np.dtype[np.intp]] | None:
    if element.exponent is None:
        return None
    exponents = (base >> element.exponent).astype(np.uint8)
    if element is Element.F16:
        exponents &= 0x1F
    return np.argsort(exponents, kind="stable")


def _top(element: Element) -> int:
    return 1 << (8 * element.width - 1)


def _ordered(values: Words, element: Element) -> Words:
    """Integers in the order of the numbers."""
    if element.exponent is None:
        return values
    negative = signed(values) >> (8 * element.width - 1)
    return values ^ (negative.view(values.dtype) | values.dtype.type(_top(element)))


def _unordered(values: Words, element: Element) -> Words:
    """The inverse of `_ordered`."""
    if element.exponent is None:
        return values
    negative = ~(signed(values) >> (8 * element.width - 1))
    return values ^ (negative.view(values.dtype) | values.dtype.type(_top(element)))


def _fold(differences: Words) -> Words:
    sign = signed(differences) >> (8 * differences.itemsize - 1)
    return (differences << differences.dtype.type(1)) ^ sign.view(differences.dtype)


def _unfold(folded: Words) -> Words:
    one = folded.dtype.type(1)
    return (folded >> one) ^ (~(folded & one) + one)
