"""Networks of their own for processes on this machine, each with one line to it that can be cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Self

import pytest


class Line:
    """A network namespace that reaches this machine at the address `here` and nothing else."""

    def __init__(self, number: int) -> None:
        if os.geteuid() or not all(map(shutil.which, ("ip", "nsenter"))):
            pytest.skip("network namespaces need root, ip and nsenter")
        self._name = f"modelfs{os.getpid()}n{number}"
        self._device = f"mfs{os.getpid() % 100_000}n{number}"
        self._network = f"10.{200 + number}.{os.getpid() % 250}"
        self.cuts = 0

    @property
    def here(self) -> str:
        """This machine's address at the near end of the line."""
        return f"{self._network}.1"

    @property
    def inside(self) -> list[str]:
        """What a command begins with to run in the network."""
        return ["nsenter", f"--net=/run/netns/{self._name}", "--"]

    def __enter__(self) -> Self:
        try:
            _ip("netns", "add", self._name)
            _ip("link", "add", self._device, "type", "veth", "peer", "name", "line", "netns", self._name)
            _ip("address", "add", f"{self.here}/30", "dev", self._device)
            _ip("link", "set", self._device, "up")
            for command in (
                ("address", "add", f"{self._network}.2/30", "dev", "line"),
                ("link", "set", "line", "up"),
                ("link", "set", "lo", "up"),
            ):
                _ip("-n", self._name, *command)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for command in (("link", "delete", self._device), ("netns", "delete", self._name)):
            subprocess.run(["ip", *command], check=False, stderr=subprocess.DEVNULL)

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Nothing gets through, and nobody is told."""
        self.cuts += 1
        _ip("link", "set", self._device, "down")
        try:
            yield
        finally:
            _ip("link", "set", self._device, "up")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
