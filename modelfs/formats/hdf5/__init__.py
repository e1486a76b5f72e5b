"""HDF5: where the data sets of a finished file lie. Read with a small parser of our own, because the library runs
native code over whatever bytes it is given, and the daemon must survive a hostile file.

Format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html. Understood: superblocks 0 to 3, object
headers 1 and 2 with continuations, groups as symbol tables and as links in the header, contiguous data sets, chunked
data sets that are not filtered (version 1 B-trees). Groups with so many links that a fractal heap holds them, and
other chunk indexes, are passed over: what is not found is cut by content.
"""

from __future__ import annotations

from typing import Final

from modelfs import limits
from modelfs.formats.hdf5.reading import Bytes, LieError, Reading
from modelfs.formats.hdf5.walk import walk
from modelfs.formats.layout import Budget, Parser, Span, layout, whole_file

_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"


def looks_like(head: bytes) -> bool:
    """The signature."""
    return head.startswith(_SIGNATURE)


def parse(size: int | None, budget: Budget | None = None, passed: list[str] | None = None) -> Parser:
    """Nothing before the file is finished: the library writes all over it until it is closed. ``budget``: of the
    archive that the file lies in; ``passed`` gets the paths of data sets that are not one run of bytes, and of groups
    that are not understood."""
    if size is None:
        yield whole_file()
        return None
    spans: list[Span] = []
    try:
        source = Bytes(size, budget)
        root = yield from _root(source)
        if root is not None:
            yield from walk(source, root, spans, [] if passed is None else passed)
    except LieError:
        return None
    return layout("hdf5", spans[: limits.LAYOUT_SPANS_MAX], size) if spans else None


def _root(source: Bytes) -> Reading[int | None]:
    """Address of the object header of the root group."""
    head = yield from source.read(8, 8)
    version = head[0]
    if version in (0, 1):
        source.set_widths(head[5], head[6])
        # Base address, free space, end of file, driver block; then the root's symbol table entry, which begins with
        # the offset of its name.
        at = 24 if version == 0 else 28
        base = yield from source.address(at)
        if base != 0:
            return None
        return (yield from source.address(at + 4 * source.offset_width + source.offset_width))
    if version in (2, 3):
        source.set_widths(head[1], head[2])
        base = yield from source.address(12)
        if base != 0:
            return None
        return (yield from source.address(12 + 3 * source.offset_width))
    return None
