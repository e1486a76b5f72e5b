"""The mount daemon over a store that fails as told: `python -m faultydaemon FD`, started by `Machine.mount(faults=…)`.

It differs from `modelfs.fuse.daemon` in how the store is opened, and in waiting less between the attempts.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from faultystore import VARIABLE, Steered

from modelfs import limits
from modelfs.fuse.daemon import Ready, child
from modelfs.store.open import open_backend
from modelfs.store.retry import RetryStore

ATTEMPTS = 5
FIRST_BACKOFF = 0.002  # seconds
PROBE_PAUSE = 0.02


def open_faulty(url: str, *, timeout: float) -> RetryStore:
    """The store at ``url``, failing as the plan says."""
    limits.STORE_PROBE_PAUSE = PROBE_PAUSE  # type: ignore[misc]
    faulty = Steered(Path(os.environ[VARIABLE])).over(open_backend(url))
    return RetryStore(faulty, attempts=ATTEMPTS, first=FIRST_BACKOFF, budget=timeout)


if __name__ == "__main__":
    sys.exit(child(Ready(int(sys.argv[1])), open_faulty))
