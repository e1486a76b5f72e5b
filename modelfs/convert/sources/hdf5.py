"""HDF5, read with our own parser: data sets that lie in the file in one piece."""

from __future__ import annotations

from modelfs.convert.files import StoredFile
from modelfs.convert.model import Model, Tensor
from modelfs.errors import UsageError
from modelfs.formats import hdf5
from modelfs.formats.layout import read_all


def looks_like(head: bytes) -> bool:
    """The signature."""
    return hdf5.looks_like(head)


def read(file: StoredFile) -> Model:
    """Every data set, named by its path. UsageError for those that are chunked or compressed."""
    passed: list[str] = []
    found = read_all(hdf5.parse(file.size, passed=passed), file.read)
    if passed:
        raise UsageError(
            f"tensor {passed[0][:200]!r} is not one plain run of bytes in {file.path} (it is empty, chunked "
            "or compressed, or a very large group)"
        )
    if found is None:
        raise UsageError(f"{file.path}: the HDF5 file makes no sense, or holds nothing")
    return Model("HDF5", tuple(Tensor(s.name, s.dtype, s.shape, file, s.offset, s.length) for s in found.spans))
