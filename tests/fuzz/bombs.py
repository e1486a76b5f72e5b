"""Inputs made by hand that random changes would not find: small files that ask for much time or memory."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

import msgspec


def _text(text: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text


_STORAGE: Final = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ"


def pickle_doubling_names() -> bytes:
    """STACK_GLOBAL of a tuple that holds itself twice, thirty levels deep."""
    return b"\x80\x04" + _text(b"x") + b"2\x86" * 30 + b"2\x93."


def pickle_shared_calls() -> bytes:
    """Calls whose arguments and state are the same call, again and again: 2 to the 40th paths."""
    step = b"q\x00" + b"ca\nb\n" + b"h\x00" + b"R" + b"h\x00" + b"b"
    return b"\x80\x02" + b"]" + step * 40 + b"."


def pickle_one_list_many_calls() -> bytes:
    """A long list that many objects have for arguments."""
    items = b"(" + b"N" * 4000 + b"lq\x00"
    calls = b"(" + (b"ca\nb\nh\x00R" * 4000) + b"l"
    return b"\x80\x02" + items + calls + b"."


def pickle_long_names() -> bytes:
    """A key of 60 KB, used for thousands of members, on several levels."""
    members = b"".join(b"h\x00" + b"]" for _ in range(5000))
    return (
        b"\x80\x02" + _text(b"k" * 60_000) + b"q\x00" + b"0" + b"}(h\x00" * 3 + b"}(" + members + b"u" + b"u" * 3 + b"."
    )


def pickle_huge_shape() -> bytes:
    """A tensor with thousands of sides, each a number of 20 KB: their product."""
    number = b"\x8b" + struct.pack("<I", 20_000) + b"\x7f" * 20_000 + b"q\x01"
    shape = b"(" + b"h\x01" * 20_000 + b"t"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + _STORAGE + b"K\x00" + shape + b"tR"
    return b"\x80\x02" + number + b"0" + rebuilt + b"."


def pickle_truths_for_a_shape() -> bytes:
    """A shape of True, which is an int to Python and none to msgpack."""
    return b"\x80\x02" + b"ctorch._utils\n_rebuild_tensor_v2\n(" + _STORAGE + b"K\x00\x88\x85tR."


def npy(shape: bytes) -> bytes:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + b"}\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8)


def flax_long_names() -> bytes:
    """Maps in maps with long keys, and in the innermost thousands of arrays: each gets the whole path for a name."""
    key = b"\xd9\xff" + b"k" * 255
    array = msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"\x93\x91\x01\xa5uint8\xc4\x01\x00"))
    count = 20_000
    return (b"\x81" + key) * 60 + b"\xdd" + struct.pack(">I", count) + array * count


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _bundle(data: bytes, handles: int) -> bytes:
    """An index whose top block names the same data block so many times."""
    handle = _varint(0) + _varint(len(data))
    top = b"".join(b"\x00\x01" + _varint(len(handle)) + b"k" + handle for _ in range(handles))
    top += bytes(4) + (1).to_bytes(4, "little")
    at = len(data) + 5
    footer = _varint(0) + _varint(0) + _varint(at) + _varint(len(top))
    return data + b"\0crc!" + top + b"\0crc!" + footer.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


def tensorflow_one_block_many_times() -> bytes:
    """Thousands of handles to one block of thousands of entries."""
    block = b"\x00\x01\x00k" * 8000 + bytes(4) + (1).to_bytes(4, "little")
    return _bundle(block, 8000)


def tensorflow_shared_keys() -> bytes:
    """Keys of 4 KB of which each entry repeats all."""
    first = b"\x00" + _varint(4000) + b"\x04" + b"k" * 4000 + b"\x28\x01\x20\x00"
    block = first + b"".join(_varint(4000) + b"\x00\x00" for _ in range(50_000))
    return _bundle(block + bytes(4) + (1).to_bytes(4, "little"), 1)


def onnx_many_sides() -> bytes:
    """A tensor with as many dimensions as there are bytes."""
    tensor = b"\x08\x01" * 300_000 + b"\x4a\x01\x00"
    graph = b"\x2a" + _varint(len(tensor)) + tensor
    return b"\x08\x08\x12\x00" + b"\x3a" + _varint(len(graph)) + graph


def hdf5_messages_in_circles() -> bytes:
    """Object headers all over the file whose continuations name the same few bytes, and links to them all."""
    size = 16 * 1024
    data = bytearray(size)
    data[:8] = b"\x89HDF\r\n\x1a\n"
    data[8], data[13], data[14] = 0, 8, 8
    struct.pack_into("<QQQQ", data, 24, 0, 2**64 - 1, size, 2**64 - 1)
    struct.pack_into("<QQ", data, 56, 0, 256)  # the root's header is at 256
    # A run of empty messages of a kind that is left out (shared), which every continuation names.
    run = size // 2
    for at in range(run, size - 16, 8):
        struct.pack_into("<HHB", data, at, 0x15, 0, 2)
    at, headers = 256, []
    while at + 400 < run:
        headers.append(at)
        at += 400
    for number, header in enumerate(headers):
        struct.pack_into("<BBHII", data, header, 1, 0, 20, 1, 384)
        place = header + 16
        for _ in range(9):  # continuations
            struct.pack_into("<HHB3xQQ", data, place, 0x10, 16, 0, run, size - run - 16)
            place += 24
        target = headers[(number + 1) % len(headers)]
        struct.pack_into("<HHB3x", data, place, 0x06, 16, 0)
        data[place + 8 : place + 12] = b"\x01\x00\x01" + b"n"
        struct.pack_into("<Q", data, place + 12, target)
    return bytes(data)


def gguf_nested_arrays() -> bytes:
    """Arrays of arrays of nothing, as many as fit."""
    count = 50_000
    pair = struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 9, count) + struct.pack("<IQ", 0, 0) * count
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair


# name -> (target, how it is made)
BOMBS: Final[dict[str, tuple[str, Callable[[], bytes]]]] = {
    "doubling names": ("pickle", pickle_doubling_names),
    "shared calls": ("pickle", pickle_shared_calls),
    "one list, many calls": ("pickle", pickle_one_list_many_calls),
    "long names": ("pickle", pickle_long_names),
    "huge shape": ("pickle", pickle_huge_shape),
    "truths for a shape": ("pickle", pickle_truths_for_a_shape),
    "float shape": ("npy", lambda: npy(b"(2.0,)")),
    "truth for a shape": ("npy", lambda: npy(b"(True, 2)")),
    "deep text": ("npy", lambda: npy(b"(" * 20_000)),
    "deep signs": ("npy", lambda: npy(b"-" * 60_000 + b"1")),
    "deep sums": ("npy", lambda: npy(b"1+" * 30_000 + b"1j")),
    "long paths": ("flax", flax_long_names),
    "one block, many times": ("tensorflow", tensorflow_one_block_many_times),
    "shared keys": ("tensorflow", tensorflow_shared_keys),
    "many sides": ("onnx", onnx_many_sides),
    "circles": ("hdf5", hdf5_messages_in_circles),
    "nested arrays": ("gguf", gguf_nested_arrays),
}


def bombs() -> Iterator[tuple[str, str, bytes]]:
    """Name, target, input."""
    for name, (target, make) in BOMBS.items():
        yield name, target, make()
