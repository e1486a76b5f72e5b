"""What arrives damaged is asked for once more: it may have been damaged on its way, and then there is nothing wrong.

Everything that reads objects of a store and can tell that one is not what it should be goes through `twice`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from modelfs.errors import CorruptError

log = logging.getLogger(__name__)

T = TypeVar("T")


def twice(read: Callable[[], T], key: str) -> T:
    """The result of ``read``, which fetches and verifies; ValueError or CorruptError only if it raises it twice."""
    try:
        return read()
    except (ValueError, CorruptError) as error:
        log.warning("%s arrived damaged (%s), asking for it once more", key, error)
    return read()
