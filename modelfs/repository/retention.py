"""Which commits of a branch a retention keeps. Pure.

Without any rule all are kept. With rules a commit is kept if one of them wants it: the newest ``last``; the newest of
each of the newest ``daily`` days, ``weekly`` weeks (ISO 8601, from Monday) and ``monthly`` months that have a commit,
in UTC; all that are younger than ``within`` seconds. The time of a commit is the one that it carries and `log` shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Retention:
    """The rules; None: this one wants nothing. ``within`` in seconds."""

    last: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None
    within: float | None = None

    @property
    def everything(self) -> bool:
        """True when there is no rule, so that all history is kept."""
        return (self.last, self.daily, self.weekly, self.monthly, self.within) == (None,) * 5

    @property
    def dated(self) -> bool:
        """True when times of commits matter."""
        return (self.daily, self.weekly, self.monthly, self.within) != (None,) * 4

    def kept(self, commits: Iterable[tuple[int, float]], now: float) -> set[int]:
        """Numbers of the commits that stay. ``commits``: (number, seconds since the epoch); the newest always stays."""
        newest_first = sorted(commits, reverse=True)
        if self.everything:
            return {number for number, _ in newest_first}
        kept = {number for number, _ in newest_first[: max(1, self.last or 0)]}
        if self.within is not None:
            kept |= {number for number, made in newest_first if made > now - self.within}
        for count, period in ((self.daily, "%Y-%j"), (self.weekly, "%G-%V"), (self.monthly, "%Y-%m")):
            kept |= _newest_of_each(newest_first, count or 0, period)
        return kept


def _newest_of_each(newest_first: list[tuple[int, float]], count: int, period: str) -> set[int]:
    found: dict[str, int] = {}
    for number, made in newest_first:
        if len(found) >= count:
            break
        found.setdefault(_utc(made).strftime(period), number)
    return set(found.values())


def _utc(seconds: float) -> datetime:
    # A commit may carry any time that fits 64 bits of nanoseconds; years outside of 1 to 9999 count as their end.
    return datetime.fromtimestamp(min(max(seconds, -62_135_596_800), 253_402_300_799), UTC)
