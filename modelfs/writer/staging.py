"""The bytes of one file while it is being written: a sparse local file over the version it started from.

`StagedFile` knows three things about the current content: which bytes lie in the local file (``present``), up to
where the version it started from still shows through (``base_limit``), and which pieces are already cut into chunks
(``cuts``). A write or truncation throws away the cuts it touches, so what is left uncut is exactly what a finish
has to cut. Bookkeeping happens on the event loop; only `pwrite`, `pread` and the cutting run in worker threads.
"""

from __future__ import annotations

import ctypes
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from modelfs import limits
from modelfs.repository.objects import Extent, Manifest
from modelfs.writer.intervals import IntervalSet

# Linux only, and not in the os module; CDLL lets go of the GIL. Flag from <linux/fs.h>.
_SYNC_FILE_RANGE_WRITE: Final = 2
_sync_file_range = ctypes.CDLL(None).sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

ReadBase = Callable[[int, int], bytes]  # (offset, length) -> bytes of the base version; blocking


@dataclass(eq=False, slots=True)
class Claim:
    """A range being cut at this moment; ``valid`` turns False when a write touches it meanwhile. ``sending``: its
    pieces are known and on their way to the store."""

    start: int
    end: int
    valid: bool = True
    sending: bool = False


@dataclass(slots=True)
class _Cuts:
    """Sorted chunk pieces of the current content: start offsets and their extents."""

    starts: list[int] = field(default_factory=list)
    extents: list[Extent] = field(default_factory=list)


