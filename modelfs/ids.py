"""Content ids: BLAKE3-256 of plain bytes, one type for each kind of thing they name.

The hash is BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs), 32 bytes of output. In an encrypted store it is
keyed, so that an id confirms nothing to who lacks the key. `Repository` makes the `Ids` of its store and hands it
to everything that computes or checks an id, the cache included.
"""

from __future__ import annotations

from typing import Final, NewType

from blake3 import blake3

ChunkId = NewType("ChunkId", bytes)
ManifestId = NewType("ManifestId", bytes)
TreeId = NewType("TreeId", bytes)
CommitId = NewType("CommitId", bytes)

ID_LENGTH: Final = 32


class Ids:
    """How one store names its objects. ``key``: 32 bytes in an encrypted store, None in others."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key

    @property
    def keyed(self) -> bool:
        """True in an encrypted store: nobody else's ids are like these."""
        return self._key is not None

    def digest(self, data: bytes | bytearray | memoryview) -> bytes:
        """The id of an object with these plain bytes: 32 bytes. Releases the GIL."""
        return (blake3(data) if self._key is None else blake3(data, key=self._key)).digest()


PLAIN: Final = Ids()


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """BLAKE3-256 of ``data`` without a key, for what is not an id of an object in a store."""
    return PLAIN.digest(data)
