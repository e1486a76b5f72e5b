"""HDF5: data sets that lie in the file in one piece, in groups as the names say.

h5py lays the file out around data that is never written: a sparse file, of which only what is between the data sets
is read back.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from modelfs.convert.model import Model, Tensor, need_type
from modelfs.convert.plan import Plan
from modelfs.convert.targets.numpytypes import NUMBERS
from modelfs.errors import ExtraMissingError, UsageError

if TYPE_CHECKING:
    import h5py

FORMAT: Final = "HDF5"
_SIDES_MAX: Final = 32


def plan(model: Model, name: str, progress: Callable[[int], None]) -> list[tuple[str, Plan]]:
    """A data set for each tensor. ExtraMissingError without h5py."""
    try:
        import h5py
    except ImportError as error:
        raise ExtraMissingError("HDF5 files are made with h5py: pip install 'modelfs[convert]'") from error
    for tensor in model.tensors:
        need_type(tensor, NUMBERS, FORMAT)
        if len(tensor.shape) > _SIDES_MAX or not tensor.length:
            raise UsageError(f"tensor {tensor.name[:200]!r} is empty or has more than {_SIDES_MAX} dimensions")
    with tempfile.TemporaryDirectory(prefix="modelfs-convert-") as directory:
        path = Path(directory) / "outline"
        with h5py.File(path, "w", libver="earliest") as file:
            for tensor in model.tensors:
                _create(file, tensor)
        return [(name, _filled(path, model))]


def _create(file: h5py.File, tensor: Tensor) -> None:
    import h5py

    path = tensor.name.encode()
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_layout(h5py.h5d.CONTIGUOUS)
    create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    create.set_obj_track_times(False)
    link = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    link.set_create_intermediate_group(True)
    kind = h5py.h5t.py_create(np.dtype(NUMBERS[tensor.dtype]))
    try:
        made = h5py.h5d.create(file.id, None, kind, h5py.h5s.create_simple(tensor.shape), create)
        h5py.h5o.link(made, file.id, path, lcpl=link)
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        raise UsageError(f"tensor {tensor.name[:200]!r} cannot be a path in an HDF5 file") from error


def _filled(path: Path, model: Model) -> Plan:
    """The outline with the tensors in their places."""
    import h5py

    with h5py.File(path, "r") as file:
        places = sorted((file[tensor.name].id.get_offset(), i) for i, tensor in enumerate(model.tensors))
    made = Plan()
    with path.open("rb") as outline:
        fd, size = outline.fileno(), path.stat().st_size
        for offset, i in places:
            made.literal(os.pread(fd, offset - made.size, made.size))
            made.tensor(model.tensors[i])
        made.literal(os.pread(fd, size - made.size, made.size))
    return made
