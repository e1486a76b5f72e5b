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
_STRIP: Final = 64 * 1024  # words worked on at a time: they stay in the second cache; shorter ones fight for the GIL


def encode(plain: bytes | bytearray | memoryview, base: bytes | bytearray | memoryview, element: Element) -> bytes:
    """The payload. Both have the same length, a multiple of the element's width."""
    ours, theirs = words(plain, element.width), words(base, element.width)
    with _jobs:
        folded = empty(len(ours), element.width)
        scratch = empty(min(_STRIP, len(ours)), element.width)
        for start in range(0, len(ours), _STRIP):
            strip = slice(start, start + _STRIP)
            target = folded[strip]
            other = scratch[: len(target)]
            _order_words(ours[strip], target, element)
            _order_words(theirs[strip], other, element)
            np.subtract(target, other, out=target)
            _fold(target, other)
        order = _exponent_order(theirs, element)
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
        order = _exponent_order(theirs, element)
        if order is not None:
            scattered = empty(len(folded), element.width)
            scattered[order] = folded
            folded = scattered
            del order
        scratch = empty(min(_STRIP, len(folded)), element.width)
        for start in range(0, len(folded), _STRIP):
            target = folded[start : start + _STRIP]
            other = scratch[: len(target)]
            _unfold(target, other)
            _order_words(theirs[start : start + _STRIP], other, element)
            np.add(target, other, out=target)
            _unorder(target, other, element)
    return folded.view(np.uint8).data


def _exponent_order(base: Words, element: Element) -> np.ndarray[tuple[int], np.dtype[np.intp]] | None:
    """What sorts the words by the exponent of the base; None when they have none."""
    if element.exponent is None:
        return None
    exponents = (base >> element.exponent).astype(np.uint8)
    if element is Element.F16:
        exponents &= 0x1F
    return np.argsort(exponents, kind="stable")


# The functions below work on one strip; ``out`` and ``scratch`` are as long as it and take the results, so that
# nothing is allocated. A shift of signed words fills them with their sign.


def _top(words: Words) -> np.unsignedinteger:
    return words.dtype.type(1 << (8 * words.itemsize - 1))


def _order_words(words: Words, out: Words, element: Element) -> None:
    """Integers in the order of the numbers."""
    if element.exponent is None:
        out[:] = words
        return
    np.right_shift(signed(words), 8 * words.itemsize - 1, out=signed(out))
    np.bitwise_or(out, _top(words), out=out)
    np.bitwise_xor(words, out, out=out)


def _unorder(words: Words, scratch: Words, element: Element) -> None:
    """The inverse of `_order_words`, in place."""
    if element.exponent is not None:
        np.right_shift(signed(words), 8 * words.itemsize - 1, out=signed(scratch))
        np.invert(scratch, out=scratch)
        np.bitwise_or(scratch, _top(words), out=scratch)
        np.bitwise_xor(words, scratch, out=words)


def _fold(differences: Words, scratch: Words) -> None:
    """Small numbers of either sign become small numbers, in place."""
    np.right_shift(signed(differences), 8 * differences.itemsize - 1, out=signed(scratch))
    np.left_shift(differences, 1, out=differences)
    np.bitwise_xor(differences, scratch, out=differences)


def _unfold(folded: Words, scratch: Words) -> None:
    """The inverse of `_fold`, in place."""
    np.bitwise_and(folded, 1, out=scratch)
    np.negative(scratch, out=scratch)
    np.right_shift(folded, 1, out=folded)
    np.bitwise_xor(folded, scratch, out=folded)
