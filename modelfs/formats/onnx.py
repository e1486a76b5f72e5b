"""ONNX: a Protocol Buffers message whose graph holds the weights as initializers with raw data.

Formats: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto and https://protobuf.dev/programming-guides/encoding/.
There is no magic, so a file counts as ONNX only if it is well-formed from its first field to its last byte.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

from modelfs import limits
from modelfs.formats.layout import Layout, Parser, Span, Want, Window, layout, whole_file

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5
_IR_VERSIONS: Final = range(1, 64)
_MODEL_FIELDS: Final = 32  # field numbers of ModelProto are below; it has room for new ones
_GRAPH: Final = 7  # of ModelProto
_INITIALIZER: Final = 5  # of GraphProto
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9  # of TensorProto
_NAME_MAX: Final = 4096
_DTYPES: Final = {
    1: "F32",
    2: "U8",
    3: "I8",
    4: "U16",
    5: "I16",
    6: "I32",
    7: "I64",
    9: "BOOL",
    10: "F16",
    11: "F64",
    12: "U32",
    13: "U64",
    14: "C64",
    15: "C128",
    16: "BF16",
    17: "F8_E4M3",
    19: "F8_E5M2",
}


@dataclass(frozen=True, slots=True)
class _Field:
    """``value``: of a varint; else the bytes ``[start, end)``."""

    number: int
    kind: int
    start: int
    end: int
    value: int = 0


@dataclass(slots=True)
class _Tensor:
    name: str = ""
    dtype: str = ""
    shape: list[int] = field(default_factory=list)
    raw: tuple[int, int] | None = None


class _NotProtobufError(ValueError):
    pass


Reading = Generator[Want | Layout, bytes, _Field]


def looks_like(head: bytes) -> bool:
    """The version, then another field of a model."""
    if len(head) < 4 or head[0] != 0x08 or head[1] not in _IR_VERSIONS:
        return False
    number, kind = head[2] >> 3, head[2] & 7
    return head[2] < 0x80 and 2 <= number < _MODEL_FIELDS and kind in (_VARINT, _BYTES)


def parse(size: int | None) -> Parser:
    """Nothing before the file is finished."""
    if size is None:
        yield whole_file()
        return None
    window = Window()
    spans: list[Span] = []
    try:
        at = 0
        while at < size:
            part = yield from _field(window, at, size)
            if part.number >= _MODEL_FIELDS:
                return None
            if part.number == _GRAPH and part.kind == _BYTES:
                yield from _graph(window, part, spans)
            at = part.end
    except _NotProtobufError:
        return None
    return layout("onnx", spans, size) if spans else None


def _graph(window: Window, graph: _Field, spans: list[Span]) -> Generator[Want | Layout, bytes, None]:
    at = graph.start
    while at < graph.end:
        part = yield from _field(window, at, graph.end)
        if part.number == _INITIALIZER and part.kind == _BYTES:
            tensor = yield from _tensor(window, part)
            if tensor.raw is not None and len(spans) < limits.LAYOUT_SPANS_MAX:
                start, end = tensor.raw
                spans.append(Span(start, end - start, tensor.dtype, tuple(tensor.shape), tensor.name))
        at = part.end


def _tensor(window: Window, message: _Field) -> Generator[Want | Layout, bytes, _Tensor]:
    found = _Tensor()
    at = message.start
    while at < message.end:
        part = yield from _field(window, at, message.end)
        if part.number == _RAW_DATA and part.kind == _BYTES:
            found.raw = (part.start, part.end)
        elif part.number == _NAME and part.kind == _BYTES:
            data = yield from window.read(part.start, min(part.end - part.start, _NAME_MAX))
            found.name = data.decode("utf-8", "replace")
        elif part.number == _DATA_TYPE:
            found.dtype = _DTYPES.get(part.value, "")
        elif part.number == _DIMS and part.kind == _VARINT:
            found.shape.append(part.value)
        elif part.number == _DIMS and part.kind == _BYTES and part.end - part.start < _NAME_MAX:
            inner = part.start
            while inner < part.end:
                value, inner = yield from _varint(window, inner, part.end)
                found.shape.append(value)
        if len(found.shape) > limits.LAYOUT_SIDES_MAX:
            raise _NotProtobufError
        at = part.end
    return found


def _field(window: Window, at: int, end: int) -> Reading:
    tag, start = yield from _varint(window, at, end)
    number, kind = tag >> 3, tag & 7
    value, stop = 0, start
    if kind == _VARINT:
        value, stop = yield from _varint(window, start, end)
    elif kind == _FIXED64:
        stop = start + 8
    elif kind == _FIXED32:
        stop = start + 4
    elif kind == _BYTES:
        length, start = yield from _varint(window, start, end)
        stop = start + length
    else:
        raise _NotProtobufError
    if number == 0 or stop > end:
        raise _NotProtobufError
    return _Field(number, kind, start, stop, value)


def _varint(window: Window, at: int, end: int) -> Generator[Want | Layout, bytes, tuple[int, int]]:
    """A number and where it ends."""
    data = yield from window.read(at, min(10, end - at))
    value = 0
    for i, byte in enumerate(data):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise _NotProtobufError
