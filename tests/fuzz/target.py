"""What a fuzz target is. The tables are in `targets`, `trust` (keys, seals, signatures) and `upkeep` (collections, and
files of this machine)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from fuzz import mutate
from fuzz.mutate import Mutation
from modelfs import limits

CORPUS: Final = Path(__file__).parent / "corpus"
T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """``memory``: bytes that one input may take beyond 100 times its own length."""

    name: str
    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    allowed: tuple[type[Exception], ...] = (ValueError,)
    mutations: tuple[Mutation, ...] = (mutate.blind,)
    memory: int = 4 * limits.MiB

    def all_seeds(self) -> list[bytes]:
        """Seeds of our own encoders, and the kept inputs."""
        return [*self.seeds, *(path.read_bytes() for path in sorted((CORPUS / self.name).glob("*")))]


def again(unpack: Callable[[bytes], T], pack: Callable[[T], bytes]) -> Callable[[bytes], None]:
    """A decoder whose values can be written and read again."""

    def run(plain: bytes) -> None:
        value = unpack(plain)
        assert unpack(pack(value)) == value

    return run
