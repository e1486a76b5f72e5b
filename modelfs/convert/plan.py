"""A file that is not written: literal bytes and ranges of other files, one after the other."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from modelfs.convert.files import StoredFile
from modelfs.convert.model import Tensor
from modelfs.formats.layout import Span


@dataclass(frozen=True, slots=True)
class Copy:
    """``length`` bytes of ``file`` at ``offset``."""

    file: StoredFile
    offset: int
    length: int


class Plan:
    """The pieces of one file, appended from its beginning. ``format``: of a file that does not tell its own."""

    def __init__(self, format: str = "") -> None:
        self.format = format
        self.size = 0
        self.spans: list[Span] = []  # of the tensors, where this file has them
        self._pieces: list[bytes | Copy] = []
        self._starts: list[int] = []

    def literal(self, data: bytes) -> None:
        """Append bytes."""
        if data:
            self._append(data, len(data))

    def tensor(self, tensor: Tensor) -> None:
        """Append the bytes of a tensor."""
        if tensor.length:
            self.spans.append(Span(self.size, tensor.length, tensor.dtype, tensor.shape, tensor.name))
            self._append(Copy(tensor.file, tensor.offset, tensor.length), tensor.length)

    def align(self, alignment: int, fill: bytes = b"\0") -> None:
        """Append what is missing to a multiple of ``alignment``."""
        self.literal(fill * (-self.size % alignment))

    def piece(self, position: int) -> tuple[bytes | Copy, int]:
        """The piece that the byte at ``position`` belongs to, and where it begins."""
        i = bisect_right(self._starts, position) - 1
        return self._pieces[i], self._starts[i]

    def read(self, offset: int, length: int) -> bytes:
        """Those bytes, fewer at the end of the file."""
        return self._bytes(offset, length, blank=False)

    def outline(self, offset: int, length: int) -> bytes:
        """As `read`, but zeros in the place of tensors: enough for who looks for headers, and nothing is fetched."""
        return self._bytes(offset, length, blank=True)

    def _append(self, piece: bytes | Copy, length: int) -> None:
        self._starts.append(self.size)
        self._pieces.append(piece)
        self.size += length

    def _bytes(self, offset: int, length: int, *, blank: bool) -> bytes:
        out: list[bytes] = []
        end = min(offset + length, self.size)
        while offset < end:
            piece, start = self.piece(offset)
            at = offset - start
            if isinstance(piece, bytes):
                found = piece[at : at + end - offset]
            else:
                count = min(piece.length - at, end - offset)
                found = bytes(count) if blank else piece.file.read(piece.offset + at, count)
            out.append(found)
            offset += len(found)
        return b"".join(out)
