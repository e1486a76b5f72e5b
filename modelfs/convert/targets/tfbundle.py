"""TensorFlow bundles: one data file and its index, a LevelDB table.

Formats: https://github.com/google/leveldb/blob/main/doc/table_format.md and
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto. The tensors can be
had by name (``tf.train.load_checkpoint``, ``tf.compat.v1.train.Saver``); there is no graph of objects.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final

from modelfs.convert.files import Checksum, Summed, checksums
from modelfs.convert.model import Model, Tensor, need_type
from modelfs.convert.plan import Plan
from modelfs.errors import ExtraMissingError
from modelfs.formats import tfbundle

FORMAT: Final = "TensorFlow"
_TYPES: Final = {
    "F32": 1,
    "F64": 2,
    "I32": 3,
    "U8": 4,
    "I16": 5,
    "I8": 6,
    "C64": 8,
    "I64": 9,
    "BOOL": 10,
    "BF16": 14,
    "U16": 17,
    "C128": 18,
    "F16": 19,
    "U32": 22,
    "U64": 23,
    "F8_E5M2": 24,
    "F8_E4M3": 25,
}
_BLOCK: Final = 256 * 1024  # of entries, as TensorFlow has it
_MASK: Final = 0xA282EAD8
_RAW: Final = b"\0"  # a block that is not compressed


def plan(model: Model, name: str, progress: Callable[[int], None]) -> list[tuple[str, Plan]]:
    """Data in the order of the keys, as TensorFlow's own writer merges it; then the index. All tensors are read,
    because entries have checksums. ExtraMissingError without google-crc32c."""
    crc32c = _crc32c()
    tensors = sorted(model.tensors, key=lambda tensor: tensor.name.encode())
    for tensor in tensors:
        need_type(tensor, _TYPES, FORMAT)
    sums = checksums([Summed(t.file, t.offset, t.length) for t in tensors], crc32c, progress)
    data = Plan("tensorflow")
    # One data file, little-endian, version 1 of the format.
    entries = [(b"", _field(1, 1) + _message(3, _field(1, 1)))]
    for tensor, crc in zip(tensors, sums, strict=True):
        entries.append((tensor.name.encode(), _entry(tensor, data.size, _masked(crc))))
        data.tensor(tensor)
    index = Plan()
    index.literal(_table(entries, crc32c))
    prefix = name.removesuffix(".index")
    return [(f"{prefix}.data-00000-of-00001", data), (f"{prefix}.index", index)]


def _crc32c() -> Checksum:
    try:
        import google_crc32c
    except ImportError as error:
        raise ExtraMissingError("TensorFlow bundles have CRC-32C checksums: pip install 'modelfs[convert]'") from error
    extend = google_crc32c.extend

    def add(data: bytes | bytearray | memoryview, before: int) -> int:
        found: int = extend(before, bytes(data))
        return found

    return add


def _masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


# -- Protocol Buffers -----------------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value) if value else b""


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _entry(tensor: Tensor, offset: int, crc: int) -> bytes:
    shape = b"".join(_message(2, _field(1, side)) for side in tensor.shape)
    head = _field(1, _TYPES[tensor.dtype]) + _message(2, shape)
    return head + _field(4, offset) + _field(5, tensor.length) + b"\x35" + struct.pack("<I", crc)


# -- LevelDB tables -------------------------------------------------------------------------------------------------


def _table(entries: Iterable[tuple[bytes, bytes]], crc32c: Checksum) -> bytes:
    out = bytearray()

    def add(block: bytes) -> bytes:
        """The handle of a block that is appended."""
        handle = _varint(len(out)) + _varint(len(block))
        out.extend(block + _RAW + struct.pack("<I", _masked(crc32c(block + _RAW, 0))))
        return handle

    index: list[tuple[bytes, bytes]] = []
    waiting: list[tuple[bytes, bytes]] = []
    size = 0
    for key, value in entries:
        waiting.append((key, value))
        size += len(key) + len(value)
        if size >= _BLOCK:
            index.append((key, add(_block(waiting))))
            waiting, size = [], 0
    if waiting:
        index.append((waiting[-1][0], add(_block(waiting))))
    meta = add(_block([]))
    footer = meta + add(_block(index))
    out += footer + bytes(40 - len(footer)) + tfbundle.MAGIC
    return bytes(out)


def _block(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Entries of which each could be where a search begins: nothing is left out of a key."""
    out = bytearray()
    restarts = []
    for key, value in entries:
        restarts.append(len(out))
        out += b"\0" + _varint(len(key)) + _varint(len(value)) + key + value
    restarts = restarts or [0]
    return bytes(out) + struct.pack(f"<{len(restarts)}I", *restarts) + struct.pack("<I", len(restarts))
