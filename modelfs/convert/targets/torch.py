"""PyTorch's zip archives: what torch.save makes of a state dict.

The pickle is put together here, opcode by opcode: an OrderedDict of `torch._utils._rebuild_tensor_v2` calls, which is
what ``torch.load(weights_only=True)`` takes (https://github.com/pytorch/pytorch/blob/main/torch/_weights_only_unpickler.py).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Final

from modelfs import limits
from modelfs.convert.files import Summed, checksums
from modelfs.convert.model import WIDTHS, Model, Tensor, need_type
from modelfs.convert.plan import Plan
from modelfs.convert.targets import ziparchive
from modelfs.errors import UsageError

FORMAT: Final = "PyTorch"
_ALIGNMENT: Final = 64  # of storages, as torch has it
# Element types that have a storage class; others are bytes that a tensor of the type is laid over.
_STORAGES: Final = {
    "F64": "DoubleStorage",
    "F32": "FloatStorage",
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "I64": "LongStorage",
    "I32": "IntStorage",
    "I16": "ShortStorage",
    "I8": "CharStorage",
    "U8": "ByteStorage",
    "BOOL": "BoolStorage",
    "C64": "ComplexFloatStorage",
    "C128": "ComplexDoubleStorage",
}
_TYPES: Final = {
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


def plan(model: Model, name: str, progress: Callable[[int], None]) -> list[tuple[str, Plan]]:
    """A state dict. Tensors that are the same bytes share a storage. All are read, because members have checksums."""
    keys: dict[tuple[tuple[int, int, int], str], int] = {}
    storages: list[Tensor] = []
    program = [b"\x80\x02", _global("collections OrderedDict"), b")R("]
    for tensor in model.tensors:
        need_type(tensor, {**_STORAGES, **_TYPES}, FORMAT)
        place = (tensor.place, tensor.dtype)
        if place not in keys or not tensor.length:
            keys[place] = len(storages)
            storages.append(tensor)
        program += [_text(tensor.name), *_tensor(tensor, keys[place])]
    program.append(b"u.")
    pickle = b"".join(program)
    if len(pickle) > limits.PICKLE_SIZE_MAX:
        raise UsageError(f"{name}: the pickle would have {len(pickle):,} bytes")
    sums = checksums([Summed(t.file, t.offset, t.length) for t in storages], zlib.crc32, progress)
    root = name.rpartition(".")[0] or "archive"
    members = [
        ziparchive.text(f"{root}/data.pkl", pickle),
        ziparchive.text(f"{root}/byteorder", b"little"),
        *(ziparchive.Member(f"{root}/data/{i}", b"", t, sums[i]) for i, t in enumerate(storages)),
        ziparchive.text(f"{root}/version", b"3\n"),
    ]
    return [(name, ziparchive.plan(members, _ALIGNMENT))]


def _tensor(tensor: Tensor, key: int) -> list[bytes]:
    """Opcodes that leave a tensor on the stack."""
    known = _STORAGES.get(tensor.dtype)
    count = tensor.length // WIDTHS[tensor.dtype] if known else tensor.length
    storage = _global(f"torch {known}") if known else _global("torch.storage UntypedStorage")
    stride, step = [], 1
    for side in reversed(tensor.shape):
        stride.append(step)
        step *= max(side, 1)
    return [
        _global("torch._utils _rebuild_tensor_v2" if known else "torch._utils _rebuild_tensor_v3"),
        b"((",
        *(_text("storage"), storage, _text(str(key)), _text("cpu"), _number(count)),
        b"tQ",
        _number(0),
        _numbers(tensor.shape),
        _numbers(stride[::-1]),
        b"\x89",
        _global("collections OrderedDict"),
        b")R",
        b"" if known else _global(f"torch {_TYPES[tensor.dtype]}"),
        b"tR",
    ]


def _global(name: str) -> bytes:
    return b"c" + name.replace(" ", "\n").encode() + b"\n"


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _number(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def _numbers(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"
