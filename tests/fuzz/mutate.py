"""Inputs from seeds: deterministic for a seed number, blind or with knowledge of msgpack, JSON and pickle."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

Mutation = Callable[[random.Random, bytes, bytes], bytes]  # (random, input, another input) -> a new input

_INTERESTING: Final = (0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 254, 255)
_NUMBERS: Final = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32)
_HUGE: Final = (*_NUMBERS, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_SIZE_MAX: Final = 64 * 1024


def blind(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """One change that knows nothing of the format."""
    out = bytearray(data)
    at = rng.randrange(len(out) + 1)
    kind = rng.randrange(12)
    if not out or kind == 0:
        out[at:at] = rng.randbytes(rng.randrange(1, 9))
    elif kind == 1:
        out[min(at, len(out) - 1)] ^= 1 << rng.randrange(8)
    elif kind == 2:
        out[min(at, len(out) - 1)] = rng.choice(_INTERESTING)
    elif kind == 3:
        del out[at : at + rng.randrange(1, 17)]
    elif kind == 4:
        del out[at:]
    elif kind in (5, 6):
        width = rng.choice((2, 4, 8))
        number = rng.choice((*_HUGE, len(out), max(len(out) - at, 0))) % 2 ** (8 * width)
        out[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
    elif kind == 7:
        piece = out[at : at + rng.randrange(1, 33)]
        out[at:at] = piece * rng.choice((1, 2, 3, 50))
    elif kind == 8 and other:
        begin = rng.randrange(len(other))
        out[at : at + rng.randrange(33)] = other[begin : begin + rng.randrange(1, 65)]
    elif kind == 9:
        to = rng.randrange(len(out) + 1)
        piece = bytes(out[at : at + rng.randrange(1, 17)])
        out[to:to] = piece
    elif kind == 10:
        out[at : at + 4] = rng.randbytes(4)
    else:
        digits = str(rng.choice((*_HUGE, 10**30))).encode()
        out[at : at + rng.randrange(4)] = digits
    return bytes(out[:_SIZE_MAX])


def msgpack(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A change of one value inside a msgpack document; blind when it is none."""
    try:
        value = msgspec.msgpack.decode(data)
        return msgspec.msgpack.encode(_changed(rng, value))[:_SIZE_MAX]
    except (msgspec.DecodeError, ValueError, TypeError, OverflowError, RecursionError):
        return blind(rng, data, other)


def json(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A change of one value inside a JSON document; blind when it is none."""
    try:
        value = msgspec.json.decode(data)
        return msgspec.json.encode(_texts(_changed(rng, value)))[:_SIZE_MAX]
    except (msgspec.DecodeError, ValueError, TypeError, OverflowError, RecursionError):
        return blind(rng, data, other)


def framed(inner: Mutation, split: Callable[[bytes], bytes], join: Callable[[bytes], bytes]) -> Mutation:
    """A mutation of what is inside a frame (a length, a checksum), which is made right again."""

    def mutation(rng: random.Random, data: bytes, other: bytes) -> bytes:
        return join(inner(rng, split(data), split(other)))

    return mutation


def _changed(rng: random.Random, value: Any) -> Any:
    """The value with one of its parts changed."""
    if isinstance(value, list) and value and rng.random() < 0.8:
        out = list(value)
        at = rng.randrange(len(out))
        kind = rng.randrange(8)
        if kind < 4:
            out[at] = _changed(rng, out[at])
        elif kind == 4:
            del out[at]
        elif kind == 5:
            out[at:at] = [out[at]] * rng.choice((1, 2, 100))
        elif kind == 6:
            other = rng.randrange(len(out))
            out[at], out[other] = out[other], out[at]
        else:
            out.insert(at, _fresh(rng))
        return out
    if isinstance(value, dict) and value and rng.random() < 0.8:
        out_map = dict(value)
        key = rng.choice(list(out_map))
        kind = rng.randrange(5)
        if kind < 3:
            out_map[key] = _changed(rng, out_map[key])
        elif kind == 3:
            del out_map[key]
        else:
            out_map[_key(rng, key)] = out_map[key] if rng.random() < 0.5 else _fresh(rng)
        return out_map
    if isinstance(value, bytes | str) and rng.random() < 0.6:
        raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        changed = blind(rng, raw, raw)
        return changed if isinstance(value, bytes) else changed.decode("utf-8", "replace")
    if isinstance(value, int) and rng.random() < 0.6:
        return value + rng.choice((-1, 1, 2, -value, 1 << rng.randrange(62)))
    return _fresh(rng)


def _key(rng: random.Random, key: Any) -> Any:
    return f"{key}{rng.randrange(10)}" if isinstance(key, str) else rng.randrange(100)


def _texts(value: Any) -> Any:
    """Without bytes, which JSON has no form for."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list):
        return [_texts(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _texts(item) for key, item in value.items()}
    return value


def _fresh(rng: random.Random) -> Any:
    nested: Any = []
    for _ in range(rng.choice((0, 1, 5, 200))):
        nested = [nested]
    return rng.choice(
        (
            rng.choice(_HUGE),
            -rng.choice(_NUMBERS),
            rng.randbytes(rng.choice((0, 1, 8, 31, 32, 33, 300))),
            "x" * rng.choice((0, 1, 17, 65, 300)),
            rng.choice(("..", ".", "/", "a/../b", "\0", "\ud7ff", "é")),
            rng.choice((b"..", b".", b"/", b"a/b", b"\0", b"\xff")),
            None,
            True,
            1.5,
            float("inf"),
            [],
            {},
            nested,
        )
    )


_OPCODES: Final = b"()]}tldusearRbQ012N\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94\x81"
_PICKLE: Final = (
    *(bytes((code,)) for code in _OPCODES),
    *(b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"h\x02", b"K\x02", b"K\xff", b"M\xff\xff", b"J\xff\xff\xff\x7f"),
    *(b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"X\x01\x00\x00\x00k", b"\x8c\x07storage", b"cpu\n", b"I3\n", b"L9L\n"),
    *(b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n"),
    b"G?\xf0" + bytes(6),
)


def pickle(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Opcodes put into a pickle, or a pickle of nothing but opcodes."""
    if rng.random() < 0.3:
        return b"\x80\x02" + b"".join(rng.choices(_PICKLE, k=rng.randrange(1, 60))) + b"."
    at = rng.randrange(len(data) + 1)
    return (data[:at] + b"".join(rng.choices(_PICKLE, k=rng.randrange(1, 6))) + data[at:])[:_SIZE_MAX]


class Inputs:
    """An endless series of inputs from seeds, the same for the same number."""

    def __init__(self, seeds: list[bytes], mutations: tuple[Mutation, ...], number: int, name: str) -> None:
        self._rng = random.Random(f"{number} {name}")
        self._pool = list(seeds) or [b""]
        self._mutations = mutations
        self._next = 0

    def take(self) -> bytes:
        """The seeds as they are first, then changed ones; some of those are changed further later."""
        rng = self._rng
        if self._next < len(self._pool) and self._next < 200:
            self._next += 1
            return self._pool[self._next - 1]
        data = rng.choice(self._pool)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            data = rng.choice(self._mutations)(rng, data, rng.choice(self._pool))
        if rng.random() < 0.02 and len(data) < 8192:
            if len(self._pool) < 400:
                self._pool.append(data)
            else:
                self._pool[rng.randrange(200, 400)] = data
        return data
