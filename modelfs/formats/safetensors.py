"""safetensors: 8 bytes of header length (little-endian), a JSON header, then the tensors.

Format: https://github.com/huggingface/safetensors#format. Offsets in the header count from the end of the header.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from modelfs import limits
from modelfs.formats.layout import Parser, Span, Want, layout

_PREFIX: Final = 8
_Count = Annotated[int, Meta(ge=0, le=limits.FILE_SIZE_MAX)]


class _Tensor(msgspec.Struct, frozen=True):
    dtype: Annotated[str, Meta(max_length=16)]
    shape: Annotated[tuple[_Count, ...], Meta(max_length=64)]
    data_offsets: tuple[_Count, _Count]


METADATA: Final = "__metadata__"

_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_tensor: Final = msgspec.json.Decoder(_Tensor)


def looks_like(head: bytes) -> bool:
    """A header of sane length that begins as a JSON object."""
    return head[_PREFIX : _PREFIX + 1] == b"{" and 2 <= _length(head) <= limits.SAFETENSORS_HEADER_MAX


def parse(size: int | None) -> Parser:
    """The whole layout as soon as the header is there."""
    length = _length((yield Want(0, _PREFIX)))
    header = yield Want(_PREFIX, length)
    data = _PREFIX + length
    spans = tensors(header, data) if len(header) == length else None
    if spans is None:
        return None
    end = max((span.offset + span.length for span in spans), default=data)
    return layout("safetensors", spans, end) if size in (None, end) else None


def _length(head: bytes) -> int:
    return int.from_bytes(head[:_PREFIX], "little")


def tensors(header: bytes, data: int) -> list[Span] | None:
    """The tensors of a header, empty ones too, in its order; None when it is no header. ``data``: where it ends."""
    found: list[Span] = []
    try:
        for name, raw in _decoder.decode(header).items():
            if name == METADATA:
                continue
            tensor = _tensor.decode(raw)
            begin, end = tensor.data_offsets
            if begin > end or end > limits.FILE_SIZE_MAX - data:
                return None
            found.append(Span(data + begin, end - begin, tensor.dtype, tensor.shape, name))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found


def metadata(header: bytes) -> dict[str, str]:
    """What a header says beside its tensors. ValueError when that is no text."""
    return msgspec.json.decode(_decoder.decode(header).get(METADATA, b"{}"), type=dict[str, str])
