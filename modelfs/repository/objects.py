"""The vocabulary of what is stored: files, directories and commits as frozen msgspec structs.

On the wire every struct is a msgpack array of its fields in the order of declaration (docs/store-format.md). The
annotations carry the bounds that the decoder checks by itself; `checks` holds the rules that span fields, and every
object passes them on its way out of this machine and on its way in. The structs themselves do not validate, so the
vfs may build them freely.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from modelfs import limits
from modelfs.ids import CommitId, TreeId, digest

_Size = Annotated[int, Meta(ge=0, le=limits.FILE_SIZE_MAX)]
_Positive = Annotated[int, Meta(ge=1, le=limits.FILE_SIZE_MAX)]
_Time = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Owner = Annotated[int, Meta(ge=0, le=2**32 - 1)]
_Text = Annotated[str, Meta(max_length=limits.COMMIT_TEXT_MAX)]
_Xattr = tuple[
    Annotated[bytes, Meta(min_length=1, max_length=limits.XATTR_NAME_MAX)],
    Annotated[bytes, Meta(max_length=limits.XATTR_VALUE_MAX)],
]


# No root has an entry of this name: there a mount shows what it can tell of itself.
OWN_NAME: Final = b".modelfs"

# An extended attribute of a commit's root: the branch ends here. No file system sets one of that name.
BRANCH_END: Final = b"modelfs.branch.end"


class Kind(IntEnum):
    """What a directory entry is. The numbers are part of the format."""

    FILE = 1
    INLINE = 2
    DIRECTORY = 3
    SYMLINK = 4
    FIFO = 5
    SOCKET = 6
    CHAR = 7
    BLOCK = 8


class Extent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A run of a file: one chunk, or zeros that are not stored (``id`` = b"")."""

    id: Annotated[bytes, Meta(max_length=32)]
    length: _Positive


class Manifest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The content of one version of a file: extents in order, their lengths sum to ``size``.

    ``tensors`` is the id of its `TensorTable`, b"" when the format of the file is unknown.
    """

    size: _Size
    chunks: Annotated[tuple[Extent, ...], Meta(max_length=limits.MANIFEST_CHUNKS_MAX)]
    tensors: Annotated[bytes, Meta(max_length=32)] = b""


class TensorSpan(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A tensor of a file: ``length`` bytes at ``offset``. ``dtype`` as safetensors spells it, "" unknown."""

    offset: _Size
    length: _Positive
    dtype: Annotated[str, Meta(max_length=16)]
    shape: Annotated[tuple[_Size, ...], Meta(max_length=64)]
    name: Annotated[str, Meta(max_length=limits.PATH_MAX)]


class TensorTable(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where the tensors of a file of a known format lie: by offset, not overlapping. ``format``: "safetensors", …"""

    format: Annotated[str, Meta(max_length=32)]
    tensors: Annotated[tuple[TensorSpan, ...], Meta(max_length=limits.TENSOR_TABLE_MAX)]


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One name in a directory (or the root, whose name is b"").

    ``content`` by kind: FILE the manifest id, INLINE the bytes, DIRECTORY the tree id, SYMLINK the target,
    CHAR and BLOCK the device number in 8 bytes big-endian, else b"". ``xattrs`` are sorted by name.

    ``group``: 16 random bytes when the file may have several names (hard links): all entries of a group are equal but
    for the name, so each can be read without the others. ``linked`` of a directory: how many entries in it and below
    it have a group, so that they can be found without reading the rest of the tree.
    """

    name: Annotated[bytes, Meta(max_length=limits.NAME_MAX)]
    kind: Kind
    mode: Annotated[int, Meta(ge=0, le=0o7777)]
    uid: _Owner
    gid: _Owner
    mtime_ns: _Time
    size: _Size
    content: Annotated[bytes, Meta(max_length=limits.INLINE_MAX)]
    xattrs: Annotated[tuple[_Xattr, ...], Meta(max_length=limits.XATTR_TOTAL_MAX)] = ()
    group: Annotated[bytes, Meta(max_length=limits.LINK_GROUP)] = b""
    linked: _Size = 0


class Commit(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One point of a branch's history. ``parent`` is b"" for number 1; ``files`` and ``size`` say what changed."""

    number: _Positive
    parent: Annotated[bytes, Meta(max_length=32)]
    root: Entry
    time_ns: _Time
    host: _Text
    user: _Text
    message: _Text
    files: _Size
    size: _Size

    @property
    def ends(self) -> bool:
        """True when this commit says that its branch was deleted."""
        return any(name == BRANCH_END for name, _ in self.root.xattrs)


class SignedCommit(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A commit's msgpack bytes and a signature over them: what is stored in the place of the commit."""

    commit: bytes
    key: Annotated[bytes, Meta(min_length=32, max_length=32)]
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


class Tag(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A name for one commit, given once."""

    branch: Annotated[str, Meta(max_length=64)]
    number: _Positive
    commit: Annotated[bytes, Meta(min_length=32, max_length=32)]
    time_ns: _Time


class PageRef(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A page of a large directory as its index page lists it: first name, id, entries below, their weight, and how
    many of them, or below them, have a group."""

    name: Annotated[bytes, Meta(min_length=1, max_length=limits.NAME_MAX)]
    id: Annotated[bytes, Meta(min_length=32, max_length=32)]
    count: _Positive
    weight: _Positive
    linked: _Size = 0


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """A commit and where it stands. ``plain``: its bytes as they were written, whose hash is the id. ``signed_by``: the
    public key, b"" for one without a signature, which is in ``signature``."""

    branch: str
    number: int
    id: CommitId
    commit: Commit
    plain: bytes = field(repr=False)
    signed_by: bytes = b""
    signature: bytes = b""


@dataclass(slots=True)
class TreeDelta:
    """Changes to one directory and, through ``subdirs``, to those below it.

    ``subdirs``: the entry of a directory, whose content is the tree that its delta applies to (EMPTY_TREE for a new
    one). Deleting an absent name changes nothing; a name in ``puts`` or ``subdirs`` is not deleted.
    """

    puts: dict[bytes, Entry] = field(default_factory=dict)
    deletes: set[bytes] = field(default_factory=set)
    subdirs: dict[bytes, tuple[Entry, TreeDelta]] = field(default_factory=dict)


# The leaf page without entries, [0, []]: every program knows it, so it is neither stored nor read.
EMPTY_PAGE: Final = b"\x92\x00\x90"
EMPTY_TREE: Final = TreeId(digest(EMPTY_PAGE))
