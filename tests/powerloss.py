"""A disk that can lose its power: records what is written below a directory, and rebuilds what may be left of it.

`Recorder` stands before the functions of the os module. What was written to a file counts as durable once fsync or
fdatasync of that file has returned, a name once fsync of its directory has; nothing else is assumed (real file systems
promise more). `crash` lays out one of the legal states at a moment: unsynced writes kept, lost, or torn, in any
combination, and unsynced names there or not.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

Fate = Literal["kept", "lost", "mixed"]

_RECORDED = (
    *("open", "close", "dup", "write", "pwrite", "copy_file_range", "ftruncate", "truncate", "fsync", "fdatasync"),
    *("rename", "unlink", "rmdir", "mkdir", "link"),
)


@dataclass
class _Inode:
    """A file or directory. ``ops``: (moment, operation); ``synced``: (moment it was known, operations covered)."""

    directory: bool
    ops: list[tuple[int, tuple[Any, ...]]] = field(default_factory=list)
    synced: list[tuple[int, int]] = field(default_factory=list)

    def split(self, moment: int) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Operations that are durable at a moment, and those that may be lost."""
        done = sum(when <= moment for when, _ in self.ops)
        durable = max((covered for when, covered in self.synced if when <= moment), default=0)
        ops = [op for _, op in self.ops[:done]]
        return ops[:durable], ops[durable:]


