"""Which chunks are links, and whether their originals are still what they were.

A store without sources has none, and is asked one question. In others the object of every chunk that is small enough to
be a link is read: that is one small request for each linked chunk. An original is looked at once, however many chunks
lie in it. Used by fsck, `du`, `stat` and `materialise`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from modelfs import limits
from modelfs.codecs import Link
from modelfs.errors import CorruptError
from modelfs.ids import ChunkId
from modelfs.repository.damage import Damage, Problem, Sort
from modelfs.repository.keys import chunk_key
from modelfs.repository.originals import Seen, State
from modelfs.repository.repository import Repository

Original = tuple[bytes, bytes, int, int]  # of a link: source, key, size, time

_PROBLEMS = {
    State.GONE: Problem.BROKEN,
    State.RESIZED: Problem.BROKEN,
    State.TOUCHED: Problem.CHANGED,
    State.AWAY: Problem.AWAY,
}


def links_among(
    repo: Repository, lengths: Mapping[ChunkId, int], stored: Callable[[ChunkId], int | None]
) -> dict[ChunkId, Link]:
    """The chunks that are links. ``lengths``: their plain bytes; ``stored``: bytes of their objects, None without one.
    What is no link that can be read is none here. StoreError."""
    if not repo.sources():
        return {}
    small = [
        chunk
        for chunk, length in lengths.items()
        if length > limits.LINK_OBJECT_MAX and 0 < (stored(chunk) or 0) <= limits.LINK_OBJECT_MAX
    ]
    with ThreadPoolExecutor(limits.STORE_CONCURRENCY, "links") as pool:
        found = zip(small, pool.map(lambda chunk: _link(repo, chunk), small), strict=True)
        return {chunk: link for chunk, link in found if link is not None}


def _link(repo: Repository, chunk: ChunkId) -> Link | None:
    try:
        return repo.stored_link(chunk)
    except CorruptError:  # which its own check says
        return None


def originals(links: Iterable[Link]) -> dict[Original, Link]:
    """One link for each original that links speak of, and each state of it that they remember."""
    return {_original(link): link for link in links}


def look(repo: Repository, links: Mapping[ChunkId, Link]) -> Iterator[tuple[ChunkId, Seen]]:
    """What the originals of links look like now."""
    distinct = originals(links.values())
    with ThreadPoolExecutor(limits.STORE_CONCURRENCY, "originals") as pool:
        seen = dict(zip(distinct, pool.map(repo.look_at_original, distinct.values()), strict=True))
    for chunk, link in links.items():
        yield chunk, seen[_original(link)]


def damage_of(repo: Repository, chunk: ChunkId, length: int, seen: Seen) -> Damage | None:
    """What is wrong with a linked chunk; None when nothing is, and when nobody may look."""
    problem = _PROBLEMS.get(seen.state)
    if problem is None:
        return None
    reason = f"chunk {chunk.hex()} in {repo.store.url} is a link: {seen.place} {seen.why}".replace("  ", " ")
    return Damage(Sort.CHUNK, chunk_key(chunk), problem, reason, chunk, length, original=seen.place)


def _original(link: Link) -> Original:
    return link.source, link.key, link.size, link.mtime_ns
