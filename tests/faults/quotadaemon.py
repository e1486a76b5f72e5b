"""A mount daemon on a local store with a quota: ``quotadaemon.py STORE MOUNTPOINT CACHE FLAG``, in the foreground.

While the file FLAG exists, every object larger than a page is refused with EDQUOT, as the disk of somebody who has used
up his quota does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from modelfs.config import MountOptions
from modelfs.fuse import daemon
from modelfs.store import local
from modelfs.store.base import Buffer


def main() -> int:
    store, mountpoint, cache, flag = map(Path, sys.argv[1:])
    written = local.LocalStore._written

    @contextlib.contextmanager
    def with_quota(self: local.LocalStore, data: Buffer) -> Iterator[Path]:
        if flag.exists() and len(data) > 4096:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        with written(self, data) as temporary:
            yield temporary

    local.LocalStore._written = with_quota  # type: ignore[method-assign]
    daemon.setup_logging(sys.stderr, debug=False)
    return daemon.mount_foreground(MountOptions(store_url=str(store), mountpoint=mountpoint, cache_dir=cache))


if __name__ == "__main__":
    sys.exit(main())
