"""Which format is it? Told from the content, never from a name: savers write to temporary names and rename."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from modelfs.formats import gguf, hdf5, msgpack, npy, onnx, safetensors, ziparchive
from modelfs.formats.layout import Parser, Want

_HEAD: Final = 64
# In order: (does the beginning look like it, its parser). The first that fits decides; those without a magic are last.
_FORMATS: Final[tuple[tuple[Callable[[bytes], bool], Callable[[int | None], Parser]], ...]] = (
    (ziparchive.looks_like, ziparchive.parse),
    (gguf.looks_like, gguf.parse),
    (hdf5.looks_like, hdf5.parse),
    (npy.looks_like, npy.parse),
    (safetensors.looks_like, safetensors.parse),
    (msgpack.looks_like, msgpack.parse),
    (onnx.looks_like, onnx.parse),
)


def parse(size: int | None) -> Parser:
    """The parser that finds the format out. ``size``: of the file in bytes, None while it is being written.

    A file that lies about itself has no layout; no content makes it raise.
    """
    head = yield Want(0, _HEAD)
    for looks_like, parser in _FORMATS:
        if looks_like(head):
            return (yield from parser(size))
    return None
