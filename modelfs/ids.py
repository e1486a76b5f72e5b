"""Content ids: BLAKE3-256 of plain bytes, one type for each kind of thing they name.

The hash is BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs), 32 bytes of output.
"""

from __future__ import annotations

from typing import Final, NewType

from blake3 import blake3

ChunkId = NewType("ChunkId", bytes)
ManifestId = NewType("ManifestId", bytes)
TreeId = NewType("TreeId", bytes)
CommitId = NewType("CommitId", bytes)

ID_LENGTH: Final = 32


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """BLAKE3-256 of ``data``: 32 bytes. Releases the GIL."""
    return blake3(data).digest()
