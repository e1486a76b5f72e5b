"""What converters carry: named runs of bytes of known type and shape, and a little text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from modelfs import limits
from modelfs.convert.files import StoredFile
from modelfs.errors import UsageError

# Bytes of an element, by the name of its type as safetensors spells it.
WIDTHS: Final = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
    "C64": 8,
    "C128": 16,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """Elements in C order, little-endian: ``length`` bytes of ``file`` at ``offset``. Two of them may be the same
    bytes (tied weights)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: StoredFile
    offset: int
    length: int

    @property
    def place(self) -> tuple[int, int, int]:
        """What is equal only for tensors that are the same bytes."""
        return id(self.file), self.offset, self.length


@dataclass(frozen=True, slots=True)
class Model:
    """Tensors in the order of the source. ``format``: of the source; ``metadata``: text beside the tensors;
    ``left_out``: what of the source is no tensor, for the person."""

    format: str
    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.length for tensor in self.tensors)


def checked(model: Model) -> Model:
    """The model, if its tensors are what they say and can be told apart; else UsageError that names one."""
    if not model.tensors:
        raise UsageError("there is no tensor in it")
    if len(model.tensors) > limits.TENSOR_TABLE_MAX:
        raise UsageError(f"it has {len(model.tensors):,} tensors; {limits.TENSOR_TABLE_MAX:,} is the most")
    if model.size > limits.MANIFEST_CHUNKS_MAX * limits.CHUNK_AVG:
        raise UsageError(f"its tensors would have {model.size:,} bytes")
    names: set[str] = set()
    for tensor in model.tensors:
        what = f"tensor {tensor.name[:200]!r}"
        if tensor.name in names:
            raise UsageError(f"{what} is in it twice")
        names.add(tensor.name)
        if not tensor.name.isprintable() or not 0 < len(tensor.name) < limits.PATH_MAX:
            raise UsageError(f"{what} has a name that is empty, too long or no text")
        if tensor.dtype not in WIDTHS:
            raise UsageError(f"{what} is of type {tensor.dtype or 'unknown'}, which only {model.format} has")
        if len(tensor.shape) > limits.LAYOUT_SIDES_MAX:
            raise UsageError(f"{what} has {len(tensor.shape)} dimensions")
        if math.prod(tensor.shape) * WIDTHS[tensor.dtype] != tensor.length or min(tensor.shape, default=0) < 0:
            raise UsageError(f"{what}: {tensor.length} bytes do not make {tensor.dtype} {list(tensor.shape)}")
        if tensor.offset < 0 or tensor.offset + tensor.length > tensor.file.size:
            raise UsageError(f"{what} lies outside {tensor.file.path}")
    return model


def apart(tensors: tuple[Tensor, ...]) -> None:
    """UsageError when two tensors have bytes in common, in a format that does not allow that."""
    filled = sorted((t for t in tensors if t.length), key=lambda t: (id(t.file), t.offset))
    for a, b in itertools.pairwise(filled):
        if a.file is b.file and a.offset + a.length > b.offset:
            raise UsageError(f"tensors {a.name[:200]!r} and {b.name[:200]!r} overlap in {a.file.path}")


def need_type(tensor: Tensor, known: Mapping[str, object], format: str) -> None:
    """UsageError when a format has no such elements."""
    if tensor.dtype not in known:
        raise UsageError(f"tensor {tensor.name[:200]!r} is {tensor.dtype}; {format} has no such element type")
