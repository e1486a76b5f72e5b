"""GGUF, version 3: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.

The tensors under the names that they have. What llama.cpp needs beside them to run a model (its own names, a
tokenizer, the keys of an architecture) no other format holds, so it is not made up.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from modelfs.convert.model import Model, Tensor, need_type
from modelfs.convert.plan import Plan
from modelfs.errors import UsageError

FORMAT: Final = "GGUF"
_TYPES: Final = {"F32": 0, "F16": 1, "I8": 24, "I16": 25, "I32": 26, "I64": 27, "F64": 28, "BF16": 30}
_ALIGNMENT: Final = 32
_NAME_MAX: Final = 63  # bytes, GGML_MAX_NAME without its end
_SIDES_MAX: Final = 4  # GGML_MAX_DIMS
_STRING: Final = 8


def plan(model: Model, name: str, progress: Callable[[int], None]) -> list[tuple[str, Plan]]:
    """Tensors in the order of the source, each aligned."""
    made = Plan()
    infos: list[bytes] = []
    at = 0
    for tensor in model.tensors:
        infos.append(_info(tensor, at))
        at += tensor.length + -tensor.length % _ALIGNMENT
    made.literal(b"GGUF" + struct.pack("<I2Q", 3, len(infos), 1))
    made.literal(_text("general.architecture") + struct.pack("<I", _STRING) + _text("unknown"))
    made.literal(b"".join(infos))
    made.align(_ALIGNMENT)
    for tensor in model.tensors:
        made.tensor(tensor)
        made.align(_ALIGNMENT)
    return [(name, made)]


def _info(tensor: Tensor, offset: int) -> bytes:
    need_type(tensor, _TYPES, FORMAT)
    what = f"tensor {tensor.name[:200]!r}"
    if len(tensor.name.encode()) > _NAME_MAX:
        raise UsageError(f"{what}: a name in GGUF has at most {_NAME_MAX} bytes")
    if len(tensor.shape) > _SIDES_MAX:
        raise UsageError(f"{what} has {len(tensor.shape)} dimensions; GGUF has room for {_SIDES_MAX}")
    if not tensor.length:
        raise UsageError(f"{what} is empty, which GGUF does not know")
    # ggml counts dimensions from the fastest
    sides = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
    return _text(tensor.name) + sides + struct.pack("<IQ", _TYPES[tensor.dtype], offset)


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data
