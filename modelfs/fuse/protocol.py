"""The kernel's FUSE protocol: its structs, what a request says, and how answers are laid out.

Source: <linux/fuse.h> (uapi), protocol 7.45 as Linux 6.18 speaks it; `tests/unit/test_fuse_protocol.py` compares sizes
and offsets with the header of the machine. Pure: bytes in, values out. What comes from the device is decoded with
bounds; a request that cannot be is a `MalformedError`, never anything else. Used by `modelfs.fuse.native`.
"""

from __future__ import annotations

import stat as stat_module
import sys
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import TYPE_CHECKING, Final

from modelfs import limits

if TYPE_CHECKING:
    from modelfs.fuse.presentation import Shown

MAJOR: Final = 7
MINOR: Final = 45
OLDEST_MINOR: Final = 31  # Linux 5.4: every struct here has its present size since 7.23, and max_pages came with 7.28
ROOT: Final = 1


class Opcode(IntEnum):
    """enum fuse_opcode: the requests that are answered with more than ENOSYS."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    READDIRPLUS = 44
    RENAME2 = 45


class InitFlag(IntFlag):
    """FUSE_* flags of INIT; bits from 32 on travel in ``flags2``."""

    ASYNC_READ = 1 << 0
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    ASYNC_DIO = 1 << 15
    DO_READDIRPLUS = 1 << 13
    WRITEBACK_CACHE = 1 << 16
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    INIT_EXT = 1 << 30
    PASSTHROUGH = 1 << 37


class OpenFlag(IntFlag):
    """FOPEN_*: how the kernel serves an open file."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    PASSTHROUGH = 1 << 7


