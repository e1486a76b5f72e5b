"""What lies under ``gc/``: keys and contents (docs/store-format.md, "Collection").

    gc/runs/<20 digits>               who collects, or who did last; the highest number counts
    gc/condemned/<run>-<6 digits>     a sentence: ids that nothing reached, to be deleted by a later run
    gc/executing/<sentence>.<token>   a run is deleting what that sentence names
    gc/history/<branch>               numbers of the commits of a branch that were collected

Pure; every object that arrives is checked here, and a ValueError says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from modelfs import limits
from modelfs.ids import ID_LENGTH
from modelfs.repository.checks import REF_NAME
from modelfs.repository.envelope import unwrap, wrap

GC: Final = "gc/"
RUNS: Final = "gc/runs/"
CONDEMNED: Final = "gc/condemned/"
EXECUTING: Final = "gc/executing/"
HISTORY: Final = "gc/history/"

DATA: Final = "data"
META: Final = "meta"
DELTAS: Final = "deltas"
_COMMITS: Final = "commits/"

_RUN: Final = re.compile(r"gc/runs/([0-9]{20})")
_SENTENCE: Final = re.compile(r"gc/condemned/([0-9]{20}-[0-9]{6})")
_FLAG: Final = re.compile(r"gc/executing/([0-9]{20}-[0-9]{6})\.([0-9a-f]{32})")
_AREA: Final = re.compile(rf"data|meta|deltas|commits/{REF_NAME.pattern}")

_Number = Annotated[int, Meta(ge=1, le=limits.FILE_SIZE_MAX)]
_Seconds = Annotated[float, Meta(ge=0)]
_Text = Annotated[str, Meta(max_length=256)]


class Run(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One collection. ``token`` is random and names it for good; ``grace`` in seconds; ``ended`` when it is over."""

    token: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    host: _Text
    pid: int
    user: _Text
    grace: _Seconds
    ended: bool


class Sentence(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Objects of one area that nothing reached, all of them written at or before ``before`` (the store's clock).

    ``ids``, sorted, one after the other: 32 bytes of an id in "data" and "meta", 64 (base, delta) in "deltas", 8
    (a number, big-endian) in "commits/<branch>".
    """

    area: Annotated[str, Meta(max_length=80)]
    before: _Seconds
    ids: Annotated[bytes, Meta(min_length=8, max_length=limits.GC_SENTENCE_MAX)]

    @property
    def width(self) -> int:
        """Bytes of one id."""
        return 8 if self.branch else 2 * ID_LENGTH if self.area == DELTAS else ID_LENGTH

    @property
    def branch(self) -> str:
        """The branch whose commits these are, "" for other objects."""
        return self.area.removeprefix(_COMMITS) if self.area.startswith(_COMMITS) else ""

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self.ids), self.width):
            yield self.ids[start : start + self.width]

    def __len__(self) -> int:
        return len(self.ids) // self.width


class Collected(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Numbers of the commits of a branch that were collected: (first, last), sorted, not touching each other."""

    ranges: tuple[tuple[_Number, _Number], ...]

    def __contains__(self, number: int) -> bool:
        return any(first <= number <= last for first, last in self.ranges)

    def below(self, number: int) -> int:
        """The highest number up to ``number`` that was not collected; 0: there is none."""
        for first, last in reversed(self.ranges):
            if first <= number <= last:
                number = first - 1
        return number

    def above(self, number: int) -> int:
        """The lowest number from ``number`` on that was not collected."""
        for first, last in self.ranges:
            if first <= number <= last:
                number = last + 1
        return number

    def joined(self, numbers: Iterable[int]) -> Collected:
        """With more numbers."""
        joined: list[tuple[int, int]] = []
        for first, last in sorted([*self.ranges, *((number, number) for number in numbers)]):
            if joined and first <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
            else:
                joined.append((first, last))
        return Collected(tuple(joined))


NOTHING: Final = Collected(())


def commits_area(branch: str) -> str:
    """Area of the commits of a branch."""
    return _COMMITS + branch


def run_key(number: int) -> str:
    """Key of a run."""
    return f"{RUNS}{number:020d}"


def parse_run_key(key: str) -> int | None:
    """Number of the run, or None when the key is no run's."""
    found = _RUN.fullmatch(key)
    return int(found[1]) if found else None


def sentence_name(run: int, count: int) -> str:
    """Name of a sentence; never used twice, because no run number is."""
    return f"{run:020d}-{count:06d}"


def sentence_key(name: str) -> str:
    """Key of a sentence."""
    return CONDEMNED + name


def parse_sentence_key(key: str) -> str | None:
    """Name of the sentence, or None when the key is none's."""
    found = _SENTENCE.fullmatch(key)
    return found[1] if found else None


def flag_key(sentence: str, token: str) -> str:
    """Key of the flag that a run executes a sentence."""
    return f"{EXECUTING}{sentence}.{token}"


def parse_flag_key(key: str) -> tuple[str, str] | None:
    """Sentence and token of the run, or None when the key is no such flag."""
    found = _FLAG.fullmatch(key)
    return (found[1], found[2]) if found else None


def history_key(branch: str) -> str:
    """Key of what was collected of a branch's history."""
    return HISTORY + branch


T = TypeVar("T")

_run: Final = msgspec.msgpack.Decoder(Run)
_sentence: Final = msgspec.msgpack.Decoder(Sentence)
_collected: Final = msgspec.msgpack.Decoder(Collected)


def pack(value: Run | Sentence | Collected) -> bytes:
    """The bytes to store."""
    return wrap(msgspec.msgpack.encode(value))


def unpack_run(stored: bytes | bytearray | memoryview) -> Run:
    """A run. ValueError."""
    return _decode(_run, stored)


def unpack_sentence(stored: bytes | bytearray | memoryview) -> Sentence:
    """A sentence that obeys the format. ValueError."""
    made = _decode(_sentence, stored)
    if not _AREA.fullmatch(made.area):
        raise ValueError(f"the area {made.area!r}")
    if len(made.ids) % made.width:
        raise ValueError(f"{len(made.ids)} bytes of ids in the area {made.area}")
    return made


def unpack_collected(stored: bytes | bytearray | memoryview) -> Collected:
    """What was collected of a history. ValueError."""
    made = _decode(_collected, stored)
    last = -1
    for low, high in made.ranges:
        if low <= last + 1 or high < low:
            raise ValueError(f"the numbers {low} to {high} out of order")
        last = high
    return made


def _decode(decoder: msgspec.msgpack.Decoder[T], stored: bytes | bytearray | memoryview) -> T:
    try:
        return decoder.decode(unwrap(stored))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
