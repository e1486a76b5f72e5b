"""What a check of the doctor says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One judged fact. ``advice``: what to do about it; "" when there is nothing to do."""

    level: Literal["ok", "warn", "fail"]
    check: str
    fact: str
    advice: str = ""


def ok(check: str, fact: str) -> Finding:
    """Nothing to do."""
    return Finding("ok", check, fact)


def warn(check: str, fact: str, advice: str) -> Finding:
    """Mounts work, but slower, or with less room or comfort, than they could."""
    return Finding("warn", check, fact, advice)


def fail(check: str, fact: str, advice: str) -> Finding:
    """Mounts do not work, or lose what they should keep."""
    return Finding("fail", check, fact, advice)
