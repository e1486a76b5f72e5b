"""NumPy's .npy: a magic, a version, a header that is a Python dict as text, then the array.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import Final

from modelfs import limits
from modelfs.formats.layout import Parser, Span, Want, layout

MAGIC: Final = b"\x93NUMPY"
HEADER_MAX: Final = 64 * limits.KiB
_KINDS: Final = {"f": "F", "i": "I", "u": "U", "c": "C"}


def looks_like(head: bytes) -> bool:
    """The magic."""
    return head.startswith(MAGIC)


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before an array of ``length`` bytes at ``offset``. ``fortran``: its first side is the fastest."""

    offset: int
    dtype: str
    shape: tuple[int, ...]
    length: int
    fortran: bool


def parse(size: int | None) -> Parser:
    """One span."""
    head = yield Want(0, 12)
    end = _header_end(head)
    if end is None:
        return None
    found = header(head + (yield Want(12, end - 12)))
    if found is None or size not in (None, found.offset + found.length):
        return None
    span = Span(found.offset, found.length, found.dtype, found.shape, "array")
    return layout("npy", [span], found.offset + found.length)


def header(data: bytes) -> Header | None:
    """The header that ``data`` begins with; None when it makes no sense."""
    end = _header_end(data[:12])
    if end is None or len(data) < end:
        return None
    described = _describe(data[_prefix(data) : end])
    return Header(end, *described) if described is not None else None


def _header_end(head: bytes) -> int | None:
    if len(head) < 12 or not looks_like(head):
        return None
    prefix = _prefix(head)
    end = prefix + int.from_bytes(head[8:prefix], "little")
    return end if 12 <= end <= HEADER_MAX else None


def _prefix(head: bytes) -> int:
    return 10 if head[6] == 1 else 12


def _describe(header: bytes) -> tuple[str, tuple[int, ...], int, bool] | None:
    """Element type, shape, size in bytes, Fortran's order."""
    try:
        found = ast.literal_eval(header.decode("latin-1").strip())
        descr, shape = found["descr"], found["shape"]
        fortran = bool(found.get("fortran_order"))
        order, kind, width = descr[0], descr[1], int(descr[2:])
        if (
            not isinstance(shape, tuple)
            or len(shape) > limits.LAYOUT_SIDES_MAX
            or any(type(n) is not int for n in shape)
        ):
            return None
        count = math.prod(shape)
        if not 0 < width <= 32 or min(shape, default=0) < 0 or not 0 <= count * width <= limits.FILE_SIZE_MAX:
            return None
    except (
        ValueError,
        SyntaxError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        RecursionError,
        MemoryError,
        OverflowError,
    ):
        return None
    dtype = "BOOL" if kind == "b" else f"{_KINDS[kind]}{8 * width}" if kind in _KINDS and order in "<|" else ""
    return dtype, shape, count * width, fortran
