"""TensorFlow bundles: ``PREFIX.data-00000-of-00001`` holds the tensors one after the other and says nothing of itself;
``PREFIX.index``, written later, says where they are.

Formats: the index is a LevelDB table (https://github.com/google/leveldb/blob/main/doc/table_format.md) of
BundleEntryProto (https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto).
Compressed tables, which TensorFlow does not write, are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from modelfs import limits
from modelfs.formats.layout import Budget, Layout, Span, TooMuchError, layout

INDEX_SUFFIX: Final = b".index"
INDEX_MAX: Final = 16 * limits.MiB
_DATA: Final = re.compile(rb"\.data-(\d{5})-of-\d{5}(?:\.tempstate\d+)?$")
MAGIC: Final = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER: Final = 48
_TRAILER: Final = 5  # of a block: compression, checksum
STRING: Final = "STRING"
_DTYPES: Final = {
    1: "F32",
    2: "F64",
    3: "I32",
    4: "U8",
    5: "I16",
    6: "I8",
    7: STRING,
    8: "C64",
    9: "I64",
    10: "BOOL",
    14: "BF16",
    17: "U16",
    18: "C128",
    19: "F16",
    22: "U32",
    23: "U64",
    24: "F8_E5M2",
    25: "F8_E4M3",
}


@dataclass(frozen=True, slots=True)
class Index:
    """A whole index: (number of the data file, stored in slices, tensor) by key. ``little``: byte order of the data."""

    shards: int
    little: bool
    entries: tuple[tuple[int, bool, Span], ...]


class _LieError(ValueError):
    pass


def shard_of(name: bytes) -> int | None:
    """The shard number of a data file's name; None when it is none."""
    found = _DATA.search(name)
    return int(found[1]) if found else None


def parse_index(index: bytes, shard: int) -> Layout | None:
    """The layout of one data file, its size being where its last tensor ends. None when ``index`` makes no sense."""
    spans = []
    try:
        for key, value in _table(index):
            if key and (span := _entry(key, value, shard)) is not None:
                spans.append(span)
    except (_LieError, TooMuchError, IndexError):
        return None
    end = max((span.offset + span.length for span in spans), default=0)
    return layout("tensorflow", spans, end) if spans else None


def read_index(index: bytes) -> Index | None:
    """Every entry; tensors of text have the type `STRING`. None when ``index`` makes no sense."""
    shards, little = 0, True
    entries = []
    try:
        for key, value in _table(index):
            if not key:
                fields = {number: found for number, found in _fields(value) if isinstance(found, int)}
                shards, little = fields.get(1, 0), not fields.get(2, 0)
            else:
                entries.append(_described(key, value))
    except (_LieError, TooMuchError, IndexError):
        return None
    return Index(shards, little, tuple(entries)) if len(entries) <= limits.LAYOUT_SPANS_MAX else None


def _table(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(index) < _FOOTER or index[-8:] != MAGIC:
        raise _LieError
    footer = index[-_FOOTER:]
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)
    start, at = _varint(footer, at)
    size, _ = _varint(footer, at)
    budget, left = Budget(), len(index)
    for _, handle in _block(index, start, size, budget):
        start, at = _varint(handle, 0)
        size, _ = _varint(handle, at)
        left -= size  # blocks are read once: several handles to one would lead in circles
        if left < 0:
            raise _LieError
        yield from _block(index, start, size, budget)


def _block(index: bytes, start: int, size: int, budget: Budget) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; a key repeats the beginning of the one before it."""
    if start + size + _TRAILER > len(index) or size < 4 or index[start + size] != 0:
        raise _LieError
    block = index[start : start + size]
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")
    key, at = b"", 0
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + own + length > end:
            raise _LieError
        key = key[:shared] + block[at : at + own]
        if len(key) > limits.PATH_MAX:
            raise _LieError
        budget.spell(len(key))
        yield key, block[at + own : at + own + length]
        at += own + length


def _entry(key: bytes, value: bytes, shard: int) -> Span | None:
    found, _, span = _described(key, value)
    if found != shard:
        return None
    return replace(span, dtype="") if span.dtype == STRING else span


def _described(key: bytes, value: bytes) -> tuple[int, bool, Span]:
    """Number of the data file, whether the tensor is stored in slices, the tensor."""
    fields: dict[int, int] = {}
    shape: tuple[int, ...] = ()
    sliced = False
    for number, found in _fields(value):
        if isinstance(found, int):
            fields[number] = found
        elif number == 2:
            shape = tuple(_dimension(dim) for n, dim in _fields(found) if n == 2 and isinstance(dim, bytes))
        sliced = sliced or number == 7
    offset, size = fields.get(4, 0), fields.get(5, 0)
    if offset > limits.FILE_SIZE_MAX or size > limits.FILE_SIZE_MAX:
        raise _LieError
    dtype = _DTYPES.get(fields.get(1, 0), "")
    return fields.get(3, 0), sliced, Span(offset, size, dtype, shape, key.decode("utf-8", "replace"))


def _dimension(message: bytes) -> int:
    return next((found for number, found in _fields(message) if number == 1 and isinstance(found, int)), 0)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Fields of a Protocol Buffers message: numbers and byte strings."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
        elif kind == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise _LieError
            yield tag >> 3, message[at : at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise _LieError


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends. IndexError at the end of the data."""
    value = 0
    for i in range(10):
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise _LieError
