"""Links become the chunks that they stand for, in their place: what `modelfs materialise` does.

Every chunk that a commit reaches and that is a link is read where it leads, verified, and written whole. Each is
replaced for itself, so a run may end anywhere, and the next one goes on with what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

from modelfs import limits
from modelfs.errors import BrokenLinkError, CorruptError, LinkError, LinkRefusedError, NotFoundError
from modelfs.ids import ChunkId
from modelfs.repository.repository import Repository


@dataclass(slots=True)
class Materialised:
    """What became of the links. Sizes in bytes: ``bytes`` plain, ``sent`` as stored. ``refused``: chunks whose
    originals may not be read here; ``failed``: why others could not be had, by original."""

    chunks: int = 0
    bytes: int = 0
    sent: int = 0
    refused: int = 0
    failed_chunks: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def materialise(repo: Repository, lengths: Mapping[ChunkId, int], progress: Callable[[int], None]) -> Materialised:
    """Write linked chunks whole. ``lengths``: their plain bytes. StoreError when the store itself fails."""
    report = Materialised()

    def write(chunk: ChunkId) -> int:
        return repo.write_chunk(repo.read_chunk(chunk, lengths[chunk]))[1]

    with ThreadPoolExecutor(limits.UPLOAD_THREADS, "materialise") as pool:
        waiting = {pool.submit(write, chunk): chunk for chunk in lengths}
        try:
            for future in as_completed(waiting):
                length = lengths[waiting[future]]
                try:
                    report.sent += future.result()
                    report.chunks += 1
                    report.bytes += length
                except LinkRefusedError:
                    report.refused += 1
                except (BrokenLinkError, LinkError) as error:
                    report.failed_chunks += 1
                    report.failed.setdefault(error.original, str(error))
                except (NotFoundError, CorruptError) as error:
                    report.failed_chunks += 1
                    report.failed.setdefault(error.key, str(error))
                progress(length)
        finally:
            for future in waiting:
                future.cancel()
    return report
