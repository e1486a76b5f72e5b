"""Object headers: the messages that say what an object is. Sections IV.A.1 and IV.A.2 of the format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelfs.formats.hdf5.reading import Bytes, LieError, Reading

DATASPACE: Final = 0x01
LINK_INFO: Final = 0x02
DATATYPE: Final = 0x03
LINK: Final = 0x06
LAYOUT: Final = 0x08
FILTERS: Final = 0x0B
SYMBOL_TABLE: Final = 0x11
_CONTINUATION: Final = 0x10
_SHARED: Final = 0x02
_MESSAGES_MAX: Final = 100_000
_BLOCKS_MAX: Final = 1000
_DIMENSIONS_MAX: Final = 32
_INTEGER, _FLOAT = 0, 1


@dataclass(frozen=True, slots=True)
class Message:
    """``size`` bytes at ``start``."""

    kind: int
    start: int
    size: int


def messages(source: Bytes, address: int) -> Reading[list[Message]]:
    """All messages of the object header at ``address``; shared ones, which lie elsewhere, are left out."""
    signature = yield from source.read(address, 4)
    if signature == b"OHDR":
        return (yield from _version2(source, address))
    if signature[0] != 1:
        raise LieError
    size = yield from source.number(address + 8, 4)
    found: list[Message] = []
    blocks = [(address + 16, size)]
    seen = 0
    while blocks:
        at, length = blocks.pop()
        end = at + length
        seen += 1
        while at + 8 <= end:
            head = yield from source.read(at, 8)
            kind, size = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
            yield from _take(source, found, blocks, Message(kind, at + 8, size), head[4])
            at += 8 + size
        if seen > _BLOCKS_MAX:
            raise LieError
    return found


def _version2(source: Bytes, address: int) -> Reading[list[Message]]:
    flags = yield from source.number(address + 5, 1)
    at = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    size = yield from source.number(at, width)
    found: list[Message] = []
    blocks = [(at + width, size)]
    extra = 2 if flags & 0x04 else 0  # creation order
    first, seen = True, 0
    while blocks:
        at, length = blocks.pop()
        if not first:  # "OCHK" in front, a checksum behind
            at, length = at + 4, length - 8
        first = False
        seen += 1
        end = at + length
        while at + 4 + extra <= end:
            head = yield from source.read(at, 4)
            size = int.from_bytes(head[1:3], "little")
            yield from _take(source, found, blocks, Message(head[0], at + 4 + extra, size), head[3])
            at += 4 + extra + size
        if seen > _BLOCKS_MAX:
            raise LieError
    return found


def _take(
    source: Bytes, found: list[Message], blocks: list[tuple[int, int]], message: Message, flags: int
) -> Reading[None]:
    if len(found) > _MESSAGES_MAX:
        raise LieError
    if message.kind == _CONTINUATION:
        address = yield from source.address(message.start)
        length = yield from source.length(message.start + source.offset_width)
        if address is None or address + length > source.size:
            raise LieError
        blocks.append((address, length))
    elif not flags & _SHARED:
        found.append(message)


def dataspace(source: Bytes, message: Message) -> Reading[tuple[int, ...]]:
    """The shape."""
    head = yield from source.read(message.start, 4)
    if head[1] > _DIMENSIONS_MAX:
        raise LieError
    at = message.start + (8 if head[0] == 1 else 4)
    shape = []
    for i in range(head[1]):
        shape.append((yield from source.length(at + i * source.length_width)))
    return tuple(shape)


def datatype(source: Bytes, message: Message) -> Reading[tuple[str, int]]:
    """Element type as safetensors spells it ("" for others), and bytes of an element."""
    head = yield from source.read(message.start, 8)
    kind, bits = head[0] & 0x0F, head[1]
    size = int.from_bytes(head[4:8], "little")
    if bits & 1:  # big-endian
        return "", size
    if kind == _INTEGER and size in (1, 2, 4, 8):
        return f"{'I' if bits & 8 else 'U'}{8 * size}", size
    if kind == _FLOAT and size in (4, 8):
        return f"F{8 * size}", size
    if kind == _FLOAT and size == 2:
        exponent = yield from source.number(message.start + 13, 1)
        return {5: "F16", 8: "BF16"}.get(exponent, ""), size
    return "", size


def dense(source: Bytes, message: Message) -> Reading[bool]:
    """Whether the links of a group are in a heap instead of its header."""
    flags = yield from source.number(message.start + 1, 1)
    heap = yield from source.address(message.start + 2 + (8 if flags & 1 else 0))
    return heap is not None


def link(source: Bytes, message: Message) -> Reading[tuple[str, int] | None]:
    """Name and object header of a hard link."""
    flags = yield from source.number(message.start + 1, 1)
    at = message.start + 2
    if flags & 0x08:
        kind = yield from source.number(at, 1)
        if kind != 0:
            return None
        at += 1
    at += (8 if flags & 0x04 else 0) + (1 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    length = yield from source.number(at, width)
    name = yield from source.read(at + width, length)
    address = yield from source.address(at + width + length)
    return None if address is None else (source.budget.name(name.decode("utf-8", "replace")), address)
