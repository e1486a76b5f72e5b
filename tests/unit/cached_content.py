"""Files of chunks with known bytes, for tests of the cache."""

from __future__ import annotations

from itertools import accumulate

from modelfs.cache.pins import Wanted
from modelfs.ids import ManifestId, digest
from modelfs.repository.objects import Extent, Manifest

STORE = "ab" * 16
MIB = 1 << 20


class Content:
    """A file of chunks with known bytes."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.manifest = Manifest(sum(map(len, pieces)), tuple(Extent(digest(p), len(p)) for p in pieces))
        self.id = ManifestId(digest(b"".join(digest(p) for p in pieces)))
        self.starts = list(accumulate(map(len, pieces), initial=0))

    def wanted(self, path: bytes = b"f") -> Wanted:
        """What a pin of the whole file keeps."""
        return Wanted(path, self.id, self.manifest)
