"""NumPy's .npy: a magic, a version, a header that is a Python dict as text, then the array.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import ast
import math
from typing import Final

from modelfs import limits
from modelfs.formats.layout import Parser, Span, Want, layout

MAGIC: Final = b"\x93NUMPY"
_HEADER_MAX: Final = 64 * limits.KiB
_KINDS: Final = {"f": "F", "i": "I", "u": "U", "c": "C"}


def looks_like(head: bytes) -> bool:
    """The magic."""
    return head.startswith(MAGIC)


def parse(size: int | None) -> Parser:
    """One span."""
    head = yield Want(0, 12)
    if len(head) < 12 or not looks_like(head):
        return None
    prefix = 10 if head[6] == 1 else 12
    length = int.from_bytes(head[8:prefix], "little")
    if length > _HEADER_MAX:
        return None
    header = yield Want(prefix, length)
    described = _describe(header) if len(header) == length else None
    if described is None:
        return None
    dtype, shape, nbytes = described
    offset = prefix + length
    if size is not None and size != offset + nbytes:
        return None
    return layout("npy", [Span(offset, nbytes, dtype, shape, "array")], offset + nbytes)


def _describe(header: bytes) -> tuple[str, tuple[int, ...], int] | None:
    """Element type, shape, and size in bytes."""
    try:
        found = ast.literal_eval(header.decode("latin-1").strip())
        descr, shape = found["descr"], found["shape"]
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
    except (ValueError, SyntaxError, TypeError, KeyError, IndexError, RecursionError, MemoryError, OverflowError):
        return None
    dtype = "BOOL" if kind == "b" else f"{_KINDS[kind]}{8 * width}" if kind in _KINDS and order in "<|" else ""
    return dtype, shape, count * width