class StagedFile:
    """Content of one inode between its first write and the commit that carries it."""

    def __init__(self, path: Path, base: Manifest | None, base_bytes: bytes | None = None) -> None:
        """Create the local file at ``path`` (must not exist) over ``base`` (a manifest, inline bytes or nothing)."""
        self._begin(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), base)
        if base is None and base_bytes:
            try:
                self.pwrite(base_bytes, 0)
            except OSError:
                self.close()
                raise
            self.present.add(0, len(base_bytes))
            self.size = len(base_bytes)

    def _begin(self, path: Path, fd: int, base: Manifest | None) -> None:
        self.path = path
        self.fd = fd
        self.base = base
        self.present = IntervalSet()
        self.base_limit = base.size if base is not None else 0
        self.size = self.base_limit
        self.generation = 0  # counts changes: a finish that saw generation g covers exactly the changes up to g
        self._cuts = _Cuts()
        self._claims: list[Claim] = []
        self._in_flight: list[tuple[int, int]] = []
        self._unsent = 0  # bytes written since the kernel was last told to bring them to the disk
        if base is not None:
            pos = 0
            for extent in base.chunks:
                self._cuts.starts.append(pos)
                self._cuts.extents.append(extent)
                pos += extent.length

    @classmethod
    def reopen(
        cls, path: Path, base: Manifest | None, size: int, base_limit: int, present: Iterable[tuple[int, int]]
    ) -> StagedFile:
        """A staged file that was left at ``path``, with the content that is known of it. OSError: it is not there."""
        self = cls.__new__(cls)
        self._begin(path, os.open(path, os.O_RDWR | os.O_CLOEXEC), base)
        limit = min(base_limit, self.base_limit)
        self._drop_cuts(limit, self.size)
        self.base_limit = limit
        self.size = size
        for start, end in present:
            self.present.add(start, end)
            self._drop_cuts(start, end)
        return self

    # -- changes ------------------------------------------------------------------------------------------------

    def note_write(self, start: int, end: int) -> None:
        """Record that ``[start, end)`` is written; before the bytes go down, which nothing may come between."""
        self.generation += 1
        self.present.add(start, end)
        self.size = max(self.size, end)
        self._drop_cuts(start, end)

    def begin_write(self, start: int, end: int) -> None:
        """Record that ``[start, end)`` is about to be written by a worker thread; `end_write` must follow."""
        self.note_write(start, end)
        self._in_flight.append((start, end))

    def end_write(self, start: int, end: int) -> None:
        """The worker thread is done: what was read or cut of the range meanwhile does not count."""
        self._in_flight.remove((start, end))
        self.note_write(start, end)

    def settled(self, start: int, end: int) -> bool:
        """True when all of ``[start, end)`` is written and no write to it is on its way."""
        return self.present.covers(start, end) and not any(a < end and start < b for a, b in self._in_flight)

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write all of ``data`` to the local file; blocking. OSError (ENOSPC, EDQUOT, EIO) as the disk says."""
        view = memoryview(data)
        while view:
            n = os.pwrite(self.fd, view, offset)
            view = view[n:]
            offset += n

    def pwrite_through(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """As `pwrite`, and now and then have the kernel begin to bring what was written to the disk, so that `sync`
        finds little left to do."""
        self.pwrite(data, offset)
        self._unsent += len(data)  # racing threads may lose count, which delays a hint
        if self._unsent >= limits.SYNC_BEHIND:
            self._unsent = 0
            # Only a hint: what fails here fails again, and is reported, in `sync`.
            _sync_file_range(self.fd, 0, 0, _SYNC_FILE_RANGE_WRITE)

    def truncate(self, size: int) -> None:
        """Cut or extend to ``size`` bytes; what is added reads as zeros."""
        if size == self.size:
            return
        self.generation += 1
        if size < self.size:
            self.present.remove(size, self.size)
            self.base_limit = min(self.base_limit, size)
            self._drop_cuts(size, self.size)
        else:
            # The last piece ended at the old end of file: it may only keep standing if it need not grow.
            self._drop_short_tail()
        os.ftruncate(self.fd, size)
        self.size = size

    def _drop_cuts(self, start: int, end: int) -> None:
        cuts = self._cuts
        lo = max(bisect_right(cuts.starts, start) - 1, 0)
        if lo < len(cuts.starts) and cuts.starts[lo] + cuts.extents[lo].length <= start:
            lo += 1
        hi = bisect_left(cuts.starts, end)
        if lo < hi:
            del cuts.starts[lo:hi]
            del cuts.extents[lo:hi]
        for claim in self._claims:
            if claim.start < end and start < claim.end:
                claim.valid = False

    def _drop_short_tail(self) -> None:
        if self._cuts.starts and self._cuts.starts[-1] + self._cuts.extents[-1].length == self.size:
            del self._cuts.starts[-1:], self._cuts.extents[-1:]

    # -- cutting ------------------------------------------------------------------------------------------------

    def claim(self, start: int, end: int) -> Claim:
        """Announce that ``[start, end)`` is about to be read for cutting."""
        claim = Claim(start, end)
        self._claims.append(claim)
        return claim

    def cut(self, claim: Claim, end: int) -> None:
        """All of a claim up to ``end`` is cut and on its way: nobody else need cut it unless it is given up."""
        claim.end = end
        claim.sending = True

    def sending(self) -> list[Claim]:
        """Claims whose pieces are on their way and still count."""
        return [claim for claim in self._claims if claim.sending and claim.valid]

    def settle(self, claim: Claim, extents: list[Extent]) -> bool:
        """Record the pieces cut from a claim, unless a write spoilt it; they cover it from its start."""
        self._claims.remove(claim)
        if not claim.valid:
            return False
        at = bisect_left(self._cuts.starts, claim.start)
        starts, pos = [], claim.start
        for extent in extents:
            starts.append(pos)
            pos += extent.length
        self._cuts.starts[at:at] = starts
        self._cuts.extents[at:at] = extents
        return True

    def abandon(self, claim: Claim) -> None:
        """Give a claim up without a result."""
        if claim in self._claims:
            self._claims.remove(claim)

    def drop_cuts_from(self, offset: int) -> None:
        """Forget every piece that reaches behind ``offset``, to be cut again (the layout turned out different)."""
        self._drop_cuts(offset, max(self.size, offset))

    def gaps(self, absorb_below: int = 0) -> list[tuple[int, int]]:
        """Ranges of ``[0, size)`` that are neither cut nor on their way; a piece shorter than ``absorb_below`` beside
        one joins it."""
        starts, extents = self._cuts.starts, self._cuts.extents
        if absorb_below:
            # Appends would otherwise leave a trail of tiny chunks, one for each close.
            doomed = set()
            for start, end in self.gaps():
                i = bisect_left(starts, start) - 1
                if i >= 0 and extents[i].id and extents[i].length < absorb_below:
                    doomed.add(i)
                j = bisect_left(starts, end)
                if j < len(starts) and extents[j].id and extents[j].length < absorb_below:
                    doomed.add(j)
            for i in sorted(doomed, reverse=True):
                del starts[i], extents[i]
        covered = [(start, start + extent.length) for start, extent in zip(starts, extents, strict=True)]
        if under_way := self.sending():
            covered = sorted([*covered, *((claim.start, claim.end) for claim in under_way)])
        found, pos = [], 0
        for start, end in covered:
            if start > pos:
                found.append((pos, start))
            pos = end
        if pos < self.size:
            found.append((pos, self.size))
        return found

    def cut_end_before(self, offset: int) -> int:
        """End of the last piece that starts before ``offset``, one on its way included (0 when there is none)."""
        i = bisect_left(self._cuts.starts, offset) - 1
        settled = self._cuts.starts[i] + self._cuts.extents[i].length if i >= 0 else 0
        return max([settled, *(claim.end for claim in self.sending() if claim.start < offset)])

    def manifest(self, tensors: bytes = b"") -> Manifest:
        """The manifest of the current content, with the id of its tensor table. ValueError while something is uncut."""
        if self.gaps():
            raise ValueError("the file has parts that are not cut into chunks")
        merged: list[Extent] = []
        for extent in self._cuts.extents:
            if merged and not extent.id and not merged[-1].id:
                merged[-1] = Extent(b"", merged[-1].length + extent.length)
            else:
                merged.append(extent)
        return Manifest(self.size, tuple(merged), tensors)

    # -- reading ------------------------------------------------------------------------------------------------

    def pieces(self, start: int, end: int) -> Iterator[tuple[int, int, str]]:
        """Where ``[start, end)`` (clipped to the size) comes from: ``(start, end, "local"|"base"|"zero")``."""
        for a, b, here in self.present.split(start, min(end, self.size)):
            if here:
                yield a, b, "local"
            elif a >= self.base_limit:
                yield a, b, "zero"
            elif b <= self.base_limit:
                yield a, b, "base"
            else:
                yield a, self.base_limit, "base"
                yield self.base_limit, b, "zero"

    def whole(self) -> bool:
        """True when every byte lies in the local file or is a zero that never was base data."""
        return all(where != "base" for _, _, where in self.pieces(0, self.size))

    def snapshot(self, read_base: ReadBase) -> Callable[[int, int], bytes]:
        """``read(offset, length)`` of the content as it is laid out now, for one worker thread."""
        plan = list(self.pieces(0, self.size))
        starts = [start for start, _, _ in plan]

        def read(offset: int, length: int) -> bytes:
            end = min(offset + length, plan[-1][1]) if plan else 0
            if offset >= end:
                return b""
            wanted = plan[bisect_right(starts, offset) - 1 : bisect_left(starts, end)]
            return bytes(self.read([(max(a, offset), min(b, end), where) for a, b, where in wanted], read_base))

        return read

    def read(self, plan: list[tuple[int, int, str]], read_base: ReadBase) -> bytearray:
        """Bytes of a list of consecutive `pieces`; blocking."""
        start, end = plan[0][0], plan[-1][1]
        out = bytearray(end - start)
        view = memoryview(out)
        for a, b, where in plan:
            target = view[a - start : b - start]
            if where == "local":
                done = 0
                while done < b - a:
                    n = os.preadv(self.fd, [target[done:]], a + done)
                    if n == 0:
                        break  # truncated meanwhile: the rest reads as zeros
                    done += n
            elif where == "base":
                target[:] = read_base(a, b - a)
        return out

    def sync(self) -> None:
        """fsync the local file; blocking."""
        os.fsync(self.fd)

    def close(self, *, keep: bool = False) -> None:
        """Close the local file and, unless ``keep``, remove it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if not keep:
            self.path.unlink(missing_ok=True)
