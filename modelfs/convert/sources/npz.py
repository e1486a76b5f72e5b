"""Archives of numpy.savez."""

from __future__ import annotations

from modelfs.convert.files import StoredFile
from modelfs.convert.model import Model, Tensor, apart
from modelfs.convert.sources.ziparchive import Member, data_of
from modelfs.errors import UsageError
from modelfs.formats import npy

_SUFFIX = ".npy"


def read(file: StoredFile, members: list[Member]) -> Model:
    """Every array; other members are left out."""
    tensors = tuple(_tensor(file, member) for member in members if member.name.endswith(_SUFFIX))
    apart(tensors)
    others = tuple(member.name for member in members if not member.name.endswith(_SUFFIX))
    return Model("NumPy", tensors, left_out=others)


def _tensor(file: StoredFile, member: Member) -> Tensor:
    name = member.name.removesuffix(_SUFFIX)
    start = data_of(file, member)
    header = npy.header(file.read(start, npy.HEADER_MAX))
    if header is None or header.offset + header.length != member.length:
        raise UsageError(
            f"tensor {name[:200]!r}: {member.name[:200]!r} is no array of numbers that is as long as it says"
        )
    if header.fortran and sum(side > 1 for side in header.shape) > 1:
        raise UsageError(f"tensor {name[:200]!r} is in Fortran order: save it with numpy.ascontiguousarray")
    return Tensor(name, header.dtype, header.shape, file, start + header.offset, header.length)
