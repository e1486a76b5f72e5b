"""Chunks: bytes of files, stored once however many files have them.

`read` gives exactly the bytes that the id names, or an error that names the chunk. `write` uploads what the store
does not have; a chunk that was seen damaged or missing is uploaded again, over what is there, whatever the store
says about it. Used by the reader, the writer, fsck and the command line, from many threads.
"""

from __future__ import annotations

from collections.abc import Iterable

from modelfs import codecs, limits
from modelfs.errors import CorruptError, NotFoundError, UsageError
from modelfs.ids import ChunkId, digest
from modelfs.repository.keys import chunk_key
from modelfs.repository.presence import Presence
from modelfs.store.base import Buffer, Store


class Chunks:
    """Reads and writes the chunks of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._presence = Presence()

    def read(self, chunk: ChunkId, length: int) -> bytes | memoryview:
        """The ``length`` plain bytes of a chunk, verified."""
        key = chunk_key(chunk)
        if not 0 < length <= limits.CHUNK_LENGTH_MAX:
            raise CorruptError(f"chunk {chunk.hex()} is said to have {length} bytes", key)
        try:
            plain = codecs.decode(self._store.get(key), length)
            if digest(plain) != chunk:
                raise CorruptError("its bytes do not match its id", key)
        except NotFoundError as error:
            self._presence.suspect(chunk)
            raise NotFoundError(f"chunk {chunk.hex()} is missing in {self._store.url}", key) from error
        except CorruptError as error:
            self._presence.suspect(chunk)
            raise CorruptError(f"chunk {chunk.hex()} in {self._store.url} is damaged: {error}", key) from error
        self._presence.confirm(chunk)
        return plain

    def write(self, plain: Buffer) -> tuple[ChunkId, int]:
        """Make sure that the store has these bytes: their id, and how many bytes were sent for it."""
        if not 0 < len(plain) <= limits.CHUNK_LENGTH_MAX:
            raise UsageError(f"a chunk of {len(plain)} bytes: 1 to {limits.CHUNK_LENGTH_MAX} fit the format")
        chunk = ChunkId(digest(plain))
        if self._presence.known(chunk):
            return chunk, 0
        key = chunk_key(chunk)
        # An empty object is no encoded chunk, so it is not believed either.
        if not self._presence.doubtful(chunk) and self._store.size(key):
            self._presence.vouch((chunk,))
            return chunk, 0
        encoded = codecs.encode(plain)
        self._store.put(key, encoded)
        self._presence.confirm(chunk)
        return chunk, len(encoded)

    def vouch(self, chunks: Iterable[ChunkId]) -> None:
        """Chunks that a manifest reachable from a branch head refers to need not be asked for."""
        self._presence.vouch(chunks)

    def sizes(self) -> tuple[int, int]:
        """Number of chunks known to be there, and of those known to be bad."""
        return self._presence.sizes()
