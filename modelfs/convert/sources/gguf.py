"""GGUF, as far as its tensors are not quantised."""

from __future__ import annotations

from modelfs.convert.files import StoredFile
from modelfs.convert.model import Model, Tensor
from modelfs.errors import UsageError
from modelfs.formats import gguf
from modelfs.formats.layout import read_all


def looks_like(head: bytes) -> bool:
    """The magic and a version that is known."""
    return gguf.looks_like(head)


def read(file: StoredFile) -> Model:
    """Every tensor. The keys and values of the header stay behind."""
    found = read_all(gguf.parse(file.size), file.read)
    head = file.read(8, 16)
    if found is None:
        raise UsageError(f"{file.path}: the GGUF header makes no sense")
    if len(found.spans) != int.from_bytes(head[:8], "little"):
        raise UsageError(f"{file.path} has tensors that are empty or of a type that is not known")
    keys = int.from_bytes(head[8:], "little")
    tensors = tuple(Tensor(s.name, s.dtype, s.shape, file, s.offset, s.length) for s in found.spans)
    return Model("GGUF", tensors, left_out=("the keys of the header",) if keys else ())
