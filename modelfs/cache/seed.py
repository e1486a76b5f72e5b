"""Copying what a cache holds to a directory, and from there into the cache of another machine.

    DIR/<store id>/files/xx/<manifest id>    a sparse file, as in a cache: each chunk at its natural offset

The directory holds bytes and names, and nothing that anybody would have to believe: who takes it in asks the store for
the manifest of each file and takes only what has the hashes that stand there. So an export that was cut short, or was
changed on its way, costs a fetch and no more. Works beside mounts. Blocking; for `modelfs cache export` and `import`.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from modelfs import limits
from modelfs.cache import sparse
from modelfs.cache.cache import Cache
from modelfs.cache.directory import FILES
from modelfs.cache.files import read_exactly
from modelfs.chunking.zeros import is_zero
from modelfs.errors import CacheError, NotFoundError, UsageError
from modelfs.ids import ChunkId, ManifestId
from modelfs.repository.objects import Manifest

Progress = Callable[[int], None]  # called with the number of bytes that are done


@dataclass(slots=True)
class Exported:
    """What was copied, and what was there already; sizes in bytes."""

    files: int = 0
    copied_bytes: int = 0
    present_bytes: int = 0


@dataclass(slots=True)
class Imported:
    """What became of the files of an export; sizes in bytes. ``unknown_files``: the store has no such manifest (any
    more); ``refused``: the cache had no room; ``damaged``: bytes that are not those of the chunk at their place."""

    files: int = 0
    unknown_files: int = 0
    taken_bytes: int = 0
    present_bytes: int = 0
    refused_bytes: int = 0
    damaged_bytes: int = 0


# -- out --------------------------------------------------------------------------------------------------------------


def export(cache: Cache, target: Path, advance: Progress = lambda count: None) -> Exported:
    """Copy every chunk of the cache to ``target``, which an earlier export may have begun. CacheError, OSError."""
    done = Exported()
    cache.index.flush()
    (target / FILES).mkdir(parents=True, exist_ok=True)
    sparse_disk = _knows_holes(target)
    for row in cache.index.files():
        source = sparse.open_shared(sparse.path_of(cache.files, row.manifest), create=False)
        if source is None:
            continue  # evicted since
        try:
            ranges = [(place.offset, place.length) for _, place in cache.index.places(row.id, row.manifest)]
            if ranges:
                done.files += 1
                path = sparse.path_of(target / FILES, row.manifest)
                _copy(source, row.size, sparse.merged(ranges), path, sparse_disk, done, advance)
        finally:
            os.close(source)
    return done


def _knows_holes(directory: Path) -> bool:
    """False on a disk that cannot tell what was never written from zeros: there every export copies all."""
    with tempfile.TemporaryFile(dir=directory) as file:
        file.truncate(limits.CHUNK_MIN)
        return not _holds(file.fileno(), 0, limits.CHUNK_MIN)


def _copy(
    source: int,
    size: int,
    ranges: list[tuple[int, int]],
    path: Path,
    sparse_disk: bool,
    done: Exported,
    advance: Progress,
) -> None:
    path.parent.mkdir(exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(fd, size)
        for start, length in ranges:
            if sparse_disk and _holds(fd, start, length):
                done.present_bytes += length
            else:
                _copy_range(source, fd, start, length)
                done.copied_bytes += length
            advance(length)
    finally:
        os.close(fd)


def _holds(fd: int, start: int, length: int) -> bool:
    """True when there is no hole in the range."""
    try:
        return os.lseek(fd, start, os.SEEK_DATA) == start and os.lseek(fd, start, os.SEEK_HOLE) >= start + length
    except OSError as error:
        if error.errno != errno.ENXIO:  # nothing but a hole from here on
            raise
        return False


def _copy_range(source: int, target: int, start: int, length: int) -> None:
    done = 0
    while done < length:
        piece = read_exactly(source, start + done, min(length - done, limits.CHUNK_MAX))
        if not piece:
            raise CacheError("a cache file is shorter than its index says")
        sparse.write_all(target, memoryview(piece), start + done)
        done += len(piece)


# -- in ---------------------------------------------------------------------------------------------------------------


def size_of(source: Path) -> int:
    """Bytes that an export takes on its disk. UsageError when it is none."""
    return sum(path.stat().st_blocks * 512 for path, _ in _files(source))


def _files(source: Path) -> Iterator[tuple[Path, ManifestId]]:
    if not (source / FILES).is_dir():
        raise UsageError(f"{source} is not an export of this store's cache")
    return sparse.stored(source / FILES)


def take_in(
    cache: Cache, read_manifest: Callable[[ManifestId], Manifest], source: Path, advance: Progress = lambda count: None
) -> Imported:
    """Take an export into the cache. ``read_manifest``: asks the store; verified. CacheError, OSError, UsageError."""
    done = Imported()
    for path, manifest_id in _files(source):
        try:
            manifest = read_manifest(manifest_id)
        except NotFoundError:
            done.unknown_files += 1
            continue
        done.files += 1
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            _take_file(cache, manifest_id, manifest, fd, done, advance)
        finally:
            os.close(fd)
    return done


def _take_file(
    cache: Cache, manifest_id: ManifestId, manifest: Manifest, fd: int, done: Imported, advance: Progress
) -> None:
    file = cache.open_file(manifest_id, manifest)
    try:
        starts = accumulate((extent.length for extent in manifest.chunks), initial=0)
        for i, (extent, start) in enumerate(zip(manifest.chunks, starts, strict=False)):
            if not extent.id or not _holds(fd, start, extent.length):
                continue
            if file.probe(i) is not None:
                done.present_bytes += extent.length
            else:
                data = read_exactly(fd, start, extent.length)
                if cache.ids.digest(data) != ChunkId(extent.id):
                    # Holes become zeros where a copy was made by a program that does not know them.
                    done.damaged_bytes += 0 if is_zero(memoryview(data)) else extent.length
                elif file.fill(i, data) is None:
                    done.refused_bytes += extent.length
                else:
                    done.taken_bytes += extent.length
            advance(extent.length)
    finally:
        file.close()
