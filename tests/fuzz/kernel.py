"""Targets around what comes from the kernel."""

from __future__ import annotations

import sys
from struct import Struct

from fuzz import mutate
from fuzz.target import Target
from modelfs import limits
from modelfs.fuse import protocol
from modelfs.fuse.protocol import STRUCTS, MalformedError, Opcode, decode


def kernel() -> list[Target]:
    """All of them."""
    return [Target("fuse-request", _request, tuple(_requests()), (MalformedError,), (mutate.blind, _of_that_length))]


def _request(data: bytes) -> None:
    found = decode(memoryview(data))
    assert 0 <= found.unique < 2**64
    assert sum(map(len, found.names)) + len(found.data) + 16 * len(found.forgets) <= len(data)
    assert not any(b"\0" in name for name in found.names)
    if found.opcode is Opcode.WRITE:
        assert found.fields[2] == len(found.data)


def _requests() -> list[bytes]:
    names = b"a name\0another\0"
    fixed = {opcode: struct.pack(*range(1, len(struct.unpack(bytes(struct.size))) + 1)) for opcode, struct in _known()}
    fixed[Opcode.WRITE] = STRUCTS["fuse_write_in"].pack(1, 2, len(names), 0, 0, 0, 0)
    fixed[Opcode.SETXATTR] = protocol.SETXATTR_COMPAT.pack(len(b"another\0"), 0)
    pairs = STRUCTS["fuse_forget_one"].pack(1, 2) * 3
    fixed[Opcode.BATCH_FORGET] = STRUCTS["fuse_batch_forget_in"].pack(3, 0) + pairs
    bodies = [(op, fixed.get(op, b"") + (b"" if op is Opcode.BATCH_FORGET else names)) for op in Opcode]
    return [_head(protocol.IN_HEADER.size + len(body), op) + body for op, body in [*bodies, (4711, names)]]


def _known() -> list[tuple[Opcode, Struct]]:
    return list(protocol._FIXED.items())


def _head(length: int, opcode: int) -> bytes:
    return protocol.IN_HEADER.pack(length, opcode, 7, 1, 0, 0, 1, 0, 0)


def _of_that_length(rng: mutate.random.Random, data: bytes, other: bytes) -> bytes:
    """Changed behind the length, which is put right: what is cut short or grew is looked into."""
    changed = mutate.blind(rng, data, other)[: 4 * limits.FUSE_NAMES_MAX]
    return len(changed).to_bytes(4, sys.byteorder) + changed[4:]
