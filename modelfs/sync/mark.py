"""Where the last sync of a branch came to: ``sync/<id of the source>/<branch>`` in the target.

Copies are recognised without it. It is needed when a retention has dropped the commit of the source that the target has
as its newest, so that nothing there tells any more that the one follows the other. It counts only while the target's
newest commit is the one that it names.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from modelfs import limits
from modelfs.errors import CorruptError, NotFoundError
from modelfs.ids import ID_LENGTH
from modelfs.repository.envelope import unwrap, wrap
from modelfs.store.base import Store

SYNC: Final = "sync/"

_Number = Annotated[int, Meta(ge=1, le=limits.FILE_SIZE_MAX)]
_Id = Annotated[bytes, Meta(min_length=ID_LENGTH, max_length=ID_LENGTH)]


class Mark(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Number and id of a commit in the source, and of its copy in the target."""

    source_number: _Number
    source_id: _Id
    number: _Number
    id: _Id


def mark_key(source: str, branch: str) -> str:
    """Key of the mark of one branch. ``source``: the id of that store."""
    return f"{SYNC}{source}/{branch}"


def pack_mark(mark: Mark) -> bytes:
    """Plain bytes of a mark."""
    return msgspec.msgpack.encode(mark)


def unpack_mark(plain: bytes) -> Mark:
    """A mark. ValueError."""
    try:
        return msgspec.msgpack.decode(plain, type=Mark)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def read_mark(store: Store, source: str, branch: str) -> Mark | None:
    """The mark, None when there is none. CorruptError."""
    key = mark_key(source, branch)
    try:
        return unpack_mark(unwrap(store.get(key)))
    except NotFoundError:
        return None
    except ValueError as error:
        raise CorruptError(f"{key} in {store.url} is damaged: {error}; it can be deleted", key) from error


def write_mark(store: Store, source: str, branch: str, mark: Mark) -> None:
    """Put a mark in the place of the one before."""
    store.put(mark_key(source, branch), wrap(pack_mark(mark), checksum=True))
