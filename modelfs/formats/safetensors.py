"""safetensors: 8 bytes of header length (little-endian), a JSON header, then the tensors.

Format: https://github.com/huggingface/safetensors#format. Offsets in the header count from the end of the header.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from modelfs import limits
from modelfs.formats.layout import Layout, NeedMore, Span

_PREFIX: Final = 8
_Count = Annotated[int, Meta(ge=0, le=limits.FILE_SIZE_MAX)]


class _Tensor(msgspec.Struct, frozen=True):
    dtype: Annotated[str, Meta(max_length=16)]
    shape: Annotated[tuple[_Count, ...], Meta(max_length=64)]
    data_offsets: tuple[_Count, _Count]


_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_tensor: Final = msgspec.json.Decoder(_Tensor)


def detect(head: memoryview, size: int | None) -> Layout | NeedMore | None:
    """The layout, what is needed to tell it, or None."""
    if len(head) < _PREFIX + 1:
        return NeedMore(_PREFIX + 1) if size is None or size > len(head) else None
    length = int.from_bytes(head[:_PREFIX], "little")
    if head[_PREFIX] != ord("{") or not 2 <= length <= limits.SAFETENSORS_HEADER_MAX:
        return None
    data = _PREFIX + length
    if size is not None and data > size:
        return None
    if len(head) < data:
        return NeedMore(data)
    spans = _spans(bytes(head[_PREFIX:data]), data)
    if spans is None:
        return None
    end = max((span.offset + span.length for span in spans), default=data)
    if size is not None and size != end:
        return None
    return Layout("safetensors", spans, end)


def _spans(header: bytes, data: int) -> tuple[Span, ...] | None:
    """The tensors of a header in order of offset; None when it is no header or its tensors overlap."""
    found: list[Span] = []
    try:
        for name, raw in _decoder.decode(header).items():
            if name == "__metadata__":
                continue
            tensor = _tensor.decode(raw)
            begin, end = tensor.data_offsets
            if begin > end or end > limits.FILE_SIZE_MAX - data:
                return None
            found.append(Span(data + begin, end - begin, tensor.dtype, tensor.shape, name))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    found.sort(key=lambda span: (span.offset, span.length))
    if any(a.offset + a.length > b.offset for a, b in itertools.pairwise(found)):
        return None
    return tuple(found)