class Attr(IntFlag):
    """FATTR_*: which fields of a SETATTR count."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    FH = 1 << 6
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8


# struct -> (format, names of its fields in order); "=" and explicit padding: the layout of every 64-bit Linux.
LAYOUTS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "fuse_in_header": ("=IIQQIIIHH", ("len", "opcode", "unique", "nodeid", "uid", "gid", "pid", "", "padding")),
    "fuse_out_header": ("=IiQ", ("len", "error", "unique")),
    "fuse_attr": (
        "=6Q10I",
        (
            "ino", "size", "blocks", "atime", "mtime", "ctime", "atimensec", "mtimensec", "ctimensec", "mode", "nlink",
            "uid", "gid", "rdev", "blksize", "",
        ),
    ),  # the last is "padding" or "flags", as the header is old or new
    "fuse_entry_out": (
        "=4Q2I88s",
        ("nodeid", "generation", "entry_valid", "attr_valid", "entry_valid_nsec", "attr_valid_nsec", "attr"),
    ),
    "fuse_attr_out": ("=QII88s", ("attr_valid", "attr_valid_nsec", "dummy", "attr")),
    "fuse_kstatfs": (
        "=5Q4I24x",
        ("blocks", "bfree", "bavail", "files", "ffree", "bsize", "namelen", "frsize", "padding"),
    ),
    "fuse_dirent": ("=QQII", ("ino", "off", "namelen", "type")),
    "fuse_init_in": ("=4I", ("major", "minor", "max_readahead", "flags")),
    "fuse_init_out": (
        "=4IHHIIHHII24x",
        (
            "major", "minor", "max_readahead", "flags", "max_background", "congestion_threshold", "max_write",
            "time_gran", "max_pages", "map_alignment", "", "",
        ),
    ),  # flags2 since 7.36, max_stack_depth since 7.40
    "fuse_forget_in": ("=Q", ("nlookup",)),
    "fuse_batch_forget_in": ("=II", ("count", "dummy")),
    "fuse_forget_one": ("=QQ", ("nodeid", "nlookup")),
    "fuse_getattr_in": ("=IIQ", ("getattr_flags", "dummy", "fh")),
    "fuse_setattr_in": (
        "=2I6Q8I",
        (
            "valid", "padding", "fh", "size", "lock_owner", "atime", "mtime", "ctime", "atimensec", "mtimensec",
            "ctimensec", "mode", "unused4", "uid", "gid", "unused5",
        ),
    ),
    "fuse_mknod_in": ("=4I", ("mode", "rdev", "umask", "padding")),
    "fuse_mkdir_in": ("=II", ("mode", "umask")),
    "fuse_rename_in": ("=Q", ("newdir",)),
    "fuse_rename2_in": ("=QII", ("newdir", "flags", "padding")),
    "fuse_link_in": ("=Q", ("oldnodeid",)),
    "fuse_open_in": ("=II", ("flags", "")),  # open_flags since 7.32, else unused
    "fuse_create_in": ("=4I", ("flags", "mode", "umask", "")),
    "fuse_open_out": ("=QIi", ("fh", "open_flags", "")),  # backing_id since 7.40, else padding
    "fuse_release_in": ("=QIIQ", ("fh", "flags", "release_flags", "lock_owner")),
    "fuse_flush_in": ("=QIIQ", ("fh", "unused", "padding", "lock_owner")),
    "fuse_read_in": ("=QQIIQII", ("fh", "offset", "size", "read_flags", "lock_owner", "flags", "padding")),
    "fuse_write_in": ("=QQIIQII", ("fh", "offset", "size", "write_flags", "lock_owner", "flags", "padding")),
    "fuse_write_out": ("=II", ("size", "padding")),
    "fuse_fsync_in": ("=QII", ("fh", "fsync_flags", "padding")),
    "fuse_getxattr_in": ("=II", ("size", "padding")),
    "fuse_getxattr_out": ("=II", ("size", "padding")),
    "fuse_interrupt_in": ("=Q", ("unique",)),
}  # fmt: skip
# Of SETXATTR the kernel sends the first two fields only, unless FUSE_SETXATTR_EXT was negotiated.
SETXATTR_COMPAT: Final = Struct("=II")
STRUCTS: Final = {name: Struct(layout) for name, (layout, _) in LAYOUTS.items()}

IN_HEADER: Final = STRUCTS["fuse_in_header"]
OUT_HEADER: Final = STRUCTS["fuse_out_header"]
_ATTR: Final = STRUCTS["fuse_attr"]
_ENTRY: Final = STRUCTS["fuse_entry_out"]
_DIRENT: Final = STRUCTS["fuse_dirent"]
_FORGET_ONE: Final = STRUCTS["fuse_forget_one"]
# What of a request lies between its header and what follows it.
_FIXED: Final[dict[Opcode, Struct]] = {
    Opcode.FORGET: STRUCTS["fuse_forget_in"],
    Opcode.GETATTR: STRUCTS["fuse_getattr_in"],
    Opcode.SETATTR: STRUCTS["fuse_setattr_in"],
    Opcode.MKNOD: STRUCTS["fuse_mknod_in"],
    Opcode.MKDIR: STRUCTS["fuse_mkdir_in"],
    Opcode.RENAME: STRUCTS["fuse_rename_in"],
    Opcode.RENAME2: STRUCTS["fuse_rename2_in"],
    Opcode.LINK: STRUCTS["fuse_link_in"],
    Opcode.OPEN: STRUCTS["fuse_open_in"],
    Opcode.OPENDIR: STRUCTS["fuse_open_in"],
    Opcode.CREATE: STRUCTS["fuse_create_in"],
    Opcode.READ: STRUCTS["fuse_read_in"],
    Opcode.READDIRPLUS: STRUCTS["fuse_read_in"],
    Opcode.WRITE: STRUCTS["fuse_write_in"],
    Opcode.RELEASE: STRUCTS["fuse_release_in"],
    Opcode.RELEASEDIR: STRUCTS["fuse_release_in"],
    Opcode.FSYNC: STRUCTS["fuse_fsync_in"],
    Opcode.FSYNCDIR: STRUCTS["fuse_fsync_in"],
    Opcode.FLUSH: STRUCTS["fuse_flush_in"],
    Opcode.SETXATTR: SETXATTR_COMPAT,
    Opcode.GETXATTR: STRUCTS["fuse_getxattr_in"],
    Opcode.LISTXATTR: STRUCTS["fuse_getxattr_in"],
    Opcode.INTERRUPT: STRUCTS["fuse_interrupt_in"],
    Opcode.BATCH_FORGET: STRUCTS["fuse_batch_forget_in"],
    Opcode.INIT: STRUCTS["fuse_init_in"],
}
# How many names, each ended by a zero byte, follow.
_NAMES: Final = {
    Opcode.LOOKUP: 1,
    Opcode.SYMLINK: 2,
    Opcode.MKNOD: 1,
    Opcode.MKDIR: 1,
    Opcode.UNLINK: 1,
    Opcode.RMDIR: 1,
    Opcode.RENAME: 2,
    Opcode.RENAME2: 2,
    Opcode.LINK: 1,
    Opcode.CREATE: 1,
    Opcode.SETXATTR: 1,
    Opcode.GETXATTR: 1,
    Opcode.REMOVEXATTR: 1,
}
_WITH_DATA: Final = (Opcode.WRITE, Opcode.SETXATTR)


class MalformedError(Exception):
    """Not a request of the protocol. ``unique``: of the request that is to be answered with EINVAL; None: nobody waits
    for an answer, or it cannot be told who."""

    def __init__(self, why: str, unique: int | None) -> None:
        super().__init__(why)
        self.unique = unique


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``fields``: of its struct, in order; ``data``: a view of the buffer it was read into (WRITE), or a
    copy (SETXATTR)."""

    opcode: Opcode | None  # None: one that is not known
    unique: int
    nodeid: int
    uid: int
    gid: int
    fields: tuple[int, ...]
    names: tuple[bytes, ...]
    data: memoryview | bytes = b""
    forgets: tuple[tuple[int, int], ...] = ()  # (nodeid, count)


