"""safetensors: https://github.com/huggingface/safetensors#format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from modelfs import limits
from modelfs.convert.model import WIDTHS, Model, need_type
from modelfs.convert.plan import Plan
from modelfs.errors import UsageError
from modelfs.formats.safetensors import METADATA

FORMAT: Final = "safetensors"
_KNOWN: Final = {dtype: width for dtype, width in WIDTHS.items() if dtype != "C128"}


def plan(model: Model, name: str, progress: Callable[[int], None]) -> list[tuple[str, Plan]]:
    """Tensors of wide types first, as safetensors' own writer does, so that all are aligned; else in the order of the
    source. Its `transformers` refuses files that do not say whose they are, so those of others are said to be "pt"."""
    tensors = sorted(model.tensors, key=lambda tensor: -WIDTHS[tensor.dtype])
    metadata = dict(model.metadata) if model.format == FORMAT else {"format": "pt"}
    header: dict[str, object] = {METADATA: metadata} if metadata else {}
    at = 0
    for tensor in tensors:
        need_type(tensor, _KNOWN, FORMAT)
        if tensor.name == METADATA:
            raise UsageError(f"a tensor of a safetensors file cannot be named {METADATA}")
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": (at, at + tensor.length),
        }
        at += tensor.length
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % 8)
    if len(text) > limits.SAFETENSORS_HEADER_MAX:
        raise UsageError(f"{name}: the header would have {len(text):,} bytes")
    made = Plan()
    made.literal(len(text).to_bytes(8, "little") + text)
    for tensor in tensors:
        made.tensor(tensor)
    return [(name, made)]
