"""Bytes, numbers and addresses of an HDF5 file; every one of them inside the file, or it is a `LieError`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, TypeVar

from modelfs import limits
from modelfs.formats.layout import Budget, Layout, Want, Window

T = TypeVar("T")
Reading = Generator[Want | Layout, bytes, T]  # yields as a parser does, returns what was read

_AHEAD: Final = 2 * limits.KiB  # headers are small and lie apart
_PIECE_MAX: Final = limits.MiB


class LieError(ValueError):
    """The file contradicts itself."""


class Bytes:
    """A file of ``size`` bytes. The widths of offsets and lengths are in its superblock."""

    def __init__(self, size: int, budget: Budget | None = None) -> None:
        self.size = size
        self.budget = budget or Budget()
        self.offset_width = self.length_width = 8
        self._window = Window(_AHEAD, self.budget)

    def set_widths(self, offset: int, length: int) -> None:
        """Bytes of an address and of a length."""
        if offset not in (2, 4, 8) or length not in (2, 4, 8):
            raise LieError
        self.offset_width, self.length_width = offset, length

    def read(self, offset: int, length: int) -> Reading[bytes]:
        """Exactly those bytes."""
        if length > _PIECE_MAX or offset + length > self.size:
            raise LieError
        data = yield from self._window.read(offset, length)
        if len(data) < length:
            raise LieError
        return data

    def number(self, offset: int, width: int) -> Reading[int]:
        """An unsigned number."""
        return int.from_bytes((yield from self.read(offset, width)), "little")

    def length(self, offset: int) -> Reading[int]:
        """A length as wide as this file's are."""
        return (yield from self.number(offset, self.length_width))

    def address(self, offset: int) -> Reading[int | None]:
        """An address; None when it is undefined (all ones)."""
        data = yield from self.read(offset, self.offset_width)
        return None if data == b"\xff" * len(data) else int.from_bytes(data, "little")

    def text(self, offset: int, longest: int) -> Reading[str]:
        """The string that ends with a zero byte, of at most ``longest`` bytes."""
        data = yield from self.read(offset, max(min(longest, limits.PATH_MAX, self.size - offset), 0))
        return self.budget.name(data.partition(b"\0")[0].decode("utf-8", "replace"))
