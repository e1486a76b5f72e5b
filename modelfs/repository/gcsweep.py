"""The second half of a collection: what the store holds that is not marked.

The store is listed in 256 parts for each kind of object, a few at once, so that no more than a few thousand listed
objects are in memory; what is kept of them is the id of each that is not marked. A delta needs its base: notes under
``deltas/`` say which, and a base stays as long as something that could still be read is built on it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from modelfs import limits
from modelfs.repository import gcformat as gc
from modelfs.repository.gcmark import Marks, Tick
from modelfs.repository.idset import IdSet
from modelfs.repository.keys import parse_base_key
from modelfs.store.base import ObjectInfo, Store

_OBJECT: Final = re.compile(r"(data|meta)/([0-9a-f]{2})/([0-9a-f]{62})")
PARTS: Final = tuple(f"{part:02x}" for part in range(256))


def object_key(area: str, object_id: bytes) -> str:
    """Key of a chunk ("data") or of a manifest, table or page ("meta")."""
    text = object_id.hex()
    return f"{area}/{text[:2]}/{text[2:]}"


def parse_object_key(key: str) -> bytes | None:
    """Id of a chunk, manifest, table or page, or None when the key is none's."""
    found = _OBJECT.fullmatch(key)
    return bytes.fromhex(found[2] + found[3]) if found else None


def listed(store: Store, area: str, parts: Iterable[str] = PARTS) -> Iterator[ObjectInfo]:
    """Objects of an area, part by part in order, a few listings ahead."""
    with ThreadPoolExecutor(limits.STORE_CONCURRENCY, "gc-list") as pool:
        ahead: deque[Future[list[ObjectInfo]]] = deque()
        for part in parts:
            ahead.append(pool.submit(lambda prefix: list(store.list(prefix)), f"{area}/{part}/"))
            if len(ahead) > 2 * limits.STORE_CONCURRENCY:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()


@dataclass(slots=True)
class Garbage:
    """Objects of one area that are not marked. ``young``: written less than a grace period ago, and left alone."""

    old: IdSet = field(default_factory=IdSet)
    young: IdSet = field(default_factory=IdSet)
    objects: int = 0  # all that are there, marked or not
    old_bytes: int = 0


def sweep(store: Store, area: str, marks: IdSet, before: float, tick: Tick) -> Garbage:
    """What is in an area and not marked. ``before``: what was written later is young (the store's clock)."""
    found = Garbage()
    for info in listed(store, area):
        tick("listing", 1)
        object_id = parse_object_key(info.key)
        if object_id is None:
            continue
        found.objects += 1
        if object_id in marks:
            continue
        if info.mtime > before:
            found.young.add(object_id)
        else:
            found.old.add(object_id)
            found.old_bytes += info.size
    return found


@dataclass(slots=True)
class Notes:
    """What the notes of deltas say. ``keep``: bases that may not be condemned; ``hold``: bases that may not be
    deleted; ``bases``: all bases of what is garbage; ``of``: notes of deltas whose time has come; ``dead``: notes
    of deltas that do not exist."""

    keep: IdSet = field(default_factory=IdSet)
    hold: IdSet = field(default_factory=IdSet)
    bases: IdSet = field(default_factory=IdSet)
    of: dict[bytes, list[bytes]] = field(default_factory=dict)
    dead: list[bytes] = field(default_factory=list)


def read_notes(store: Store, marks: Marks, garbage: Garbage, ripe: IdSet, before: float, tick: Tick) -> Notes:
    """Read the notes. ``ripe``: chunks that this run will delete if nothing holds them."""
    found = Notes()
    for info in listed(store, gc.DELTAS):
        tick("listing", 1)
        pair = parse_base_key(info.key)
        if pair is None:
            continue
        base, delta = pair
        if delta in marks.chunks or delta in garbage.young:
            found.keep.add(base)
            found.hold.add(base)
        elif delta in garbage.old:
            found.bases.add(base)
            if delta in ripe:
                found.of.setdefault(delta, []).append(base)
            else:
                found.hold.add(base)
        elif info.mtime <= before:
            found.dead.append(base + delta)
    return found
