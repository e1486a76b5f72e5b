"""Open files of `ModelFileSystem`: Python's own buffered files over a raw one that asks the engine.

So they do what a local file of that mode does (``readinto``, ``peek``, ``truncate``, …), and have what fsspec adds:
``path``, ``fs``, ``size``, ``info``, ``commit`` and ``discard``. What is written is published when the file is closed.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from modelfs import limits
from modelfs.filesystem.engine import Engine, inside
from modelfs.filesystem.writing import Writing
from modelfs.vfs.nodes import FileNode

if TYPE_CHECKING:
    from modelfs.filesystem.spec import ModelFileSystem


class RawFile(io.RawIOBase):
    """One open of a file. ``writing`` None: it is read only. ``autocommit``: a close publishes what was written."""

    def __init__(
        self,
        ask: Callable[..., Any],
        engine: Engine,
        path: str,
        mode: str,
        fh: int,
        node: FileNode,
        writing: Writing | None,
        *,
        autocommit: bool,
    ) -> None:
        self.name = self.path = path
        self.mode = mode
        self.engine = engine
        self.writing = writing
        self.autocommit = autocommit
        self._ask = ask
        self._fh = fh
        self._node = node
        self._size = node.size
        self._position = node.size if "a" in mode else 0
        self._failed = False
        self._settled = False  # published or discarded

    @property
    def size(self) -> int:
        """Bytes: of what was opened, or of what is written by now."""
        return self._node.size if self.writing is not None else self._size

    def readable(self) -> bool:
        return "r" in self.mode or "+" in self.mode

    def writable(self) -> bool:
        return self.writing is not None

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence)
        if start is None:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if start + offset < 0:
            raise ValueError("seek before the start of the file")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        if not self.readable():
            raise io.UnsupportedOperation("not readable")
        target = memoryview(buffer).cast("B")
        done = 0
        while done < len(target):
            want = min(len(target) - done, limits.FILESYSTEM_PIECE)
            position = self._position
            piece = self._call(lambda tree, at=position, n=want: tree.read(self._fh, at, n))
            target[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
            if len(piece) < want:
                break
        return done

    def write(self, data: Any) -> int:
        writing = self.writing
        if writing is None:
            raise io.UnsupportedOperation("not writable")
        source = memoryview(data).cast("B")
        if "a" in self.mode:
            self._position = self.size
        for start in range(0, len(source), limits.FILESYSTEM_PIECE):
            # A copy: the buffer is the caller's again when he is interrupted, and the loop may still be at it.
            piece = bytes(source[start : start + limits.FILESYSTEM_PIECE])
            position = self._position
            try:
                self._call(lambda tree, at=position, piece=piece: tree.write(writing, at, piece))
            except Exception:
                self._failed = True
                raise
            self._position += len(piece)
        return len(source)

    def truncate(self, size: int | None = None) -> int:
        writing = self.writing
        if writing is None:
            raise io.UnsupportedOperation("not writable")
        wanted = self._position if size is None else size
        self._call(lambda tree: tree.truncate(writing, wanted))
        return wanted

    def _call(self, call: Callable[..., Any]) -> Any:
        if self.engine.pid != os.getpid():
            raise OSError(f"{self.path}: it was opened before this process was forked")
        return self._ask(self.engine, self.path, call)

    def close(self) -> None:
        """Publish what was written, or without ``autocommit`` leave that to `commit`."""
        if self.closed:
            return
        super().close()
        if self.engine.pid != os.getpid():
            return
        if self.writing is None:
            self._call(lambda tree: tree.release(self._fh))
        elif self._failed:
            self.discard()
        elif self.autocommit:
            self.commit()

    def commit(self) -> None:
        """Publish it. OSError: it is not in the store (see docs/consistency.md, "Errors surface")."""
        writing = self.writing
        if writing is not None and not self._settled:
            self._settled = True
            self._call(lambda tree: tree.publish([writing]))

    def discard(self) -> None:
        """Forget what was written."""
        writing = self.writing
        if writing is not None and not self._settled:
            self._settled = True
            self._call(lambda tree: tree.discard(writing))
        super().close()

    def settled(self) -> None:
        """Somebody else has published it."""
        self._settled = True


class _ModelFile:
    """What fsspec expects of a file, for the three buffered classes."""

    fs: ModelFileSystem
    raw: RawFile
    closed: bool

    def _begin(self, fs: ModelFileSystem) -> None:
        self.fs = fs
        self.blocksize = fs.blocksize
        if self.raw.writing is not None:
            self.raw.engine.writers.add(self)  # type: ignore[arg-type]

    @property
    def path(self) -> str:
        """Its path in the file system."""
        return self.raw.path

    @property
    def size(self) -> int:
        """Bytes: of what was opened, or of what has been handed over by now."""
        return self.raw.size

    @property
    def autocommit(self) -> bool:
        """False in a transaction: a close does not publish."""
        return self.raw.autocommit

    @property
    def loc(self) -> int:
        """Position, by the name that fsspec has for it."""
        return int(self.tell())  # type: ignore[attr-defined]

    @property
    def full_name(self) -> str:
        """Its URL."""
        return self.fs.unstrip_protocol(self.path)

    @property
    def details(self) -> dict[str, Any]:
        """As `ModelFileSystem.info`."""
        return self.fs.info(self.path)

    def info(self) -> dict[str, Any]:
        """As `ModelFileSystem.info`; ValueError while it is written."""
        if self.raw.writing is not None:
            raise ValueError("Info not available while writing")
        return self.details

    def readuntil(self, char: bytes = b"\n", blocks: int | None = None) -> bytes:
        """Data up to ``char``, which is included, or to the end."""
        out = bytearray()
        while piece := self.read(blocks or self.blocksize):  # type: ignore[attr-defined]
            out += piece
            if (end := out.find(char, max(0, len(out) - len(piece) - len(char)))) >= 0:
                self.seek(end + len(char) - len(out), os.SEEK_CUR)  # type: ignore[attr-defined]
                del out[end + len(char) :]
                break
        return bytes(out)

    def commit(self) -> None:
        """Publish what was written; the file must be closed. `autocommit` does it at close."""
        self.raw.commit()

    def discard(self) -> None:
        """Close it, and forget what was written."""
        self.raw.discard()

    def _close(self, ordinary: Callable[[], None]) -> None:
        if self.closed:
            return
        if self.raw.engine.pid != os.getpid():
            self.raw.close()  # the parent has what is in the buffer, and writes it
        elif inside():  # found by the garbage collector on a thread that must not wait
            threading.Thread(target=ordinary, name="modelfs close").start()
        else:
            ordinary()

    def __reduce__(self) -> Any:
        if self.raw.writing is not None:
            raise TypeError("a file that is being written cannot be pickled")
        return reopen, (self.fs, self.path, self.raw.mode, self.loc)

    def __str__(self) -> str:
        return f"<{type(self).__name__} {self.raw.mode} {self.path}>"

    __repr__ = __str__


class ReadFile(_ModelFile, io.BufferedReader):
    """Mode rb."""

    raw: RawFile

    def __init__(self, fs: ModelFileSystem, raw: RawFile, buffer: int) -> None:
        io.BufferedReader.__init__(self, raw, buffer)
        self._begin(fs)

    def read(self, size: int | None = -1, /) -> bytes:
        """As every file; all of it comes into one buffer."""
        if size is None or size < 0:
            size = max(0, self.raw.size - self.tell())
        return super().read(size)

    def close(self) -> None:
        self._close(partial(io.BufferedReader.close, self))


class WriteFile(_ModelFile, io.BufferedWriter):
    """Modes wb, xb and ab."""

    raw: RawFile

    def __init__(self, fs: ModelFileSystem, raw: RawFile, buffer: int) -> None:
        io.BufferedWriter.__init__(self, raw, buffer)
        self._begin(fs)

    def close(self) -> None:
        self._close(partial(io.BufferedWriter.close, self))


class EditFile(_ModelFile, io.BufferedRandom):
    """Modes r+b, w+b, x+b and a+b."""

    raw: RawFile

    def __init__(self, fs: ModelFileSystem, raw: RawFile, buffer: int) -> None:
        io.BufferedRandom.__init__(self, raw, buffer)
        self._begin(fs)

    def close(self) -> None:
        self._close(partial(io.BufferedRandom.close, self))


def buffered(fs: ModelFileSystem, raw: RawFile, buffer: int) -> ReadFile | WriteFile | EditFile:
    """The file that a program gets. ``buffer``: bytes."""
    if "+" in raw.mode:
        return EditFile(fs, raw, buffer)
    return (ReadFile if raw.writing is None else WriteFile)(fs, raw, buffer)


def reopen(fs: ModelFileSystem, path: str, mode: str, position: int) -> Any:
    """Of a pickled file."""
    file = fs.open(path, mode)
    file.seek(position)
    return file
