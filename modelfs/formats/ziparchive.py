"""ZIP archives whose members are tensors: torch.save, numpy.savez, Keras, and PyTorch's distributed checkpoints.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT. The archive is walked from its beginning, local
header by local header, so that a file can be understood while it is being written, and several archives one after
the other (``.distcp``) are one file. Savers do not always write a member's size in front of it; then it is told from

* the pickle that torch writes before its storages (`modelfs.formats.pickle`),
* the header of a ``.npy``, or
* the data descriptor behind a short member.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

from modelfs import limits
from modelfs.formats import hdf5, npy, pickle
from modelfs.formats.layout import Layout, Parser, Span, Want, Window, layout, whole_file, within

_LOCAL: Final = b"PK\x03\x04"
_DESCRIPTOR: Final = b"PK\x07\x08"
_STORED: Final = 0
_SIZE_FOLLOWS: Final = 0x08
_HUGE: Final = 0xFFFFFFFF
_ZIP64: Final = 0x0001
# What stands between and behind the members: signature -> length of the fixed part, where the lengths of the variable
# parts stand in it, and their width.
_OTHERS: Final[dict[bytes, tuple[int, tuple[int, ...], int]]] = {
    b"PK\x01\x02": (46, (28, 30, 32), 2),  # central directory entry
    b"PK\x06\x06": (12, (4,), 8),  # zip64 end of central directory
    b"PK\x06\x07": (20, (), 0),  # its locator
    b"PK\x05\x06": (22, (20,), 2),  # end of central directory
}

Step = Generator[Want | Layout, bytes, int | None]  # yields as a parser does, returns a length


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    method: int
    offset: int  # of its data
    size: int | None  # as the local header says; None when it does not
    zip64: bool


@dataclass(slots=True)
class _Archive:
    """What has been found so far."""

    size: int | None
    window: Window = field(default_factory=Window)
    spans: list[Span] = field(default_factory=list)
    storages: dict[str, pickle.Storage] = field(default_factory=dict)
    told: int = 0


def looks_like(head: bytes) -> bool:
    """A local header."""
    return head.startswith(_LOCAL)


def parse(size: int | None) -> Parser:
    """Walks the file; a growing one tells its layout bit by bit."""
    archive = _Archive(size)
    at = 0
    while size is None or at < size:
        signature = yield from archive.window.read(at, 4)
        if signature == _LOCAL:
            end = yield from _member(archive, at)
        elif signature in _OTHERS:
            end = yield from _skip(archive, at, *_OTHERS[signature])
        else:
            end = None
        if end is None or end <= at or len(archive.spans) > limits.LAYOUT_SPANS_MAX:
            return None
        at = end
        if size is None and at - archive.told >= limits.LAYOUT_TOLD_EVERY:
            archive.told = at
            so_far = layout("zip", archive.spans, at, complete=False)
            if so_far is None:
                return None
            yield so_far
    return layout("zip", archive.spans, at) if archive.spans and at == size else None


def _skip(archive: _Archive, at: int, fixed: int, variable: tuple[int, ...], width: int) -> Step:
    head = yield from archive.window.read(at, fixed)
    if len(head) < fixed:
        return None
    return at + fixed + sum(int.from_bytes(head[i : i + width], "little") for i in variable)


def _member(archive: _Archive, at: int) -> Step:
    """The end of the member whose local header is at ``at``; its tensors are noted."""
    head = yield from archive.window.read(at, 30)
    if len(head) < 30:
        return None
    flags, method = head[6] | head[7] << 8, head[8] | head[9] << 8
    compressed, names, extras = (int.from_bytes(head[a:b], "little") for a, b in ((18, 22), (26, 28), (28, 30)))
    text = yield from archive.window.read(at + 30, names + extras)
    if len(text) < names + extras:
        return None
    zip64, long = _zip64_size(text[names:])
    size: int | None = (long if long is not None else compressed) if compressed == _HUGE else compressed
    if (flags & _SIZE_FOLLOWS or zip64) and not size:
        size = None
    member = _Member(text[:names].decode("utf-8", "replace"), method, at + 30 + names + extras, size, zip64)
    length = yield from _content(archive, member)
    if length is None:
        return None
    end = member.offset + length
    return (yield from _descriptor(archive, end, length)) if flags & _SIZE_FOLLOWS else end


def _zip64_size(extra: bytes) -> tuple[bool, int | None]:
    """Whether there is a zip64 field, and the compressed size in it."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = int.from_bytes(extra[at : at + 2], "little"), int.from_bytes(extra[at + 2 : at + 4], "little")
        if kind == _ZIP64:
            return True, int.from_bytes(extra[at + 12 : at + 20], "little") if length >= 16 else None
        at += 4 + length
    return False, None


