"""Element types that NumPy and HDF5 both write, with NumPy's words for them."""

from __future__ import annotations

from typing import Final

NUMBERS: Final = {
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}
