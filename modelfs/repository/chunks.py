"""Chunks: bytes of files, stored once however many files have them.

`read` gives exactly the bytes that the id names, or an error that names the chunk. `write` uploads what the store
does not have; a chunk that was seen damaged or missing is uploaded again, over what is there, whatever the store
says about it. Used by the reader, the writer, fsck and the command line, from many threads.

A chunk of a tensor that the store has in an earlier version may be stored as its differences to that one. What is
built upon is always stored plain: a delta is only ever created where nothing is, and only after its base was seen to
be plain; a plain chunk may replace anything, and nothing replaces a plain chunk by a delta.

A chunk may be a link to a range of an object elsewhere (`originals`). It is read and verified as any other. Who writes
the bytes does not rely on it: a link counts as absent, unless links are what is written (`link`).
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from modelfs import codecs, limits
from modelfs.codecs import Compression, DeltaHead, Element, Link
from modelfs.codecs import link as links
from modelfs.errors import (
    AlreadyExistsError,
    BrokenLinkError,
    CorruptError,
    LinkError,
    LinkRefusedError,
    NotFoundError,
    UsageError,
)
from modelfs.ids import ChunkId, Ids
from modelfs.repository.again import twice
from modelfs.repository.condemned import Condemned
from modelfs.repository.keys import base_key, chunk_key
from modelfs.repository.originals import Originals, State
from modelfs.repository.sources import Sources
from modelfs.store.base import Buffer, Store

# (id, length) -> the plain, verified bytes when this machine has them
Local = Callable[[ChunkId, int], Buffer | None]


class Trial:
    """Whether deltas pay in one file, by what was seen of it so far.

    Trying costs as much as reading the earlier version. Where a whole file is no successor of what it was taken for,
    one in ``DELTA_TRIAL_STEP`` chunks is tried, until one pays. Shared by threads: a lost count would only blur it.
    """

    def __init__(self) -> None:
        self._failed = 0  # since a delta paid

    def wanted(self) -> bool:
        """True when the next chunk should be tried."""
        return self._failed < limits.DELTA_TRIALS or self._failed % limits.DELTA_TRIAL_STEP == 0

    def note(self, paid: bool) -> None:
        """What became of a chunk, tried or not."""
        self._failed = 0 if paid else self._failed + 1


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a writer knows of a chunk that is a piece of a tensor. ``earlier``: the same piece in earlier versions,
    the likeliest first; ``trial``: what became of the other chunks of the file."""

    element: Element | None
    earlier: tuple[ChunkId, ...] = ()
    trial: Trial | None = None


# How a chunk is stored: as differences, whole (None), or as a link.
_Form = DeltaHead | None | Literal["link"]


