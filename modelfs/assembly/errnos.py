"""The errno of an error, for callers that know no other."""

from __future__ import annotations

import errno

from modelfs.errors import ModelfsError, ReadOnlyError


def errno_of(error: ModelfsError) -> int:
    """EROFS where nothing may be written. Else EIO, unless what lies under it is a full disk or a used-up quota."""
    if isinstance(error, ReadOnlyError):
        return errno.EROFS
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return cause.errno
        cause = cause.__cause__
    return errno.EIO