def decode(buffer: memoryview) -> Request:
    """What one read of the device brought. MalformedError."""
    if len(buffer) < IN_HEADER.size:
        raise MalformedError(f"a request of {len(buffer)} bytes", None)
    length, number, unique, nodeid, uid, gid, _, _, _ = IN_HEADER.unpack_from(buffer)
    if length != len(buffer):
        raise MalformedError(f"a request of {len(buffer)} bytes says that it has {length}", unique)
    try:
        opcode = Opcode(number)
    except ValueError:
        return Request(None, unique, nodeid, uid, gid, (), ())
    answered = None if opcode in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT) else unique
    at = IN_HEADER.size
    fields: tuple[int, ...] = ()
    if (fixed := _FIXED.get(opcode)) is not None:
        if len(buffer) < at + fixed.size:
            raise MalformedError(f"{opcode.name}: {len(buffer)} bytes are too few", answered)
        fields = fixed.unpack_from(buffer, at)
        at += fixed.size
    if opcode is Opcode.BATCH_FORGET:
        return Request(opcode, unique, nodeid, uid, gid, fields, (), b"", _forgets(buffer[at:], fields[0]))
    if opcode is Opcode.INIT and len(buffer) >= at + 4:  # flags2, since 7.36
        fields += (int.from_bytes(buffer[at : at + 4], sys.byteorder),)
    names, at = _names(buffer, at, opcode, answered)
    data: memoryview | bytes = b""
    if opcode in _WITH_DATA:
        data = buffer[at:]
        size = fields[2] if opcode is Opcode.WRITE else fields[0]
        if len(data) != size:
            raise MalformedError(f"{opcode.name}: {len(data)} bytes of data instead of {size}", answered)
        data = data if opcode is Opcode.WRITE else bytes(data)
    return Request(opcode, unique, nodeid, uid, gid, fields, names, data)


def _names(buffer: memoryview, at: int, opcode: Opcode, answered: int | None) -> tuple[tuple[bytes, ...], int]:
    count = _NAMES.get(opcode, 0)
    if not count:
        return (), at
    # Names are short; what follows those of SETXATTR is bounded by the kernel's 64 KiB.
    rest = bytes(buffer[at : at + limits.FUSE_NAMES_MAX])
    names, start = [], 0
    for _ in range(count):
        end = rest.find(b"\0", start)
        if end < 0:
            raise MalformedError(f"{opcode.name}: a name has no end", answered)
        names.append(rest[start:end])
        start = end + 1
    return tuple(names), at + start


