"""Where objects lie in the store: ids and names <-> keys.

The only place that spells a key. Names of branches and tags pass `check_ref_name` on their way in; keys that a
listing brings and the format does not know are not ours and are passed over.
"""

from __future__ import annotations

import re
from typing import Final

from modelfs import limits
from modelfs.errors import UsageError
from modelfs.ids import ChunkId
from modelfs.repository.checks import REF_NAME

FORMAT_KEY: Final = "format.json"
KEYS_LOCK: Final = "keys.lock"
DATA: Final = "data/"
META: Final = "meta/"
COMMITS: Final = "commits/"
TAGS: Final = "tags/"
DELTAS: Final = "deltas/"

_OBJECT: Final = re.compile(r"(?:data|meta)/([0-9a-f]{2})/([0-9a-f]{62})")
_COMMIT: Final = re.compile(rf"commits/({REF_NAME.pattern})/([0-9]{{20}})")
_BASE: Final = re.compile(r"deltas/([0-9a-f]{2})/([0-9a-f]{62})-([0-9a-f]{64})")
_TAG: Final = re.compile(rf"tags/({REF_NAME.pattern})")


def chunk_key(chunk: ChunkId) -> str:
    """Key of an encoded chunk."""
    return f"{DATA}{chunk[:1].hex()}/{chunk[1:].hex()}"


def base_key(base: ChunkId, delta: ChunkId) -> str:
    """Key of the note that ``delta`` is stored as differences to ``base``, so that a listing tells what must stay."""
    return f"{DELTAS}{base[:1].hex()}/{base[1:].hex()}-{delta.hex()}"


def meta_key(meta_id: bytes) -> str:
    """Key of an encoded manifest or tree page."""
    return f"{META}{meta_id[:1].hex()}/{meta_id[1:].hex()}"


def commits_prefix(branch: str) -> str:
    """Prefix of all commits of a branch."""
    return f"{COMMITS}{branch}/"


def commit_key(branch: str, number: int) -> str:
    """Key of one commit."""
    return f"{COMMITS}{branch}/{number:020d}"


def tag_key(name: str) -> str:
    """Key of a tag."""
    return f"{TAGS}{name}"


def parse_object_key(key: str) -> bytes | None:
    """The id of a chunk or of a manifest, tensor table or tree page; None when the key is none of theirs."""
    found = _OBJECT.fullmatch(key)
    return bytes.fromhex(found[1] + found[2]) if found else None


def parse_commit_key(key: str) -> tuple[str, int] | None:
    """Branch and number, or None when the key is not a commit's."""
    found = _COMMIT.fullmatch(key)
    if found is None or not 1 <= int(found[2]) <= limits.FILE_SIZE_MAX:
        return None
    return found[1], int(found[2])


def parse_tag_key(key: str) -> str | None:
    """Name of the tag, or None when the key is not a tag's."""
    found = _TAG.fullmatch(key)
    return found[1] if found else None


def parse_base_key(key: str) -> tuple[ChunkId, ChunkId] | None:
    """Base and delta, or None when the key is no such note."""
    found = _BASE.fullmatch(key)
    return (ChunkId(bytes.fromhex(found[1] + found[2])), ChunkId(bytes.fromhex(found[3]))) if found else None


def check_ref_name(name: str) -> str:
    """Return ``name`` if a branch or tag can be called so, else raise UsageError."""
    if not REF_NAME.fullmatch(name):
        raise UsageError(f"not a branch or tag name: {name[:80]!r} (letters, digits, `.`, `_`, `-`; 64 at most)")
    return name
