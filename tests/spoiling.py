"""Objects whose bytes are wrong for certain: a bit is turned, since a fixed byte may be there already."""

from __future__ import annotations

from pathlib import Path


def spoilt(data: bytes, at: int = -1) -> bytes:
    """The same bytes but one, the byte `at`."""
    changed = bytearray(data)
    changed[at] ^= 0x10
    return bytes(changed)


def spoil(path: Path, at: int = -1) -> None:
    """Turn a bit of a file's byte `at`, whatever its mode."""
    path.chmod(0o600)
    path.write_bytes(spoilt(path.read_bytes(), at))
