"""Archives of numpy.savez, not compressed."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Final

import numpy as np

from modelfs.convert.files import Summed, checksums
from modelfs.convert.model import Model, Tensor, need_type
from modelfs.convert.plan import Plan
from modelfs.convert.targets import ziparchive
from modelfs.convert.targets.numpytypes import NUMBERS
from modelfs.errors import UsageError

FORMAT: Final = "NumPy"
_TYPES: Final = {
    "BOOL": "|b1",
    **NUMBERS,
    "C64": "<c8",
    "C128": "<c16",
}
_NAME_MAX: Final = 65_000  # of a zip member, in bytes


def plan(model: Model, name: str, progress: Callable[[int], None]) -> list[tuple[str, Plan]]:
    """One member for each tensor. All tensors are read, because members have checksums."""
    heads = [_head(tensor) for tensor in model.tensors]
    parts = [
        Summed(tensor.file, tensor.offset, tensor.length, zlib.crc32(head))
        for tensor, head in zip(model.tensors, heads, strict=True)
    ]
    sums = checksums(parts, zlib.crc32, progress)
    members = [
        ziparchive.Member(f"{tensor.name}.npy", head, tensor, crc)
        for tensor, head, crc in zip(model.tensors, heads, sums, strict=True)
    ]
    return [(name, ziparchive.plan(members, 64))]


def _head(tensor: Tensor) -> bytes:
    need_type(tensor, _TYPES, FORMAT)
    if len(tensor.shape) > 64 or len(tensor.name.encode()) > _NAME_MAX:
        raise UsageError(f"tensor {tensor.name[:200]!r} has more dimensions, or a longer name, than {FORMAT} takes")
    out = io.BytesIO()
    facts = {"descr": _TYPES[tensor.dtype], "fortran_order": False, "shape": tensor.shape}
    np.lib.format.write_array_header_1_0(out, facts)
    return out.getvalue()
