"""What the words of a chunk are: their width, and where a floating-point number keeps its exponent.

The numbers are part of the store format. Words are little-endian, as every supported format writes them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.unsignedinteger]


class Element(IntEnum):
    """Element type of a chunk. Signed and unsigned integers are alike here, and so are one-byte types."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    BF16 = 5
    F16 = 6
    F32 = 7
    F64 = 8

    @property
    def width(self) -> int:
        """Bytes of a word."""
        return _WIDTHS[self]

    @property
    def exponent(self) -> int | None:
        """How far to shift a word to the right until its exponent's low bits are its low byte; None: no exponent."""
        return _EXPONENTS.get(self)


_WIDTHS: Final = {
    Element.INT8: 1,
    Element.INT16: 2,
    Element.INT32: 4,
    Element.INT64: 8,
    Element.BF16: 2,
    Element.F16: 2,
    Element.F32: 4,
    Element.F64: 8,
}
_EXPONENTS: Final = {Element.BF16: 7, Element.F16: 10, Element.F32: 23, Element.F64: 52}
# as safetensors spells them; a type that is missing here is bytes
_DTYPES: Final = {
    "F64": Element.F64,
    "C128": Element.F64,
    "F32": Element.F32,
    "C64": Element.F32,
    "F16": Element.F16,
    "BF16": Element.BF16,
    "I64": Element.INT64,
    "U64": Element.INT64,
    "I32": Element.INT32,
    "U32": Element.INT32,
    "I16": Element.INT16,
    "U16": Element.INT16,
}
_WORDS: Final[dict[int, np.dtype[np.unsignedinteger]]] = {n: np.dtype(f"<u{n}") for n in (1, 2, 4, 8)}
_SIGNED: Final[dict[int, np.dtype[np.signedinteger]]] = {n: np.dtype(f"<i{n}") for n in (1, 2, 4, 8)}


def element_of(dtype: str) -> Element | None:
    """The element of a `Span`'s dtype; None when it says nothing."""
    return _DTYPES.get(dtype, Element.INT8) if dtype else None


def words(data: bytes | bytearray | memoryview, width: int) -> Words:
    """A view of ``data`` as unsigned words; a rest shorter than a word is left out."""
    return np.frombuffer(data, dtype=_WORDS[width], count=len(data) // width)


def empty(count: int, width: int) -> Words:
    """Room for words."""
    return np.empty(count, dtype=_WORDS[width])


def signed(values: Words) -> npt.NDArray[np.signedinteger]:
    """The same bytes as signed integers."""
    return values.view(_SIGNED[values.dtype.itemsize])