def _content(archive: _Archive, member: _Member) -> Step:
    """Length of a member's data; its tensors are noted."""
    if member.method != _STORED:
        return member.size if member.size is not None else (yield from _search(archive, member.offset))
    if member.name.endswith(".npy"):
        return (yield from _numpy(archive, member))
    if member.name.endswith(".pkl"):
        length = yield from _pickle(archive, member)
        return length if length is not None else (yield from _search(archive, member.offset))
    directory, _, key = member.name.rpartition("/")
    storage = archive.storages.get(key) if directory.rpartition("/")[2] == "data" else None
    if storage is not None:
        if member.size not in (None, storage.length):
            return None
        archive.spans.append(Span(member.offset, storage.length, storage.dtype, storage.shape, storage.name))
        return storage.length
    if member.name.endswith(".h5") and member.size is not None:
        inner = yield from within(hdf5.parse(member.size, archive.window.budget), member.offset, "")
        archive.spans.extend(inner.spans if inner is not None else ())
    return member.size if member.size is not None else (yield from _search(archive, member.offset))


def _numpy(archive: _Archive, member: _Member) -> Step:
    head = yield from archive.window.read(member.offset, 12)
    if head.startswith(npy.MAGIC):
        inner = yield from within(npy.parse(member.size), member.offset, "")
        if inner is not None:
            name = member.name.removesuffix(".npy")
            archive.spans.extend(Span(s.offset, s.length, s.dtype, s.shape, name) for s in inner.spans)
            return inner.size - member.offset
    return member.size


def _pickle(archive: _Archive, member: _Member) -> Step:
    """Length of a pickle, and the storages that follow it."""
    wanted = member.size if member.size is not None else limits.PICKLE_FIRST_READ
    while wanted <= limits.PICKLE_SIZE_MAX:
        data = yield Want(member.offset, wanted)
        found = pickle.read(data, archive.window.budget)
        if found is not None:
            length, storages = found
            archive.storages = storages
            return length if member.size is None else member.size
        if member.size is not None or len(data) < wanted:
            break
        wanted *= 4
    return member.size


def _search(archive: _Archive, offset: int) -> Step:
    """Length of a short member whose size stands only in the data descriptor behind it."""
    data = yield from archive.window.read(offset, limits.ZIP_SEARCH)
    at = data.find(_DESCRIPTOR)
    while at >= 0:
        if int.from_bytes(data[at + 8 : at + 12], "little") == at:
            return at
        at = data.find(_DESCRIPTOR, at + 1)
    if archive.size is None:
        yield whole_file()
    return None


def _descriptor(archive: _Archive, at: int, length: int) -> Step:
    """The end of a data descriptor: with or without its signature, sizes of 4 or 8 bytes."""
    data = yield from archive.window.read(at, 24)
    start = 8 if data.startswith(_DESCRIPTOR) else 4
    for width in (8, 4):
        if int.from_bytes(data[start : start + width], "little") == length and (
            int.from_bytes(data[start + width : start + 2 * width], "little") == length
        ):
            return at + start + 2 * width
    return None
