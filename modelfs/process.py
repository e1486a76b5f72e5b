"""What Linux says about other processes: whether one runs, is ending, or is gone, and which use a directory (proc(5),
credentials(7)); and keeping the memory of this one to itself.

A killed process is not gone at once. Its first thread is a zombie while others still wait for a disk; until the last
has ended, its descriptors stay open and its locks stay held.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PF_EXITING: Final = 0x4  # include/linux/sched.h; field 9 of /proc/PID/stat
_PR_SET_DUMPABLE: Final = 4  # include/uapi/linux/prctl.h
_SIGKILL_BIT: Final = 1 << (signal.SIGKILL - 1)


def namespace() -> int:
    """Identity of the process id namespace of the caller: ids mean nothing in another one (pid_namespaces(7))."""
    return Path("/proc/self/ns/pid").stat().st_ino


def alive(pid: int) -> bool:
    """True while any thread of ``pid`` may still hold what the process opened."""
    state = _state(pid)
    if state is None:
        return False
    return state[0] not in "ZX" or _threads(pid) > 1


def ending(pid: int) -> bool:
    """True when ``pid`` has been killed or is exiting: what it holds will be free soon. Also when it is gone."""
    state = _state(pid)
    if state is None or state[0] in "ZX" or state[1] & PF_EXITING:
        return True
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in ("SigPnd", "ShdPnd") and int(value, 16) & _SIGKILL_BIT:
                return True
    return False


def forbid_core_dumps() -> None:
    """For a process that holds keys: no core file, no debugger of the same user (prctl(2))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _state(pid: int) -> tuple[str, int] | None:
    """State letter and flags of the first thread; None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[6])


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that uses something below a directory: ``what`` says how ("has open", …), ``path`` which."""

    pid: int
    command: str
    what: str
    path: str


def holders(directory: Path, daemon: int) -> list[Holder]:
    """Processes that keep a mount at ``directory`` busy, one entry each; of those that this user may look at, and
    without its ``daemon``, which holds the directory under it.

    Nothing below ``directory`` is touched: what stands in /proc are names.
    """
    found = []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != daemon):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            if (use := _use_of(Path(f"/proc/{pid}"), str(directory))) is not None:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(Holder(pid, command.strip()[:80] or f"process {pid}", *use))
    return found


def _use_of(process: Path, directory: str) -> tuple[str, str] | None:
    def inside(link: Path) -> str | None:
        path = str(link.readlink())
        return path if path == directory or path.startswith(f"{directory}/") else None

    for entry in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path := inside(entry):
                return "has open", path
    for name, what in (("cwd", "works in"), ("root", "has its root in"), ("exe", "runs")):
        with contextlib.suppress(FileNotFoundError):
            if path := inside(process / name):
                return what, path
    for line in (process / "maps").read_text(errors="surrogateescape").splitlines():
        path = line.split(maxsplit=5)[5] if line.count(" ") >= 5 and "/" in line else ""
        if path == directory or path.startswith(f"{directory}/"):
            return "has mapped", path
    return None
