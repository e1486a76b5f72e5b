"""/dev/fuse and the mount system calls: a connection to the kernel without libfuse, and files for passthrough.

Needs CAP_SYS_ADMIN, as mount(2) and the registration of backing files do. `probe` finds out whether the kernel would
take passthrough here, on a superblock that is never mounted anywhere (fsopen(2)), so nobody sees it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import select
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final

from modelfs import limits
from modelfs.fuse import protocol
from modelfs.fuse.protocol import InitFlag, MalformedError, Opcode

DEVICE: Final = Path("/dev/fuse")
# <linux/fuse.h> since 7.40: _IOW(229, 1, struct fuse_backing_map), _IOW(229, 2, uint32_t)
_BACKING_OPEN: Final = 0x4010E501
_BACKING_CLOSE: Final = 0x4004E502
_BACKING_MAP: Final = Struct("=iIQ")  # fd, flags, padding
_OVERLAY: Final = 0x794C7630  # <linux/magic.h>: a file there lies on one that is stacked already
_KERNEL_NEEDED: Final = (6, 9)
_CAP_SYS_ADMIN: Final = 21

# <sys/mount.h>
_NOSUID, _NODEV, _NOEXEC, _SYNCHRONOUS, _RDONLY, _DIRSYNC, _NOATIME = 2, 4, 8, 16, 1, 128, 1024
_MNT_DETACH: Final = 2
# Word of mount(8) -> (flag, whether it is set). nosuid and nodev are set unless somebody says otherwise.
_FLAGS: Final = {
    "ro": (_RDONLY, True),
    "nosuid": (_NOSUID, True),
    "suid": (_NOSUID, False),
    "nodev": (_NODEV, True),
    "dev": (_NODEV, False),
    "noexec": (_NOEXEC, True),
    "exec": (_NOEXEC, False),
    "sync": (_SYNCHRONOUS, True),
    "async": (_SYNCHRONOUS, False),
    "dirsync": (_DIRSYNC, True),
    "noatime": (_NOATIME, True),
    "atime": (_NOATIME, False),
}
# fsopen(2) and fsconfig(2): not in every C library.
_FSOPEN, _FSCONFIG = 430, 431
_SET_STRING, _CREATE = 1, 6
_FSOPEN_CLOEXEC: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.syscall.restype = ctypes.c_long


@dataclass(frozen=True, slots=True)
class Connection:
    """What was agreed with the kernel. ``passthrough``: it takes backing files."""

    fd: int
    minor: int
    passthrough: bool


def mount(mountpoint: Path, source: str, fstype: str, words: Iterable[str]) -> int:
    """Mount at ``mountpoint`` and return the descriptor on which the kernel asks. ``words``: as mount(8) has them; what
    is no flag goes to the kernel's FUSE. OSError."""
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        flags, rest = _NOSUID | _NODEV, [f"fd={fd}", "rootmode=40000", "user_id=0", "group_id=0"]
        for word in words:
            if (known := _FLAGS.get(word)) is None:
                rest.append(word)
            else:
                flags = flags | known[0] if known[1] else flags & ~known[0]
        arguments = (source.encode(), os.fsencode(mountpoint), fstype.encode(), flags, ",".join(rest).encode())
        if _libc.mount(*arguments):
            raise _error()
    except BaseException:
        os.close(fd)
        raise
    return fd


def unmount(mountpoint: Path) -> None:
    """Detach what is mounted there. OSError."""
    if _libc.umount2(os.fsencode(mountpoint), _MNT_DETACH):
        raise _error()


