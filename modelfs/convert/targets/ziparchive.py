"""zip archives of members that are stored as they are: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modelfs.convert.model import Tensor
from modelfs.convert.plan import Plan

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_END64: Final = struct.Struct("<4sQ2H2I4Q")
_LOCATOR: Final = struct.Struct("<4sIQI")
_MADE_BY: Final = 0x0300 + 45  # Unix; version 4.5 of the format knows archives above 4 GiB
_UTF8: Final = 0x0800
_DATE: Final = 0x0021  # 1 January 1980: the same model gives the same archive
_HUGE: Final = 0xFFFFFFFF
_MANY: Final = 0xFFFF
_PADDING: Final = b"FB"  # as PyTorch calls the extra field that it aligns data with


@dataclass(frozen=True, slots=True)
class Member:
    """``head``, then a tensor (None: nothing). ``crc``: of both together."""

    name: str
    head: bytes
    tensor: Tensor | None
    crc: int

    @property
    def size(self) -> int:
        return len(self.head) + (self.tensor.length if self.tensor is not None else 0)


def text(name: str, data: bytes) -> Member:
    """A member without a tensor."""
    return Member(name, data, None, zlib.crc32(data))


def plan(members: Sequence[Member], alignment: int) -> Plan:
    """The archive. The data of each member begins at a multiple of ``alignment``."""
    made = Plan()
    entries: list[bytes] = []
    for member in members:
        entries.append(_member(made, member, alignment))
    start = made.size
    made.literal(b"".join(entries))
    _end(made, start, len(entries))
    return made


def _member(made: Plan, member: Member, alignment: int) -> bytes:
    """Append a member; its entry in the directory."""
    name, offset, size = member.name.encode(), made.size, member.size
    flags = 0 if name.isascii() else _UTF8
    huge = size >= _HUGE
    short = _HUGE if huge else size
    extra = struct.pack("<2H2Q", 1, 16, size, size) if huge else b""
    padding = -(offset + _LOCAL.size + len(name) + len(extra) + 4) % alignment
    extra += struct.pack("<2sH", _PADDING, padding) + b"Z" * padding
    made.literal(
        _LOCAL.pack(b"PK\3\4", 45, flags, 0, 0, _DATE, member.crc, short, short, len(name), len(extra))
        + name
        + extra
        + member.head
    )
    if member.tensor is not None:
        made.tensor(member.tensor)
    far = offset >= _HUGE
    long = struct.pack("<2Q", size, size) if huge else b""
    long += struct.pack("<Q", offset) if far else b""
    extra = struct.pack("<2H", 1, len(long)) + long if long else b""
    head = (b"PK\1\2", _MADE_BY, 45, flags, 0, 0, _DATE, member.crc, short, short, len(name), len(extra), 0, 0, 0, 0)
    return _CENTRAL.pack(*head, _HUGE if far else offset) + name + extra


def _end(made: Plan, start: int, count: int) -> None:
    end = made.size
    if count >= _MANY or end >= _HUGE:
        made.literal(_END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, count, count, end - start, start))
        made.literal(_LOCATOR.pack(b"PK\6\7", 0, end, 1))
    few = min(count, _MANY)
    made.literal(_END.pack(b"PK\5\6", 0, 0, few, few, min(end - start, _HUGE), min(start, _HUGE), 0))
