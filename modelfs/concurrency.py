"""Small additions to trio that several layers share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """One single exception inside nested groups: an errno and a log line have room for one cause."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        errors = [e for e in error.exceptions if not isinstance(e, trio.Cancelled)]
        error = errors[0] if errors else error.exceptions[0]
    return error


@asynccontextmanager
async def together() -> AsyncIterator[trio.Nursery]:
    """A nursery for parts of one job: when parts fail, the job fails with the first part's own exception."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        error = first_cause(group)
        raise error from error.__cause__  # what lies under it decides the errno
