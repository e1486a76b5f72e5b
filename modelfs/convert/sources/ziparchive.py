"""Members of finished zip archives, by the central directory. What is in them is not unpacked."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from modelfs.convert.files import SeekableFile, StoredFile
from modelfs.errors import UsageError


@dataclass(frozen=True, slots=True)
class Member:
    """``length`` bytes of the archive at ``offset``. ``stored``: not compressed."""

    name: str
    offset: int
    length: int
    stored: bool


def members(file: StoredFile) -> Iterator[Member]:
    """All members. UsageError when the archive is damaged."""
    try:
        with zipfile.ZipFile(SeekableFile(file)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error, OverflowError) as error:
        raise UsageError(f"{file.path}: the zip archive makes no sense ({error})") from error
    for info in infos:
        yield Member(info.filename, info.header_offset, info.compress_size, info.compress_type == zipfile.ZIP_STORED)


def data_of(file: StoredFile, member: Member) -> int:
    """Where the bytes of a stored member begin. UsageError when it is compressed or not there."""
    if not member.stored:
        raise UsageError(f"{file.path}: {member.name[:200]!r} is compressed, so its bytes are not those of a tensor")
    head = file.read(member.offset, 30)
    start = member.offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    encrypted = len(head) == 30 and head[6] & 1
    if len(head) < 30 or not head.startswith(b"PK\x03\x04") or encrypted or start + member.length > file.size:
        raise UsageError(f"{file.path}: member {member.name[:200]!r} is not where the archive says")
    return start
