"""Sizes, durations and addresses as people write them: on the command line, in the environment, in configuration files.

Pure. What is none raises UsageError with one line that says what one looks like.
"""

from __future__ import annotations

import re
from typing import Final

from modelfs import limits
from modelfs.errors import UsageError

_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY: Final = {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]I?|)B?", re.IGNORECASE)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhdw])")


def parse_size(text: str) -> int:
    """ "50GB", "50GiB", "1.5T" or plain bytes -> bytes. UsageError otherwise."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"not a size: {text[:80]!r} (such as 50GB or 512MiB)")
    unit = found[2].upper()
    count = float(found[1]) * (_UNITS.get(unit) or _BINARY[unit])
    if count > limits.FILE_SIZE_MAX:
        raise UsageError(f"not a size: {text[:80]!r} (it is larger than any file can be)")
    return int(count)


def size_text(count: int) -> str:
    """The shortest text of which `parse_size` makes exactly ``count`` bytes: "50GB", "512MiB", "1234"."""
    for names in (_UNITS, _BINARY):
        for unit, factor in sorted(names.items(), key=lambda pair: -pair[1]):
            if unit and count and count % factor == 0:
                return f"{count // factor}{unit.replace('I', 'i')}B"
    return str(count)


def parse_duration(text: str) -> float:
    """Seconds of "90s", "30m", "24h", "7d", "2w". UsageError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise UsageError(f"not a duration: {text[:40]!r} (a number and s, m, h, d or w, as in 24h)")
    return float(found[1]) * _SECONDS[found[2]]


def parse_address(option: str, address: str) -> tuple[str, int]:
    """ "127.0.0.1:9101" or ":0" (this machine, any port) -> host and port. UsageError that names ``option``."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or ":" in host:
        raise UsageError(f"{option} {address}: not HOST:PORT, such as 127.0.0.1:9101")
    return host or "127.0.0.1", int(port)
