"""Staged files -> ordinary files, for `modelfs journal export`.

What was written here is copied from the staging directory. Where the version that the file started from shows through,
its bytes come from the store; without the store such a file is not exported, because holes would read as zeros. A file
gets its name when it is complete.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from modelfs import limits
from modelfs.errors import ModelfsError, UsageError
from modelfs.ids import ChunkId, ManifestId
from modelfs.journal.held import HeldFile
from modelfs.journal.look import data_ranges
from modelfs.repository.objects import Kind
from modelfs.repository.repository import Repository


def needs_store(held: HeldFile) -> bool:
    """True when bytes of the file are only in the store."""
    return bool(_holes(held)) and held.record is not None and held.record.entry.kind is Kind.FILE


def target_of(held: HeldFile, directory: Path) -> Path:
    """Where in ``directory`` a file goes: under its path in the mount, or the name of the staged file."""
    name = held.file.name if held.path is None else os.fsdecode(held.path)
    parts = Path(name).parts
    if not parts or ".." in parts or Path(name).is_absolute():
        raise UsageError(f"{name!r} is no path to export to")
    return directory.joinpath(*parts)


def export_file(held: HeldFile, target: Path, repo: Repository | None) -> int:
    """Write one staged file to ``target``, which must not exist; its size in bytes.

    UsageError when something is there or the bytes are gone; ModelfsError when the store does not give what shows
    through (``repo`` None: it is away). OSError of the target's disk.
    """
    if os.path.lexists(target):
        raise UsageError(f"{target} exists already")
    if not held.file.exists():
        raise UsageError(f"{target.name}: its bytes are gone")
    holes = _holes(held)
    if holes and repo is None and needs_store(held):
        missing = sum(end - start for start, end in holes)
        raise ModelfsError(f"{target}: {missing} of its bytes are only in the store, which is away: not exported")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name[:200]}.{uuid.uuid4().hex[:8]}.part")
    try:
        with partial.open("xb", buffering=0) as file, held.file.open("rb") as source:
            os.truncate(file.fileno(), held.size)
            for start, end in data_ranges(held):
                _copy(source.fileno(), file.fileno(), start, min(end, held.size))
            _fill(held, holes, file.fileno(), repo)
            if held.record is not None:
                os.fchmod(file.fileno(), held.record.entry.mode)
        partial.rename(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return held.size


def _holes(held: HeldFile) -> list[tuple[int, int]]:
    """Where the version that the file started from shows through."""
    found, position = [], 0
    limit = min(held.base_limit, held.size)
    for start, end in data_ranges(held) if limit and held.file.exists() else ():
        if start > position:
            found.append((position, min(start, limit)))
        position = max(position, end)
    if position < limit:
        found.append((position, limit))
    return [(start, end) for start, end in found if start < end]


def _copy(source: int, target: int, start: int, end: int) -> None:
    while start < end:
        data = os.pread(source, min(limits.MiB, end - start), start)
        if not data:
            return  # a damaged file: shorter than what was acknowledged
        start += os.pwrite(target, data, start)


def _fill(held: HeldFile, holes: list[tuple[int, int]], target: int, repo: Repository | None) -> None:
    if not holes or held.record is None:
        return
    entry = held.record.entry
    if entry.kind is Kind.INLINE:
        for start, end in holes:
            os.pwrite(target, entry.content[start:end], start)
        return
    assert repo is not None
    base = 0
    for extent in repo.read_manifest(ManifestId(entry.content)).chunks:
        wanted = [(max(start, base), min(end, base + extent.length)) for start, end in holes]
        wanted = [(start, end) for start, end in wanted if start < end]
        if wanted and extent.id:
            plain = memoryview(repo.read_chunk(ChunkId(extent.id), extent.length))
            for start, end in wanted:
                done = start
                while done < end:
                    done += os.pwrite(target, plain[done - base : end - base], done)
        base += extent.length
