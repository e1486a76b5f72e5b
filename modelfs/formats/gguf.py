"""GGUF, versions 2 and 3: a header of keys and tensor descriptions, then the tensors, each aligned.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Block sizes of the quantised types:
https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py (GGML_QUANT_SIZES).
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Final

from modelfs import limits
from modelfs.formats.layout import Layout, Parser, Span, Want, Window, layout

_MAGIC: Final = b"GGUF"
_NAME_MAX: Final = 64 * limits.KiB
_STRING: Final = 8
_ARRAY: Final = 9
_WIDTHS: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of scalar values
_UINT32: Final = 4
# type -> (name, elements of a block, bytes of a block)
_TYPES: Final = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
}

Reading = Generator[Want | Layout, bytes, int]  # yields as a parser does, returns an offset or a number
Text = Generator[Want | Layout, bytes, bytes]


class _LieError(ValueError):
    """The header makes no sense."""


def looks_like(head: bytes) -> bool:
    """The magic and a version that is known."""
    return head.startswith(_MAGIC) and int.from_bytes(head[4:8], "little") in (2, 3)


def parse(size: int | None) -> Parser:
    """The whole layout as soon as the header is there."""
    try:
        spans, data, alignment = yield from _Header().read()
    except _LieError:
        return None
    # The last tensor may be padded like the others, or not.
    end = max((span.offset + span.length for span in spans), default=data)
    padded = end + -end % alignment
    if size is not None and not end <= size <= padded:
        return None
    return layout("gguf", spans, padded if size is None else size)


class _Header:
    """Reads the header from the front."""

    def __init__(self) -> None:
        self._window = Window()
        self._at = 8

    def read(self) -> Generator[Want | Layout, bytes, tuple[list[Span], int, int]]:
        """Tensors, where the data begins, alignment."""
        tensors = yield from self._number(8)
        pairs = yield from self._number(8)
        if tensors > limits.LAYOUT_SPANS_MAX or pairs > limits.LAYOUT_SPANS_MAX:
            raise _LieError
        alignment = 32
        for _ in range(pairs):
            key = yield from self._text()
            kind = yield from self._number(4)
            if key == b"general.alignment" and kind == _UINT32:
                alignment = yield from self._number(4)
            else:
                yield from self._skip(kind, 0)
        if not 1 <= alignment <= limits.MiB:
            raise _LieError
        found = []
        for _ in range(tensors):
            found.append((yield from self._tensor()))
        data = self._at + -self._at % alignment
        return _spans(found, data), data, alignment

    def _tensor(self) -> Generator[Want | Layout, bytes, tuple[int, int, tuple[int, ...], str]]:
        """Offset in the data, type, shape, name."""
        name = yield from self._text()
        dimensions = yield from self._number(4)
        if dimensions > 16:
            raise _LieError
        shape = []
        for _ in range(dimensions):
            shape.append((yield from self._number(8)))
        kind = yield from self._number(4)
        offset = yield from self._number(8)
        # ggml counts dimensions from the fastest
        return offset, kind, tuple(reversed(shape)), name.decode("utf-8", "replace")

    def _skip(self, kind: int, depth: int) -> Generator[Want | Layout, bytes, None]:
        if kind in _WIDTHS:
            self._at += _WIDTHS[kind]
        elif kind == _STRING:
            length = yield from self._number(8)
            self._advance(length)
        elif kind == _ARRAY and depth < 4:
            item = yield from self._number(4)
            count = yield from self._number(8)
            if item in _WIDTHS:
                self._advance(count * _WIDTHS[item])
            else:
                if count > limits.LAYOUT_SPANS_MAX:
                    raise _LieError
                for _ in range(count):
                    yield from self._skip(item, depth + 1)
        else:
            raise _LieError

    def _advance(self, length: int) -> None:
        if length > limits.LAYOUT_BYTES_MAX:
            raise _LieError
        self._at += length

    def _number(self, width: int) -> Reading:
        data = yield from self._window.read(self._at, width)
        if len(data) < width:
            raise _LieError
        self._at += width
        return int.from_bytes(data, "little")

    def _text(self) -> Text:
        length = yield from self._number(8)
        if length > _NAME_MAX:
            raise _LieError
        data = yield from self._window.read(self._at, length)
        if len(data) < length:
            raise _LieError
        self._at += length
        return data


def _spans(found: list[tuple[int, int, tuple[int, ...], str]], data: int) -> list[Span]:
    """Tensors of a type that is not known are left out: their length is not known."""
    spans = []
    for offset, kind, shape, name in found:
        if kind not in _TYPES:
            continue
        dtype, elements, width = _TYPES[kind]
        length = math.prod(shape) // elements * width
        if offset > limits.FILE_SIZE_MAX or length > limits.FILE_SIZE_MAX:
            raise _LieError
        spans.append(Span(data + offset, length, dtype, shape, name))
    return spans
