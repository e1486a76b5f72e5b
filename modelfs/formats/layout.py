"""What a format says about a file: spans of bytes that are tensors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """One tensor: ``length`` bytes at ``offset``. ``dtype`` as safetensors spells it ("BF16", "F32", …), "" unknown."""

    offset: int
    length: int
    dtype: str
    shape: tuple[int, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Spans sorted by offset, not overlapping, within ``size``: the size that the format gives the file."""

    format: str
    spans: tuple[Span, ...]
    size: int


@dataclass(frozen=True, slots=True)
class NeedMore:
    """The first ``bytes_wanted`` bytes of the file would tell."""

    bytes_wanted: int
