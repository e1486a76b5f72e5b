"""safetensors."""

from __future__ import annotations

import msgspec

from modelfs import limits
from modelfs.convert.files import StoredFile
from modelfs.convert.model import Model, Tensor, apart
from modelfs.errors import UsageError
from modelfs.formats import safetensors


def looks_like(head: bytes) -> bool:
    """A header of sane length."""
    return safetensors.looks_like(head)


def read(file: StoredFile) -> Model:
    """Every tensor, in the order of the file."""
    length = int.from_bytes(file.read(0, 8), "little")
    header = file.read(8, length) if length <= limits.SAFETENSORS_HEADER_MAX else b""
    spans = safetensors.tensors(header, 8 + length) if len(header) == length else None
    if spans is None:
        raise UsageError(f"{file.path}: the safetensors header makes no sense")
    try:
        metadata = safetensors.metadata(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        metadata = {}
    spans.sort(key=lambda span: span.offset)
    tensors = tuple(Tensor(s.name, s.dtype, s.shape, file, s.offset, s.length) for s in spans)
    apart(tensors)
    return Model("safetensors", tensors, metadata)
