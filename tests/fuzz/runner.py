"""Running one target over many inputs: what it raises, how long it takes, how much memory it holds.

A finding is an exception that the target does not allow (an AssertionError of its checks included), an input that
takes longer than ``HANG`` seconds, or one whose peak of allocations is above the target's bound.
"""

from __future__ import annotations

import signal
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

from fuzz.mutate import Inputs
from fuzz.targets import Target

HANG: Final = 10.0  # of processor time: how busy the machine is does not matter
_MEASURED: Final = 8  # one in so many inputs is run with its allocations traced
_TRACED: Final = 4  # which takes so many times longer


class HangError(BaseException):
    """Not an Exception, so that no decoder takes it for one of its own."""


@dataclass(frozen=True)
class Finding:
    """An input that must not do what it did."""

    target: str
    what: str
    data: bytes


@contextmanager
def _watched() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGVTALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def judge(target: Target, data: bytes, *, measured: bool = True) -> Finding | None:
    """Run one input. Under `_watched` when hangs are to be found."""
    if measured:
        tracemalloc.start()
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG * _TRACED if measured else HANG)
    try:
        target.run(data)
    except target.allowed:
        pass
    except HangError:
        return Finding(target.name, f"takes longer than {HANG:.0f} s", data)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what we look for
        return Finding(target.name, f"{type(error).__name__}: {str(error)[:200]}", data)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        peak = tracemalloc.get_traced_memory()[1] if measured else 0
        if measured:
            tracemalloc.stop()
    if peak > target.memory + 100 * len(data):
        return Finding(target.name, f"takes {peak} bytes of memory", data)
    return None


def fuzz(target: Target, count: int, seed: int) -> Iterator[Finding]:
    """Findings among ``count`` inputs, one for each kind of failure."""
    inputs = Inputs(target.all_seeds(), target.mutations, seed, target.name)
    seen: set[str] = set()
    with _watched():
        for number in range(count):
            found = judge(target, inputs.take(), measured=number % _MEASURED == 0)
            if found is not None and found.what[:40] not in seen:
                seen.add(found.what[:40])
                yield found


def replay(target: Target, data: bytes) -> Finding | None:
    """Judge one input with everything measured."""
    with _watched():
        return judge(target, data)