def _forgets(rest: memoryview, count: int) -> tuple[tuple[int, int], ...]:
    if count * _FORGET_ONE.size != len(rest):
        raise MalformedError(f"BATCH_FORGET: {count} in {len(rest)} bytes", None)
    return tuple(_FORGET_ONE.iter_unpack(rest))


# -- answers --------------------------------------------------------------------------------------------------------


def header(unique: int, length: int = 0, error: int = 0) -> bytes:
    """In front of ``length`` bytes of an answer; ``error``: an errno, or 0."""
    return OUT_HEADER.pack(OUT_HEADER.size + length, -error, unique)


def attributes(shown: Shown) -> bytes:
    """struct fuse_attr."""
    second = 10**9
    (atime, atimensec), (mtime, mtimensec), (ctime, ctimensec) = (
        divmod(ns, second) for ns in (shown.atime_ns, shown.mtime_ns, shown.ctime_ns)
    )
    seconds = (atime & 0xFFFFFFFFFFFFFFFF, mtime & 0xFFFFFFFFFFFFFFFF, ctime & 0xFFFFFFFFFFFFFFFF)
    return _ATTR.pack(
        shown.ino,
        shown.size,
        (shown.size + 511) // 512,
        *seconds,  # before 1970 they are negative, as 64 bits
        atimensec,
        mtimensec,
        ctimensec,
        shown.mode,
        shown.nlink,
        shown.uid,
        shown.gid,
        shown.rdev,  # as the kernel packed it, when it made the node
        limits.STAT_BLOCK,
        0,
    )


def _timeout(seconds: float) -> tuple[int, int]:
    whole = int(seconds)
    return whole, int((seconds - whole) * 1e9)


def attr_out(shown: Shown) -> bytes:
    """The answer to GETATTR and SETATTR."""
    return STRUCTS["fuse_attr_out"].pack(*_timeout(shown.timeout), 0, attributes(shown))


def entry_out(shown: Shown) -> bytes:
    """The answer to LOOKUP, MKDIR and their like."""
    seconds, nanoseconds = _timeout(shown.timeout)
    return _ENTRY.pack(shown.ino, 0, seconds, seconds, nanoseconds, nanoseconds, attributes(shown))


def missing_entry(timeout: float) -> bytes:
    """The answer to LOOKUP that there is nothing, which the kernel may remember for ``timeout`` seconds."""
    seconds, nanoseconds = _timeout(timeout)
    return _ENTRY.pack(0, 0, seconds, 0, nanoseconds, 0, bytes(_ATTR.size))


def open_out(fh: int, flags: OpenFlag, backing: int = 0) -> bytes:
    """The answer to OPEN and OPENDIR, and the end of the one to CREATE. ``backing``: with OpenFlag.PASSTHROUGH."""
    return STRUCTS["fuse_open_out"].pack(fh, flags, backing)


def direntplus(name: bytes, shown: Shown, position: int) -> bytes:
    """One entry of a READDIRPLUS; ``position`` is where the next one begins."""
    kind = stat_module.S_IFMT(shown.mode) >> 12
    entry = entry_out(shown) + _DIRENT.pack(shown.ino, position, len(name), kind) + name
    return entry + bytes(-len(entry) % 8)


def init_out(minor: int, readahead: int, flags: InitFlag, max_write: int, stack_depth: int) -> bytes:
    """The answer to INIT. ``stack_depth``: of this file system with what lies under it; only for passthrough."""
    pages = max_write // limits.PAGE
    low, high = int(flags) & 0xFFFFFFFF, int(flags) >> 32
    return STRUCTS["fuse_init_out"].pack(
        MAJOR, min(minor, MINOR), readahead, low, 0, 0, max_write, 1, pages, 0, high, stack_depth
    )
