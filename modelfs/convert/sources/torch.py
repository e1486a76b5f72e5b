"""PyTorch's zip archives. The pickle is read by `modelfs.formats.pickle`, which runs nothing."""

from __future__ import annotations

import itertools
import math

from modelfs import limits
from modelfs.convert.files import StoredFile
from modelfs.convert.model import WIDTHS, Model, Tensor
from modelfs.convert.sources.ziparchive import Member, data_of
from modelfs.errors import UsageError
from modelfs.formats import pickle


def read(file: StoredFile, members: list[Member]) -> Model:
    """Every tensor that the pickle names; those that share a storage are the same bytes here."""
    by_name = {member.name: member for member in members}
    program = next(m for m in members if is_program(m))
    root = program.name.rpartition("/")[0]
    order = by_name.get(f"{root}/byteorder")
    if order is not None and file.read(data_of(file, order), min(order.length, 16)) != b"little":
        raise UsageError(f"{file.path} was written on a big-endian machine")
    start = data_of(file, program)
    found = pickle.contents(file.read(start, program.length)) if program.length <= limits.PICKLE_SIZE_MAX else None
    if found is None:
        raise UsageError(f"{file.path}: the pickle makes no sense, or is not one of torch.save")
    if found.unread:
        name, kind = found.unread[0]
        raise UsageError(f"tensor {name[:200]!r} is not a plain one ({kind[:80]})")
    if found.nameless:
        raise UsageError(f"{file.path}: {found.nameless} storages are of no tensor whose name is text or numbers")
    storages: dict[str, int] = {}
    for view in found.views:
        key = view.storage.key
        if key not in storages:
            member = by_name.get(f"{root}/data/{key}")
            if member is None or member.length != view.storage.length:
                raise UsageError(f"tensor {view.name[:200]!r}: its storage is not in {file.path}, or of another size")
            storages[key] = data_of(file, member)
    _apart(file, storages, found.views)
    tensors = tuple(_tensor(file, view, storages[view.storage.key]) for view in found.views)
    return Model("PyTorch", tensors, left_out=found.others)


def is_program(member: Member) -> bool:
    """The member that says what the others are."""
    return member.name.count("/") == 1 and member.name.endswith("/data.pkl")


def _apart(file: StoredFile, storages: dict[str, int], views: tuple[pickle.View, ...]) -> None:
    places = {key: (start, 0) for key, start in storages.items()}
    places |= {v.storage.key: (storages[v.storage.key], v.storage.length) for v in views}
    filled = sorted(place for place in places.values() if place[1])
    if any(start + length > after for (start, length), (after, _) in itertools.pairwise(filled)):
        raise UsageError(f"{file.path}: storages overlap")


def _tensor(file: StoredFile, view: pickle.View, start: int) -> Tensor:
    width = WIDTHS.get(view.dtype, 0)
    count = math.prod(view.shape)
    offset, length = view.offset * width, count * width
    if count and not _contiguous(view):
        raise UsageError(
            f"tensor {view.name[:200]!r} is a strided view of its storage (shape {list(view.shape)}, "
            f"stride {list(view.stride)}): save it with .contiguous()"
        )
    if offset + length > view.storage.length:
        raise UsageError(f"tensor {view.name[:200]!r} leaves its storage")
    return Tensor(view.name, view.dtype, view.shape, file, start + offset, length)


def _contiguous(view: pickle.View) -> bool:
    step = 1
    for side, stride in zip(reversed(view.shape), reversed(view.stride), strict=True):
        if side != 1 and stride != step:
            return False
        step *= side
    return True
