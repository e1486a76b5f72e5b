"""Files of the store -> local files without a mount, for `modelfs get`: many chunks at once, straight to their place.

A file is written under a temporary name beside its target and renamed when it is complete, so an interrupted copy
leaves either the old file or none. Blocking; one `Export` serves one command.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from itertools import accumulate
from pathlib import Path

from modelfs import limits
from modelfs.errors import UsageError
from modelfs.ids import ChunkId, ManifestId
from modelfs.repository.objects import Entry, Kind, Manifest
from modelfs.repository.repository import Repository

Progress = Callable[[int], None]  # called with the number of bytes that are done


class Export:
    """Downloads files of one repository; a context manager that owns the threads."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._pool = ThreadPoolExecutor(limits.READ_THREADS, "get")

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def entry(self, entry: Entry, target: Path, progress: Progress) -> None:
        """Make a file, symlink or directory at ``target`` as ``entry`` says; what is in a directory is not copied."""
        if entry.kind is Kind.DIRECTORY:
            target.mkdir(exist_ok=True)
            return
        if entry.kind is Kind.SYMLINK:
            with contextlib.suppress(FileNotFoundError):
                target.unlink()
            target.symlink_to(os.fsdecode(entry.content))
            return
        if entry.kind not in (Kind.FILE, Kind.INLINE):
            raise UsageError(f"{target}: pipes, sockets and devices are not copied")
        partial = target.with_name(f".{target.name[:200]}.{uuid.uuid4().hex[:8]}.part")
        try:
            with partial.open("xb", buffering=0) as file:
                if entry.kind is Kind.INLINE:
                    file.write(entry.content)
                    progress(len(entry.content))
                else:
                    self._chunks(self._repo.read_manifest(ManifestId(entry.content)), file.fileno(), progress)
                os.fchmod(file.fileno(), entry.mode)
            for name, value in entry.xattrs:
                with contextlib.suppress(OSError):  # the target's file system may have none
                    os.setxattr(partial, name, value)
            os.utime(partial, ns=(entry.mtime_ns, entry.mtime_ns))
            partial.rename(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def finish_directory(self, entry: Entry, target: Path) -> None:
        """Mode and time of a directory, once all that belongs into it is there."""
        target.chmod(entry.mode)
        os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))

    def _chunks(self, manifest: Manifest, fd: int, progress: Progress) -> None:
        os.truncate(fd, manifest.size)

        def one(chunk: ChunkId, offset: int, length: int) -> int:
            plain = memoryview(self._repo.read_chunk(chunk, length))
            done = 0
            while done < length:
                done += os.pwrite(fd, plain[done:], offset + done)
            return length

        starts = accumulate((extent.length for extent in manifest.chunks), initial=0)
        waiting: set[Future[int]] = set()
        for extent, start in zip(manifest.chunks, starts, strict=False):
            if not extent.id:
                progress(extent.length)
                continue
            waiting.add(self._pool.submit(one, ChunkId(extent.id), start, extent.length))
            if len(waiting) > 4 * limits.READ_THREADS:
                done = next(as_completed(waiting))
                waiting.discard(done)
                progress(done.result())
        for done in as_completed(waiting):
            progress(done.result())