def agree(fd: int, *, passthrough_depth: int) -> Connection:
    """Answer the INIT request, with which every connection begins. ``passthrough_depth``: how deep backing files may be
    stacked; 0: none are wanted. OSError: the kernel is too old, or says nothing.

    Passthrough and the write-back cache exclude each other: with passthrough, what is written through this session
    arrives at once. AUTO_INVAL_DATA is not asked for: the bytes of an inode change through this mount alone.
    """
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    if not poller.poll(limits.CONTROL_TIMEOUT * 1000):
        raise TimeoutError(errno.ETIMEDOUT, "the kernel does not begin the conversation")
    try:
        request = protocol.decode(memoryview(os.read(fd, limits.FUSE_REQUEST_MAX)))
    except MalformedError as error:
        raise OSError(errno.EPROTO, str(error)) from error
    if request.opcode is not Opcode.INIT:
        raise OSError(errno.EPROTO, "the kernel does not begin with INIT")
    major, minor, readahead, low, *more = request.fields
    if major != protocol.MAJOR or minor < protocol.OLDEST_MINOR:
        os.write(fd, protocol.header(request.unique, error=errno.EPROTO))
        raise OSError(errno.EPROTO, f"the kernel speaks version {major}.{minor} of the protocol")
    offered = InitFlag(low | (more[0] << 32 if more and low & InitFlag.INIT_EXT else 0))
    wanted = (
        InitFlag.ASYNC_READ
        | InitFlag.ATOMIC_O_TRUNC
        | InitFlag.EXPORT_SUPPORT
        | InitFlag.BIG_WRITES
        | InitFlag.ASYNC_DIO
        | InitFlag.DO_READDIRPLUS
        | InitFlag.PARALLEL_DIROPS
        | InitFlag.MAX_PAGES
    )
    passthrough = passthrough_depth > 0 and InitFlag.PASSTHROUGH in offered
    wanted |= InitFlag.PASSTHROUGH | InitFlag.INIT_EXT if passthrough else InitFlag.WRITEBACK_CACHE
    depth = passthrough_depth if passthrough else 0
    body = protocol.init_out(minor, readahead, wanted & offered, limits.FUSE_MAX_IO, depth)
    os.writev(fd, [protocol.header(request.unique, len(body)), body])
    return Connection(fd, min(minor, protocol.MINOR), passthrough)


def register(connection: int, fd: int) -> int:
    """Make a local file one that the kernel may use in place of ours: its number for `protocol.open_out`. OSError."""
    # The argument must be a mutable buffer: for others, ioctl gives a copy of it back instead of the number.
    number: int = fcntl.ioctl(connection, _BACKING_OPEN, bytearray(_BACKING_MAP.pack(fd, 0, 0)))
    return number


def unregister(connection: int, backing: int) -> None:
    """Let go of it; what is open stays so. OSError."""
    fcntl.ioctl(connection, _BACKING_CLOSE, bytearray(backing.to_bytes(4, "little")))


def stack_depth(directory: Path) -> int:
    """How deep a file system over files of ``directory`` is stacked, as INIT has to say: 1, or 2 over an overlay."""
    return 2 if _filesystem_type(directory) == _OVERLAY else 1


def may_mount() -> str:
    """Why this process may not mount by itself; "" when it may."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    if found is None or not int(found[1], 16) >> _CAP_SYS_ADMIN & 1:
        return "it takes root (CAP_SYS_ADMIN)"
    return ""


def probe(directory: Path) -> str:
    """Why files of ``directory`` cannot be passed through; "" when they can. Registers one to find out."""
    if why := may_mount():
        return why
    version = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    if version < _KERNEL_NEEDED:
        return f"Linux {os.uname().release} has no passthrough, which came with {'.'.join(map(str, _KERNEL_NEEDED))}"
    try:
        with contextlib.ExitStack() as held:
            device = _opened(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK), held)
            superblock = _opened(_syscall(_FSOPEN, b"fuse", _FSOPEN_CLOEXEC), held)
            words = {"source": "modelfs", "fd": str(device), "rootmode": "40000", "user_id": "0", "group_id": "0"}
            for key, value in words.items():
                _syscall(_FSCONFIG, superblock, _SET_STRING, key.encode(), value.encode(), 0)
            _syscall(_FSCONFIG, superblock, _CREATE, None, None, 0)
            if not agree(device, passthrough_depth=stack_depth(directory)).passthrough:
                return f"this kernel ({os.uname().release}) was built without passthrough"
            with tempfile.TemporaryFile(dir=directory) as file:
                unregister(device, register(device, file.fileno()))
    except OSError as error:
        return f"the kernel does not take files of {directory}: {error.strerror or error}"
    return ""


def _opened(fd: int, held: contextlib.ExitStack) -> int:
    held.callback(os.close, fd)
    return fd


def _syscall(number: int, *arguments: object) -> int:
    done = int(_libc.syscall(ctypes.c_long(number), *map(_argument, arguments)))
    if done < 0:
        raise _error()
    return done


def _argument(value: object) -> object:
    return ctypes.c_long(value) if isinstance(value, int) else value


def _filesystem_type(directory: Path) -> int:
    """f_type of statfs(2), which os.statvfs does not tell; 0 when it cannot be told."""
    room = ctypes.create_string_buffer(256)
    if _libc.statfs(os.fsencode(directory), room):
        return 0
    return ctypes.c_long.from_buffer(room).value


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
