"""msgpack as Flax writes it: a map of maps whose arrays are extension type 1, packing (shape, dtype, bytes).

Formats: https://github.com/msgpack/msgpack/blob/master/spec.md and ``flax.serialization`` (_ndarray_to_bytes).
The file is walked token by token; the arrays' bytes are stepped over.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from modelfs import limits
from modelfs.formats.layout import Layout, Parser, Span, Want, Window, layout, whole_file

_NDARRAY: Final = 1
_DEPTH: Final = 64
_NAME_PART: Final = 256
_DTYPES: Final = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex64": "C64",
    "complex128": "C128",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
# first byte -> (what follows the length, bytes of the length)
_SIZED: Final = {
    **{0xC4 + i: ("bytes", 1 << i) for i in range(3)},
    **{0xC7 + i: ("ext", 1 << i) for i in range(3)},
    **{0xD9 + i: ("text", 1 << i) for i in range(3)},
    **{0xDC + i: ("array", 2 << i) for i in range(2)},
    **{0xDE + i: ("map", 2 << i) for i in range(2)},
}
_FIXED: Final = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8} | {0xCC + i: 1 << i % 4 for i in range(8)}


@dataclass(frozen=True, slots=True)
class _Token:
    """``start``: of what follows the head; ``size``: bytes there, or items of an array or map."""

    kind: str
    start: int
    size: int
    ext: int = 0


@dataclass(slots=True)
class _Level:
    """An array or map being walked. ``left``: items to come (keys and values count each)."""

    left: int
    is_map: bool
    index: int = 0
    key: str = ""

    def name(self) -> str:
        return self.key if self.is_map else str(self.index)


Tokens = Generator[Want | Layout, bytes, _Token | None]


def looks_like(head: bytes) -> bool:
    """A map whose first key is text that can be read."""
    if not head or not (0x80 < head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):
        return False
    at = 1 if head[0] <= 0x8F else (3 if head[0] == 0xDE else 5)
    key = head[at : at + 1]
    if not key or not (0xA0 < key[0] <= 0xBF or key[0] == 0xD9):
        return False
    text = head[at + 1 : at + 1 + (key[0] & 0x1F)] if key[0] != 0xD9 else head[at + 2 : at + 2 + head[at + 1]]
    return text.decode("utf-8", "replace").isprintable()


def parse(size: int | None) -> Parser:
    """Nothing before the file is finished: a map may hold anything until its end."""
    if size is None:
        yield whole_file()
        return None
    window = Window()
    spans: list[Span] = []
    levels: list[_Level] = []
    at = 0
    while True:
        token = yield from _token(window, at)
        if token is None or len(levels) > _DEPTH or len(spans) > limits.LAYOUT_SPANS_MAX:
            return None
        at = token.start
        if token.kind in ("array", "map"):
            levels.append(_Level(token.size * (2 if token.kind == "map" else 1), token.kind == "map"))
        else:
            at += token.size
            if levels and levels[-1].is_map and levels[-1].left % 2 == 0:
                data = yield from window.read(token.start, min(token.size, _NAME_PART))
                levels[-1].key = data.decode("utf-8", "replace")
            elif token.kind == "ext" and token.ext == _NDARRAY:
                name = window.budget.name(".".join(level.name() for level in levels))
                span = yield from _array(window, token, name)
                if span is None:
                    return None
                spans.append(span)
            _step(levels)
        while levels and not levels[-1].left:
            levels.pop()
            _step(levels)
        if not levels:
            return layout("msgpack", spans, size) if spans and at == size else None


def _step(levels: list[_Level]) -> None:
    """One item of the innermost level is done."""
    if levels:
        levels[-1].left -= 1
        levels[-1].index += 1


def _token(window: Window, at: int) -> Tokens:
    head = yield from window.read(at, 1)
    if not head:
        return None
    first = head[0]
    if first <= 0x7F or first >= 0xE0:
        return _Token("value", at + 1, 0)
    if first <= 0x8F:
        return _Token("map", at + 1, first & 0x0F)
    if first <= 0x9F:
        return _Token("array", at + 1, first & 0x0F)
    if first <= 0xBF:
        return _Token("text", at + 1, first & 0x1F)
    if first in _FIXED:
        return _Token("value", at + 1, _FIXED[first])
    if 0xD4 <= first <= 0xD8:  # an extension of 1, 2, 4, 8 or 16 bytes
        kind = yield from window.read(at + 1, 1)
        return _Token("ext", at + 2, 1 << (first - 0xD4), kind[0]) if kind else None
    if first not in _SIZED:
        return None
    what, width = _SIZED[first]
    extra = 1 if what == "ext" else 0
    rest = yield from window.read(at + 1, width + extra)
    if len(rest) < width + extra:
        return None
    return _Token(what, at + 1 + width + extra, int.from_bytes(rest[:width], "big"), rest[width] if extra else 0)


def _array(window: Window, ext: _Token, name: str) -> Generator[Want | Layout, bytes, Span | None]:
    """The bytes inside an extension that packs an array."""
    outer = yield from _token(window, ext.start)
    if outer is None or outer.kind != "array" or outer.size != 3:
        return None
    dimensions = yield from _token(window, outer.start)
    if dimensions is None or dimensions.kind != "array" or dimensions.size > 32:
        return None
    shape, at = [], dimensions.start
    for _ in range(dimensions.size):
        token = yield from _token(window, at)
        if token is None or token.kind != "value":
            return None
        digits = yield from window.read(at, 1 + token.size)
        shape.append(int.from_bytes(digits[1:], "big") if token.size else digits[0])
        at = token.start + token.size
    dtype = yield from _token(window, at)
    if dtype is None or dtype.kind not in ("text", "bytes") or dtype.size > 64:
        return None
    text = yield from window.read(dtype.start, dtype.size)
    data = yield from _token(window, dtype.start + dtype.size)
    if data is None or data.kind != "bytes" or data.start + data.size != ext.start + ext.size:
        return None
    return Span(data.start, data.size, _DTYPES.get(text.decode("latin-1"), ""), tuple(shape), name)
