"""What a verifier can know of history on the far side of a gap that a collection left.

A signed commit vouches for all before it through the chain of their ids. Where commits were collected the chain is cut:
a commit below the cut that a trusted key signed speaks for itself and for those before it, up to the next cut. One that
is not signed may have been vouched for by what is gone, or have been put there by somebody. Nobody can tell, so
`vouched_log` ends there with an error of its own, which `Repository.log` raises and commands show as the end of what
can be verified. Who trusts everybody never meets it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from modelfs.errors import UntrustedError, UnvouchedError
from modelfs.repository.commits import Commits
from modelfs.repository.objects import CommitRecord

T = TypeVar("T")


def vouched_log(commits: Commits, start: CommitRecord) -> Iterator[CommitRecord]:
    """As `Commits.log`. UnvouchedError where it goes on below a gap with a commit that nothing vouches for any more;
    UntrustedError where no gap excuses that."""
    record = start
    try:
        for record in commits.log(start):
            yield record
    except UntrustedError as error:
        if record.number - 1 in commits.collected(record.branch):
            raise UnvouchedError(f"{error}, and the commits that may have vouched for it were collected") from error
        raise


def verified(found: Iterator[T], ends: list[str]) -> Iterator[T]:
    """What can be verified of ``found``; why it ends before it is over is added to ``ends``."""
    try:
        yield from found
    except UnvouchedError as error:
        ends.append(f"nothing before this can be verified: {error}")
