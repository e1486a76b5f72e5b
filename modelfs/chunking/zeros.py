"""Is a piece all zeros? Such a piece becomes a hole and costs nothing in the store."""

from __future__ import annotations

from typing import Final

_LOOKS: Final = 64


def is_zero(data: bytes | bytearray | memoryview) -> bool:
    """True when every byte is 0. A few looks spread over the data settle it for nearly all that is not."""
    step = max(1, len(data) // _LOOKS)
    if any(data[::step]):
        return False
    return bytes(data) == bytes(len(data))
