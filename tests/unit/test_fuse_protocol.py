"""The kernel's protocol: our structs beside those of the header, and what requests and answers say."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from modelfs import limits
from modelfs.fuse import device, protocol
from modelfs.fuse.presentation import Shown
from modelfs.fuse.protocol import LAYOUTS, STRUCTS, InitFlag, MalformedError, Opcode, OpenFlag, decode

HEADER = Path("/usr/include/linux/fuse.h")
NEWER = {  # fields that older headers call otherwise: struct, place, name, since which minor version
    ("fuse_init_out", 10, "flags2", 36),
    ("fuse_init_out", 11, "max_stack_depth", 40),
    ("fuse_open_out", 2, "backing_id", 40),
}
FLAGS = {InitFlag: "FUSE_", OpenFlag: "FOPEN_", protocol.Attr: "FATTR_"}
NAMED_SINCE = {"FUSE_PASSTHROUGH": 40, "FOPEN_PASSTHROUGH": 40}


def shown(**changes: int) -> Shown:
    values = dict.fromkeys(
        ("ino", "mode", "nlink", "uid", "gid", "rdev", "size", "mtime_ns", "atime_ns", "ctime_ns"), 0
    )
    return Shown(**{**values, **changes}, timeout=1.5)


def request(opcode: int, body: bytes = b"", nodeid: int = 1, unique: int = 7) -> bytes:
    return protocol.IN_HEADER.pack(protocol.IN_HEADER.size + len(body), opcode, unique, nodeid, 5, 6, 99, 0, 0) + body


def offsets(layout: str) -> list[tuple[int, int]]:
    """(offset, size) of each field of a struct format."""
    found, at = [], 0
    digits = ""
    for letter in layout.lstrip("="):
        if letter.isdigit():
            digits += letter
            continue
        count, digits = int(digits or 1), ""
        each = [(letter, 1)] * count if letter not in "sx" else [(letter, count)]
        for kind, number in each:
            size = struct.calcsize(f"={number}{kind}")
            if kind != "x":
                found.append((at, size))
            at += size
    return found


@pytest.mark.skipif(not HEADER.exists(), reason="linux-libc-dev is not installed")
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_structs_and_numbers_are_those_of_the_kernels_header(tmp_path: Path) -> None:
    lines, ours = [], dict[str, int]()

    def compare(what: str, expression: str, value: int, since: int = 0) -> None:
        lines.append(f"#if FUSE_KERNEL_MINOR_VERSION >= {since}")
        lines.append(f'printf("{what} %llu\\n", (unsigned long long)({expression}));\n#endif')
        ours[what] = value

    for name, (layout, fields) in LAYOUTS.items():
        size = STRUCTS[name].size
        if name == "fuse_init_in":  # the rest came with flags2, and is read by itself
            compare(f"{name}.flags2", f"offsetof(struct {name}, flags2)", size, 36)
        else:
            compare(name, f"sizeof(struct {name})", size)
        for field, (at, width) in zip(fields, offsets(layout), strict=True):
            if field:
                compare(f"{name}.{field}", f"offsetof(struct {name}, {field})", at)
                compare(f"{name}.{field}#", f"sizeof(((struct {name} *)0)->{field})", width)
    for name, place, field, since in NEWER:
        at, _ = offsets(LAYOUTS[name][0])[place]
        compare(f"{name}.{field}", f"offsetof(struct {name}, {field})", at, since)
    for opcode in Opcode:
        compare(f"FUSE_{opcode.name}", f"FUSE_{opcode.name}", opcode)
    for flags, prefix in FLAGS.items():
        for flag in flags:
            compare(f"{prefix}{flag.name}", f"{prefix}{flag.name}", flag, NAMED_SINCE.get(f"{prefix}{flag.name}", 0))
    compare("open", "FUSE_DEV_IOC_BACKING_OPEN", device._BACKING_OPEN, 40)
    compare("close", "FUSE_DEV_IOC_BACKING_CLOSE", device._BACKING_CLOSE, 40)
    compare("setxattr", "FUSE_COMPAT_SETXATTR_IN_SIZE", protocol.SETXATTR_COMPAT.size)
    source = tmp_path / "sizes.c"
    text = "\n".join(lines)
    source.write_text(
        f"#include <stdio.h>\n#include <stddef.h>\n#include <linux/fuse.h>\nint main(void) {{\n{text}\nreturn 0;\n}}\n"
    )
    subprocess.run(["cc", "-o", tmp_path / "sizes", source], check=True)
    said = subprocess.run([tmp_path / "sizes"], capture_output=True, text=True, check=True).stdout
    theirs = {what: int(value) for what, value in (line.split() for line in said.splitlines())}
    assert len(theirs) > 200
    assert theirs == {what: ours[what] for what in theirs}


def test_a_write_is_a_view_and_names_are_copies() -> None:
    fields = STRUCTS["fuse_write_in"].pack(3, 4096, 5, 0, 0, 0, 0)
    buffer = bytearray(request(Opcode.WRITE, fields + b"hello"))
    found = decode(memoryview(buffer))
    assert (found.opcode, found.unique, found.nodeid, found.uid, found.gid) == (Opcode.WRITE, 7, 1, 5, 6)
    assert (found.fields[:3], found.data) == ((3, 4096, 5), b"hello")
    buffer[-5:] = b"HELLO"
    assert found.data == b"HELLO"
    rename = STRUCTS["fuse_rename2_in"].pack(9, 1, 0) + b"old\0new\0"
    buffer = bytearray(request(Opcode.RENAME2, rename))
    found = decode(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert (found.fields[:2], found.names) == ((9, 1), (b"old", b"new"))


def test_attributes_that_are_set() -> None:
    found = decode(memoryview(request(Opcode.SETXATTR, protocol.SETXATTR_COMPAT.pack(3, 0) + b"user.x\0a\0b")))
    assert (found.names, found.data) == ((b"user.x",), b"a\0b")


def test_what_the_kernel_forgets() -> None:
    pairs = [(5, 1), (2**63, 2**40)]
    body = STRUCTS["fuse_batch_forget_in"].pack(2, 0) + b"".join(STRUCTS["fuse_forget_one"].pack(*one) for one in pairs)
    assert decode(memoryview(request(Opcode.BATCH_FORGET, body))).forgets == tuple(pairs)


def test_a_request_that_nobody_knows_is_no_mistake() -> None:
    found = decode(memoryview(request(4711, b"whatever")))
    assert (found.opcode, found.unique) == (None, 7)


@pytest.mark.parametrize(
    ("data", "unique"),
    [
        (b"", None),
        (bytes(39), None),
        (request(Opcode.GETATTR, bytes(16))[:-1], 7),
        (request(Opcode.GETATTR), 7),
        (request(Opcode.LOOKUP, b"no end"), 7),
        (request(Opcode.RENAME, bytes(8) + b"one\0two"), 7),
        (request(Opcode.LOOKUP, b"x" * 2 * limits.FUSE_NAMES_MAX + b"\0"), 7),
        (request(Opcode.WRITE, STRUCTS["fuse_write_in"].pack(1, 0, 6, 0, 0, 0, 0) + b"short"), 7),
        (request(Opcode.BATCH_FORGET, STRUCTS["fuse_batch_forget_in"].pack(2**32 - 1, 0) + bytes(16)), None),
        (request(Opcode.FORGET), None),
        (request(Opcode.INTERRUPT, b"1234"), None),
    ],
)
def test_malformed_requests(data: bytes, unique: int | None) -> None:
    with pytest.raises(MalformedError) as caught:
        decode(memoryview(data))
    assert caught.value.unique == unique


def test_times_before_1970_and_after_2262() -> None:
    body = protocol.attributes(shown(mtime_ns=-1, atime_ns=2**63, size=513))
    _, size, blocks, atime, mtime, _, _, mtimensec, *_ = STRUCTS["fuse_attr"].unpack(body)
    assert (size, blocks, atime) == (513, 2, 2**63 // 10**9)
    assert (mtime, mtimensec) == (2**64 - 1, 999_999_999)


def test_entries_of_directories_are_aligned() -> None:
    for name in (b"a", b"12345678", b"x" * 255):
        entry = protocol.direntplus(name, shown(ino=9, mode=0o100644), 3)
        assert len(entry) % 8 == 0
        ino, position, length, kind = STRUCTS["fuse_dirent"].unpack_from(entry, STRUCTS["fuse_entry_out"].size)
        assert (ino, position, length, kind) == (9, 3, len(name), 8)
        assert entry[152:].rstrip(b"\0") == name


def test_flags_above_the_32nd_travel_by_themselves() -> None:
    body = protocol.init_out(99, 4096, InitFlag.PASSTHROUGH | InitFlag.INIT_EXT | InitFlag.MAX_PAGES, 1 << 20, 1)
    major, minor, readahead, low, _, _, most, _, pages, _, high, depth = STRUCTS["fuse_init_out"].unpack(body)
    assert (major, minor, readahead, most, pages, depth) == (7, protocol.MINOR, 4096, 1 << 20, 256, 1)
    assert (low, high) == (1 << 30 | 1 << 22, 1 << 5)
