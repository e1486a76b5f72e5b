"""What can be wrong with a stored object, and whom it hurts: the vocabulary of fsck, repair and scrub.

A `Damage` is about one object, named by its key. It is found by `survey` (metadata) and `verify` (chunks), traced to
paths and commits by `trace`, and put right by `repair`, which notes where the intact copy came from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from modelfs.errors import BrokenLinkError, CorruptError, LinkError, NotFoundError, StoreError
from modelfs.repository.keys import DATA


class Sort(StrEnum):
    """What the object is, in the repository's own words."""

    CHUNK = "chunk"
    MANIFEST = "manifest"
    TABLE = "tensor table"
    PAGE = "tree page"
    COMMIT = "commit"
    TAG = "tag"
    FORMAT = "format"
    NOTE = "delta note"


class Problem(StrEnum):
    """What is wrong with it."""

    MISSING = "missing"
    DAMAGED = "damaged"  # bytes that do not match the id or the format
    CONTRADICTORY = "contradictory"  # sound by itself, but not what other objects say of it
    BROKEN = "broken link"  # to an original that is gone or has other bytes
    CHANGED = "changed original"  # which may have the same bytes all the same: nobody read them
    AWAY = "original not reached"  # so that nobody knows


@dataclass(slots=True)
class Hurt:
    """A path that cannot be read as it was, and where: runs of commits of a branch, as (branch, first, last)."""

    path: bytes
    runs: list[tuple[str, int, int]] = field(default_factory=list)

    def add(self, branch: str, number: int) -> None:
        """One more commit; those of a branch come in ascending order."""
        if self.runs and self.runs[-1][0] == branch and self.runs[-1][2] == number - 1:
            self.runs[-1] = (branch, self.runs[-1][1], number)
        else:
            self.runs.append((branch, number, number))

    def commits(self) -> list[str]:
        """The runs for people: "main@3", "main@5..9"."""
        return [f"{b}@{first}" if first == last else f"{b}@{first}..{last}" for b, first, last in self.runs]


@dataclass(slots=True)
class Damage:
    """One object in trouble. ``id``: its id, b"" for commits, tags and notes. ``length``: plain bytes of a chunk.

    ``hurts``: by path; b"" stands for the whole tree of a commit. ``repaired``: where the intact copy came from, ""
    when it is not repaired. ``original``: of a link, where it leads.
    """

    sort: Sort
    key: str
    problem: Problem
    reason: str
    id: bytes = b""
    length: int = 0
    hurts: dict[bytes, Hurt] = field(default_factory=dict)
    repaired: str = ""
    original: str = ""

    def hurt(self, path: bytes, branch: str, number: int) -> None:
        """A path in a commit that needs the object."""
        self.hurts.setdefault(path, Hurt(path)).add(branch, number)


class Damages:
    """Everything found, one `Damage` for each key: the first word about an object counts."""

    def __init__(self) -> None:
        self._found: dict[str, Damage] = {}

    def add(self, damage: Damage) -> bool:
        """Note a damage; False when the object was known to be in trouble."""
        if damage.key in self._found:
            return False
        self._found[damage.key] = damage
        return True

    def get(self, key: str) -> Damage | None:
        """What is known of the object."""
        return self._found.get(key)

    def __iter__(self) -> Iterator[Damage]:
        return iter(list(self._found.values()))

    def __len__(self) -> int:
        return len(self._found)

    def left(self) -> int:
        """How many are not repaired."""
        return sum(not damage.repaired for damage in self._found.values())


def problem_of(error: NotFoundError | CorruptError | LinkError) -> Problem:
    """What the failure of a read says about its object."""
    if isinstance(error, BrokenLinkError | LinkError):
        return Problem.BROKEN if isinstance(error, BrokenLinkError) else Problem.AWAY
    return Problem.MISSING if isinstance(error, NotFoundError) else Problem.DAMAGED


def culprit(error: BaseException) -> str | None:
    """Key of the chunk that a failed read of a chunk is really about: its own, or that of the base it builds upon."""
    found = None
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, StoreError | CorruptError) and cause.key.startswith(DATA):
            found = cause.key
        cause = cause.__cause__
    return found
