"""Which tensors differ between two versions of a file, and in how many bytes.

Pieces that are the same chunk on both sides are not read. The rest is read and counted, so the numbers are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelfs import limits
from modelfs.formats.layout import Layout, Span, unique_names
from modelfs.repository.objects import Manifest
from modelfs.repository.ranges import Ranges
from modelfs.repository.repository import Repository

_STEP: Final = limits.CHUNK_AVG  # large tensors are cut at such distances from their start, so pieces line up


@dataclass(frozen=True, slots=True)
class TensorChange:
    """A tensor that differs. ``before``/``after`` None: it is not there. ``changed``: bytes that are not the same,
    those that only the longer one has included."""

    name: str
    before: Span | None
    after: Span | None
    changed: int


def compare_tensors(
    repo: Repository, before: Manifest, after: Manifest, progress: Callable[[int], None] = lambda count: None
) -> list[TensorChange] | None:
    """Tensors that differ, by name; None when the format of one side is unknown. ``progress`` is called with bytes
    that have been compared; they sum to the size of ``after``'s tensors at most."""
    old, new = repo.read_layout(before), repo.read_layout(after)
    if old is None or new is None:
        return None
    a, b = _named(old), _named(new)
    ours, theirs = Ranges(repo, before), Ranges(repo, after)
    changes = [TensorChange(name, a[name], None, a[name].length) for name in a.keys() - b.keys()]
    changes += [TensorChange(name, None, b[name], b[name].length) for name in b.keys() - a.keys()]
    common = [name for name in b if name in a]
    with ThreadPoolExecutor(limits.READ_THREADS, "diff") as pool:
        counts = pool.map(lambda name: _differing(ours, a[name], theirs, b[name]), common)
        for name, count in zip(common, counts, strict=True):
            progress(b[name].length)
            if count or a[name].dtype != b[name].dtype or a[name].shape != b[name].shape:
                changes.append(TensorChange(name, a[name], b[name], count))
    return sorted(changes, key=lambda change: change.name)


def _named(layout: Layout) -> dict[str, Span]:
    return dict(zip(unique_names(layout), layout.spans, strict=True))


def _differing(ours: Ranges, before: Span, theirs: Ranges, after: Span) -> int:
    common = min(before.length, after.length)
    count = max(before.length, after.length) - common
    for at in range(0, common, _STEP):
        length = min(_STEP, common - at)
        left, right = (before.offset + at, length), (after.offset + at, length)
        if ours.parts(*left) != theirs.parts(*right):
            a, b = np.frombuffer(ours.read(*left), np.uint8), np.frombuffer(theirs.read(*right), np.uint8)
            count += int(np.count_nonzero(a != b))
    return count
