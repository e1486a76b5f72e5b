"""Open files and open directories of one mount."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from modelfs.reader.prefetch import Readahead
from modelfs.vfs.nodes import FileNode

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class FileHandle:
    """One open of a file. ``published`` turns True when a FLUSH of it committed something: a handle that is
    written again after that is shared by duplicated descriptors, and commits at RELEASE or fsync from then on."""

    node: FileNode
    writable: bool
    readahead: Readahead = field(default_factory=Readahead)
    published: bool = False


class HandleTable(Generic[T]):
    """Numbers for open things."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[int, T] = {}

    def add(self, handle: T) -> int:
        number = next(self._numbers)
        self._open[number] = handle
        return number

    def __getitem__(self, number: int) -> T:
        return self._open[number]

    def pop(self, number: int) -> T:
        return self._open.pop(number)

    def __len__(self) -> int:
        return len(self._open)