class Recorder:
    """Records below ``root`` until the end of the test; what is there already is durable."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.moment = 0
        self.lock = threading.RLock()
        self._top = _Inode(directory=True)
        self._inodes: dict[str, _Inode] = {str(root): self._top}
        self._fds: dict[int, _Inode] = {}
        self._adopt(root, self._top)
        for name in _RECORDED:
            self._wrap(patch, name)

    def _wrap(self, patch: pytest.MonkeyPatch, name: str) -> None:
        real, note = getattr(os, name), getattr(self, f"_{name}")

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if name in ("fsync", "fdatasync"):
                return note(real, *args)
            with self.lock:
                result = real(*args, **kwargs)
                note(result, *args, **kwargs)
                return result

        patch.setattr(os, name, wrapped)

    def _adopt(self, path: Path, inode: _Inode) -> None:
        if not inode.directory:
            inode.ops.append((0, ("write", 0, path.read_bytes())))
        for child in sorted(path.iterdir()) if inode.directory else ():
            made = self._inodes[str(child)] = _Inode(directory=child.is_dir())
            inode.ops.append((0, ("link", child.name, made)))
            self._adopt(child, made)
        inode.synced.append((0, len(inode.ops)))

    def tick(self) -> int:
        """A new moment."""
        with self.lock:
            self.moment += 1
            return self.moment

    def _op(self, inode: _Inode | None, *op: Any) -> None:
        if inode is not None:
            inode.ops.append((self.tick(), op))

    def _place(self, path: Any) -> tuple[_Inode | None, str, str]:
        text = os.fspath(path)
        above, _, name = os.fsdecode(text).rpartition("/")
        return self._inodes.get(above), name, os.fsdecode(text)

    # -- what was called; the first argument is what it returned -------------------------------------------------------

    def _open(self, fd: int, path: Any, flags: int, *rest: Any, **more: Any) -> None:
        if more.get("dir_fd") is not None:
            return
        directory, name, text = self._place(path)
        if directory is None and text != str(self.root):
            return
        inode = self._inodes.get(text)
        if inode is None and flags & os.O_CREAT and directory is not None:
            inode = self._inodes[text] = _Inode(directory=False)
            self._op(directory, "link", name, inode)
        if inode is not None:
            self._fds[fd] = inode
            if flags & os.O_TRUNC:
                self._op(inode, "truncate", 0)

    def _dup(self, fd: int, old: int) -> None:
        if (inode := self._fds.get(old)) is not None:
            self._fds[fd] = inode

    def _close(self, result: None, fd: int) -> None:
        self._fds.pop(fd, None)

    def _write(self, count: int, fd: int, data: Any) -> None:
        inode = self._fds.get(fd)
        if inode is not None:  # only logs are written so, at their end
            self._op(inode, "append", bytes(memoryview(data)[:count]))

    def _pwrite(self, count: int, fd: int, data: Any, offset: int) -> None:
        self._op(self._fds.get(fd), "write", offset, bytes(memoryview(data)[:count]))

    def _copy_file_range(self, count: int, source: int, target: int, length: int, at: int, to: int) -> None:
        self._op(self._fds.get(target), "write", to, os.pread(source, count, at))

    def _ftruncate(self, result: None, fd: int, size: int) -> None:
        self._op(self._fds.get(fd), "truncate", size)

    def _truncate(self, result: None, path: Any, size: int) -> None:
        if isinstance(path, int):
            self._ftruncate(None, path, size)

    def _fsync(self, real: Callable[[int], None], fd: int) -> None:
        with self.lock:
            inode = self._fds.get(fd)
            covered = len(inode.ops) if inode is not None else 0
        real(fd)
        if inode is not None:
            inode.synced.append((self.tick(), covered))

    _fdatasync = _fsync

    def _rename(self, result: None, old: Any, new: Any) -> None:
        (source, name, text), (target, new_name, new_text) = self._place(old), self._place(new)
        inode = self._inodes.pop(text, None)
        if inode is None:
            return
        if target is None:  # out of here, into the cache
            self._op(source, "unlink", name)
            return
        assert source is target, "only within a directory"
        self._inodes[new_text] = inode
        self._op(source, "rename", name, new_name)

    def _unlink(self, result: None, path: Any, **more: Any) -> None:
        directory, name, text = self._place(path)
        if self._inodes.pop(text, None) is not None:
            self._op(directory, "unlink", name)

    _rmdir = _unlink

    def _mkdir(self, result: None, path: Any, *rest: Any, **more: Any) -> None:
        directory, name, text = self._place(path)
        if directory is not None:
            self._inodes[text] = _Inode(directory=True)
            self._op(directory, "link", name, self._inodes[text])

    def _link(self, result: None, source: Any, target: Any, **more: Any) -> None:
        assert self._place(target)[0] is None, "only into the cache"

    # -- afterwards ----------------------------------------------------------------------------------------------------

    def crash(self, moment: int, fate: Fate, seed: int, target: Path) -> None:
        """Lay out below ``target`` what a power loss at that moment may leave."""
        self._build(self._top, moment, fate, random.Random(seed), target)

    def _build(self, inode: _Inode, moment: int, fate: Fate, rng: random.Random, target: Path) -> None:
        durable, doubtful = inode.split(moment)
        chosen = [op for op in doubtful if fate == "kept" or (fate == "mixed" and rng.random() < 0.6)]
        if inode.directory:
            target.mkdir()
            for name, child in _names(durable, chosen).items():
                self._build(child, moment, fate, rng, target / name)
            return
        content = bytearray()
        position = 0  # where the next append goes, whether those before it were kept or not
        for op, certain in [*((op, True) for op in durable), *((op, False) for op in doubtful)]:
            kept = certain or op in chosen
            if op[0] == "truncate":
                if kept:
                    content[op[1] :] = bytes(max(0, op[1] - len(content)))
                    position = op[1]
                continue
            offset, data = (position, op[1]) if op[0] == "append" else (op[1], op[2])
            position = offset + len(data)
            if kept:
                if not certain and fate == "mixed" and rng.random() < 0.3:
                    data = data[: rng.randrange(len(data) + 1)]  # torn
                content.extend(bytes(max(0, offset - len(content))))
                content[offset : offset + len(data)] = data
        target.write_bytes(content)


def _names(durable: list[tuple[Any, ...]], chosen: list[tuple[Any, ...]]) -> dict[str, _Inode]:
    found: dict[str, _Inode] = {}
    for op in [*durable, *chosen]:
        if op[0] == "link":
            found[op[1]] = op[2]
        elif op[0] == "unlink":
            found.pop(op[1], None)
        elif op[1] in found:
            found[op[2]] = found.pop(op[1])
    return found