class Chunks:
    """Reads and writes the chunks of one store."""

    def __init__(
        self,
        store: Store,
        ids: Ids,
        compression: Compression,
        condemned: Condemned,
        sources: Sources,
        originals: Originals,
    ) -> None:
        self._store = store
        self._ids = ids
        self._condemned = condemned
        self._sources = sources
        self._originals = originals
        self.presence = condemned.chunks
        self._lock = threading.Lock()
        self._forms: OrderedDict[ChunkId, _Form] = OrderedDict()
        self.compression = compression
        self.local: Local = lambda chunk, length: None

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, chunk: ChunkId, length: int) -> Buffer:
        """The ``length`` plain bytes of a chunk, verified."""
        return self.read_stored(chunk, length)[1]

    def read_stored(self, chunk: ChunkId, length: int) -> tuple[Buffer, Buffer]:
        """A chunk as it is stored, and its ``length`` plain bytes, verified."""

        def read_base(base: bytes) -> Buffer:
            return self._base(ChunkId(base), length)

        return self._read(chunk, length, read_base)

    def _base(self, base: ChunkId, length: int) -> Buffer:
        found = self.local(base, length)
        if found is not None:
            return found
        try:
            return self._read(base, length, None)[1]
        except (NotFoundError, CorruptError) as error:
            raise CorruptError(f"what it builds upon cannot be had: {error}") from error

    def _read(self, chunk: ChunkId, length: int, read_base: Callable[[bytes], Buffer] | None) -> tuple[Buffer, Buffer]:
        key = chunk_key(chunk)
        stamp = self.presence.stamp()
        if not 0 < length <= limits.CHUNK_LENGTH_MAX:
            raise CorruptError(f"chunk {chunk.hex()} is said to have {length} bytes", key)

        def fetch() -> tuple[Buffer, Buffer]:
            encoded = self._store.get(key)
            plain = codecs.decode(encoded, length, read_base, lambda link: self._originals.read(link, length))
            if self._ids.digest(plain) != chunk:
                if codecs.is_link(encoded):
                    raise self._originals.changed(links.decode(encoded))
                raise CorruptError("its bytes do not match its id", key)
            return encoded, plain

        try:
            encoded, plain = twice(fetch, key)
        except NotFoundError as error:
            self.presence.suspect(chunk)
            raise NotFoundError(f"chunk {chunk.hex()} is missing in {self._store.url}", key) from error
        except BrokenLinkError as error:
            self.presence.suspect(chunk)
            what = f"chunk {chunk.hex()} in {self._store.url} is a broken link: {error}"
            raise BrokenLinkError(what, key, error.original) from error
        except LinkRefusedError as error:
            raise LinkRefusedError(f"chunk {chunk.hex()} in {self._store.url} is a link: {error}", key) from error
        except LinkError as error:
            what = f"chunk {chunk.hex()} in {self._store.url} is a link: {error}"
            raise LinkError(what, key, error.original) from error
        except CorruptError as error:
            self.presence.suspect(chunk)
            raise CorruptError(f"chunk {chunk.hex()} in {self._store.url} is damaged: {error}", key) from error
        self.presence.confirm(chunk, stamp)
        self._remember(chunk, _form_of(encoded))
        return encoded, plain

    # -- writing ------------------------------------------------------------------------------------------------

    def write(self, plain: Buffer, tensor: Tensor | None = None) -> tuple[ChunkId, int]:
        """Make sure that the store has these bytes: their id, and how many bytes were sent for it."""
        if not 0 < len(plain) <= limits.CHUNK_LENGTH_MAX:
            raise UsageError(f"a chunk of {len(plain)} bytes: 1 to {limits.CHUNK_LENGTH_MAX} fit the format")
        chunk = ChunkId(self._ids.digest(plain))
        self.keep_fresh()
        if self.presence.known(chunk) and not self.is_link(chunk):
            return chunk, 0
        stamp = self.presence.stamp()
        doubtful = self.presence.doubtful(chunk)
        there = None if doubtful else self.stored(chunk)
        if there and not self.is_link(chunk):
            return chunk, 0
        encoded = codecs.encode(plain, tensor.element if tensor is not None else None, self.compression)
        if tensor is not None and tensor.earlier and not doubtful and there is None:
            trial = tensor.trial or Trial()
            sent = self._write_delta(chunk, plain, encoded, tensor) if trial.wanted() else 0
            trial.note(sent > 0)
            if sent:
                return chunk, sent
        self._put(chunk, encoded, stamp)
        return chunk, len(encoded)

    def link(self, plain: Buffer, link: Link) -> tuple[ChunkId, int]:
        """As `write`, but what the store does not have becomes a link. ``link``: where these bytes were read; its
        source is in the store. One that is there and leads to where nothing is as it was is replaced."""
        if len(plain) <= limits.LINK_OBJECT_MAX:
            return self.write(plain)
        chunk, encoded = ChunkId(self._ids.digest(plain)), links.encode(link)
        key = chunk_key(chunk)
        self.keep_fresh()
        if self.presence.known(chunk):
            return chunk, 0
        stamp = self.presence.stamp()
        try:
            self._store.put_if_absent(key, encoded)
        except AlreadyExistsError:
            try:
                there = self._store.get(key)
            except NotFoundError:  # it was deleted in between
                there = b""
            if not codecs.is_link(there):
                # Bytes are never replaced by a link. What is there may be doubtful, and is looked at as by any writer.
                return self.write(plain)
            if not self.presence.doubtful(chunk) and not self._outdated(there, link):
                self.presence.vouch((chunk,), stamp)
                return chunk, 0
            self._store.put(key, encoded)
        self.presence.wrote(chunk, stamp)
        self._remember(chunk, "link")
        return chunk, len(encoded)

    def _outdated(self, there: Buffer, link: Link) -> bool:
        """True for a link that leads to where nothing is, or nothing as it was."""
        try:
            found = links.decode(there)
        except CorruptError:
            return True
        if (found.source, found.key) == (link.source, link.key):
            return (found.size, found.mtime_ns) != (link.size, link.mtime_ns)
        return self._originals.look(found).state is not State.FINE

    def is_link(self, chunk: ChunkId) -> bool:
        """True when the store has the chunk as a link. Asks only a store that has sources."""
        if not self._sources.exist:
            return False
        try:
            return self._form(chunk) == "link"
        except (NotFoundError, CorruptError):
            return False

    def stored_link(self, chunk: ChunkId) -> Link | None:
        """The link that the store has in the place of a chunk's bytes; None for others, and for what is not there.
        CorruptError."""
        self._sources.keep_fresh(-math.inf)
        if not self._sources.exist:
            return None
        try:
            start = self._store.get_range(chunk_key(chunk), 0, codecs.DELTA_HEAD_LENGTH)
            return links.decode(self._store.get(chunk_key(chunk))) if codecs.is_link(start) else None
        except NotFoundError:
            return None

    def keep_fresh(self) -> None:
        """Know what is condemned, and whether there may be links."""
        self._condemned.keep_fresh()
        self._sources.keep_fresh(self._condemned.began)

    def stored(self, chunk: ChunkId) -> bool | None:
        """Ask the store for a chunk that is not doubtful. False for an empty object, which is no encoded chunk and is
        not believed; None when there is nothing."""
        stamp = self.presence.stamp()
        size = self._store.size(chunk_key(chunk))
        if size:
            self.presence.vouch((chunk,), stamp)
            if size <= limits.LINK_OBJECT_MAX:  # it may have become a link since it was looked at
                with self._lock:
                    self._forms.pop(chunk, None)
        return None if size is None else size > 0

    def restore(self, chunk: ChunkId, length: int) -> None:
        """Write a chunk again that is condemned or gone, from this machine's copy, else from the store's. A link is
        written as it is.

        NotFoundError, CorruptError when there is neither.
        """
        stamp = self.presence.stamp()
        plain = self.local(chunk, length)
        if plain is None and (link := self.stored_link(chunk)) is not None:
            self._store.put(chunk_key(chunk), links.encode(link))
            self.presence.wrote(chunk, stamp)
            return
        if plain is None:
            plain = self.read(chunk, length)
        self._put(chunk, codecs.encode(plain, None, self.compression), stamp)

    def take(self, chunk: ChunkId, encoded: Buffer, plain: Buffer) -> int:
        """Store a chunk as another store has it: the bytes sent. ``plain``: the same, verified by the caller.

        A delta stays one if its base is here, and is none itself; else the chunk is stored plain, as is a link.
        """
        self.keep_fresh()
        stamp = self.presence.stamp()
        if codecs.is_link(encoded):
            encoded = codecs.encode(plain, None, self.compression)
        head = codecs.delta_head(encoded)
        if head is None:
            self._put(chunk, encoded, stamp)
            return len(encoded)
        base = ChunkId(head.base)
        try:
            usable = not self.presence.doubtful(chunk) and self._form(base) is None and not self.is_link(chunk)
        except (NotFoundError, CorruptError):
            usable = False
        if usable:
            return len(encoded) if self._put_delta(chunk, base, encoded, stamp) else 0
        packed = codecs.encode(plain, head.element, self.compression)
        self._put(chunk, packed, stamp)
        return len(packed)

    def _put(self, chunk: ChunkId, encoded: Buffer, stamp: int) -> None:
        self._store.put(chunk_key(chunk), encoded)
        self.presence.wrote(chunk, stamp)
        self._remember(chunk, None)

    def _write_delta(self, chunk: ChunkId, plain: Buffer, encoded: bytes, tensor: Tensor) -> int:
        """Store the chunk as a delta if that pays: the bytes sent, 0 when it does not."""
        margin = limits.DELTA_MARGIN.get(self.compression.value)
        if margin is None or tensor.element is None or len(plain) % tensor.element.width:
            return 0
        for earlier in tensor.earlier:
            if earlier == chunk or (found := self._building_on(earlier, len(encoded))) is None:
                continue
            root, age, series = found
            try:
                base = self._base(root, len(plain))
            except (NotFoundError, CorruptError):
                continue
            worth = int(len(encoded) * (1 - margin))
            if len(base) != len(plain) or not codecs.delta_pays(plain, base, tensor.element, worth):
                continue
            delta = codecs.encode_delta(plain, base, DeltaHead(root, tensor.element, age, series))
            # A series is as cheap as it gets while each version costs less than the versions so far did on average.
            if len(delta) > min(worth, series // age):
                return 0
            stamp = self.presence.stamp()
            if self.presence.doubtful(chunk) or self.presence.doubtful(root):
                return 0  # a collection condemned one of them meanwhile
            self._put_delta(chunk, root, delta, stamp)
            return len(delta)
        return 0

    def _put_delta(self, chunk: ChunkId, base: ChunkId, delta: Buffer, stamp: int) -> bool:
        """Store a delta where nothing is; False when something is there."""
        # Collection must see that the base is needed before anything needs it.
        self._store.put(base_key(base, chunk), b"delta\n")
        try:
            self._store.put_if_absent(chunk_key(chunk), delta)
        except AlreadyExistsError:
            self.presence.vouch((chunk,), stamp)
            return False
        self.presence.wrote(chunk, stamp)
        self._remember(chunk, codecs.delta_head(delta))
        return True

    def _building_on(self, earlier: ChunkId, cost: int) -> tuple[ChunkId, int, int] | None:
        """The plain chunk to build on, given an earlier version: it, how many versions there are since, and what the
        series cost so far. None when the store does not have it."""
        try:
            head = self._form(earlier)
            if head is None:
                return earlier, 1, cost
            if head == "link":
                return None
            root = ChunkId(head.base)
            if self._form(root) is not None:
                return None
        except (NotFoundError, CorruptError):
            return None
        return root, head.age + 1, head.series

    def head(self, chunk: ChunkId) -> DeltaHead | None:
        """What a stored delta says of itself; None for others. NotFoundError, CorruptError."""
        form = self._form(chunk)
        return None if form == "link" else form

    def _form(self, chunk: ChunkId) -> _Form:
        if self.presence.doubtful(chunk):
            raise CorruptError(f"chunk {chunk.hex()} is not believed", chunk_key(chunk))
        with self._lock:
            if chunk in self._forms:
                self._forms.move_to_end(chunk)
                return self._forms[chunk]
        found = _form_of(self._store.get_range(chunk_key(chunk), 0, codecs.DELTA_HEAD_LENGTH))
        self._remember(chunk, found)
        return found

    def _remember(self, chunk: ChunkId, form: _Form) -> None:
        with self._lock:
            self._forms[chunk] = form
            while len(self._forms) > limits.DELTA_HEADS:
                self._forms.popitem(last=False)

    def distrust(self, chunk: ChunkId) -> None:
        """What the store has of this chunk will not do: the next `write` of its bytes stores it anew, plain."""
        self.presence.suspect(chunk)

    def vouch(self, chunks: Iterable[ChunkId]) -> None:
        """Chunks that a manifest reachable from a branch head refers to need not be asked for."""
        self.presence.vouch(chunks)

    def sizes(self) -> tuple[int, int]:
        """Number of chunks known to be there, and of those known to be bad."""
        return self.presence.sizes()


def _form_of(encoded: Buffer) -> _Form:
    """How a chunk is stored, by its beginning. CorruptError."""
    return "link" if codecs.is_link(encoded) else codecs.delta_head(encoded)
