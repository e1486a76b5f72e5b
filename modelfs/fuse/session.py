"""Which session a mount gets, and why: our own, which passes cached files through, or libfuse's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from modelfs.errors import UsageError
from modelfs.fuse import device
from modelfs.fuse.native import NativeSession
from modelfs.fuse.operations import LibfuseSession
from modelfs.fuse.requests import Requests


class Session(Protocol):
    """A mount, from when it stands until it is closed."""

    @property
    def name(self) -> str:
        """native or pyfuse3."""

    @property
    def passthrough(self) -> bool:
        """True when the kernel reads cached files by itself."""

    @property
    def passed_opens(self) -> int:
        """Opens of files that the kernel read by itself, since the mount began."""

    async def serve(self) -> None:
        """Answer requests until it is unmounted or `terminate` is called."""

    def terminate(self) -> None:
        """Have `serve` return, when what it is answering is answered."""

    def close(self) -> None:
        """Unmount, unless somebody has."""


@dataclass(frozen=True, slots=True)
class Choice:
    """``why``: in words, for people. ``passthrough``: the kernel would take files of the cache."""

    name: Literal["native", "pyfuse3"]
    passthrough: bool
    why: str


def choose(wanted: str, cache: Path, *, read_only: bool) -> Choice:
    """The session for a mount with that option ``session`` and cache directory. UsageError: it cannot be had.

    auto weighs what each is good at: the kernel does not combine passthrough with its write-back cache.
    """
    if wanted == "pyfuse3":
        return Choice("pyfuse3", False, "as asked for")
    obstacle = device.probe(cache)
    if wanted == "native":
        if refusal := device.may_mount():
            raise UsageError(f"--session native: {refusal}")
        why = f"as asked for, without passthrough: {obstacle}" if obstacle else "as asked for"
        return Choice("native", not obstacle, why)
    if obstacle:
        return Choice("pyfuse3", False, obstacle)
    if not read_only:
        return Choice("pyfuse3", False, "writes are faster so; --session native reads faster what is cached")
    return Choice("native", True, "nothing is written, and the kernel can read cached files by itself")


def begin(choice: Choice, requests: Requests, mountpoint: Path, words: Sequence[str], cache: Path) -> Session:
    """Mount. ``words``: as mount(8) has them. UsageError."""
    if choice.name == "native":
        return NativeSession(requests, mountpoint, words, cache, passthrough=choice.passthrough)
    return LibfuseSession(requests, mountpoint, words)
