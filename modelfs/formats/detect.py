"""Which format is it? Asked with the first bytes of a file, possibly while it is still being written."""

from __future__ import annotations

from modelfs.formats import safetensors
from modelfs.formats.layout import Layout, NeedMore

__all__ = ["Layout", "NeedMore", "detect"]


def detect(head: bytes | bytearray | memoryview, size: int | None) -> Layout | NeedMore | None:
    """The layout of the file that starts with ``head``; NeedMore when more of it would tell; None: unknown.

    ``size`` is the file's size when it is complete, None while it grows. A layout is returned only if it fits.
    """
    return safetensors.detect(memoryview(head), size)
