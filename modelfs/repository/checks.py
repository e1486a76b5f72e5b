"""Rules of the format that span fields: raise ValueError with the reason, in one line.

`packing` calls them for every object that arrives and every object that leaves. A name that could climb out of a
directory, a duplicate, a sum that does not add up: refused here, so nothing above needs to be suspicious.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from modelfs import limits
from modelfs.ids import ID_LENGTH
from modelfs.repository.objects import Commit, Entry, Extent, Kind, Manifest, PageRef, Tag, TensorTable

REF_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_WITH_ID: Final = frozenset({Kind.FILE, Kind.DIRECTORY})
_DEVICES: Final = frozenset({Kind.CHAR, Kind.BLOCK})


def check_name(name: bytes) -> None:
    """A file name as Linux allows it, and never one that means another directory."""
    if not 1 <= len(name) <= limits.NAME_MAX:
        raise ValueError(f"a name of {len(name)} bytes")
    if name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise ValueError(f"the name {_show(name)}")


def check_entry(entry: Entry) -> None:
    """One entry of a directory."""
    check_name(entry.name)
    _check_attributes(entry)


def check_root(entry: Entry) -> None:
    """The root of a commit: a directory without a name."""
    if entry.name or entry.kind is not Kind.DIRECTORY:
        raise ValueError("a root that is not a directory without a name")
    _check_attributes(entry)


def _check_attributes(entry: Entry) -> None:
    kind, content = entry.kind, entry.content
    if kind in _WITH_ID:
        fits = len(content) == ID_LENGTH
    elif kind is Kind.INLINE:
        fits = len(content) == entry.size
    elif kind is Kind.SYMLINK:
        fits = 1 <= len(content) <= limits.SYMLINK_MAX and b"\0" not in content
    elif kind in _DEVICES:
        fits = len(content) == 8
    else:
        fits = not content
    if not fits:
        raise ValueError(f"{len(content)} bytes of content in the {kind.name} {_show(entry.name)}")
    if len(entry.group) not in (0, limits.LINK_GROUP) or (entry.group and kind is Kind.DIRECTORY):
        raise ValueError(f"a link group of {len(entry.group)} bytes in the {kind.name} {_show(entry.name)}")
    if entry.linked and kind is not Kind.DIRECTORY:
        raise ValueError(f"linked names below the {kind.name} {_show(entry.name)}")
    if entry.xattrs:
        _check_xattrs(entry)


def _check_xattrs(entry: Entry) -> None:
    total, last = 0, b""
    for name, value in entry.xattrs:
        if name <= last or b"\0" in name:
            raise ValueError(f"extended attributes of {_show(entry.name)} not sorted or not unique")
        last = name
        total += len(name) + len(value)
    if total > limits.XATTR_TOTAL_MAX:
        raise ValueError(f"{total} bytes of extended attributes at {_show(entry.name)}")


def check_leaf(entries: Iterable[Entry]) -> None:
    """Entries of a leaf page: each valid, sorted, unique."""
    last = b""
    for entry in entries:
        check_entry(entry)
        if entry.name <= last:
            raise ValueError(f"the name {_show(entry.name)} out of order or twice")
        last = entry.name


def check_index(refs: Iterable[PageRef]) -> None:
    """References of an index page: at least one, sorted, unique."""
    last = b""
    for ref in refs:
        check_name(ref.name)
        if ref.name <= last:
            raise ValueError(f"the page {_show(ref.name)} out of order or twice")
        last = ref.name
    if not last:
        raise ValueError("an index page without pages")


def check_manifest(manifest: Manifest) -> None:
    """Extents of sane length that sum to the size of the file."""
    total = 0
    for extent in manifest.chunks:
        total += _checked_length(extent)
    if total != manifest.size:
        raise ValueError(f"chunks of {total} bytes for a file of {manifest.size}")
    if len(manifest.tensors) not in (0, ID_LENGTH):
        raise ValueError(f"a tensor table id of {len(manifest.tensors)} bytes")


def _checked_length(extent: Extent) -> int:
    id_length, length = len(extent.id), extent.length
    if id_length == ID_LENGTH:
        if length > limits.CHUNK_LENGTH_MAX:
            raise ValueError(f"a chunk of {length} bytes")
    elif id_length:
        raise ValueError(f"a chunk id of {id_length} bytes")
    return length


def check_tensors(table: TensorTable) -> None:
    """Tensors in order that do not overlap."""
    end = 0
    for tensor in table.tensors:
        if tensor.offset < end:
            raise ValueError(f"the tensor {tensor.name[:80]!r} out of order or over another one")
        end = tensor.offset + tensor.length
    if end > limits.FILE_SIZE_MAX:
        raise ValueError("tensors behind the largest end of a file")


def check_commit(commit: Commit) -> None:
    """A root that is a directory; a parent unless it is the first."""
    check_root(commit.root)
    if len(commit.parent) != (0 if commit.number == 1 else ID_LENGTH):
        raise ValueError(f"a parent id of {len(commit.parent)} bytes in commit {commit.number}")


def check_tag(tag: Tag) -> None:
    """A tag names a branch."""
    if not REF_NAME.fullmatch(tag.branch):
        raise ValueError(f"the branch {tag.branch!r}")


def _show(name: bytes) -> str:
    return repr(name[:80])[1:]
