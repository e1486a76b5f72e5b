"""Targets around linked chunks: whatever a store says, nothing is read but below what was allowed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final
from unittest import mock

import msgspec
from repository_store import DictStore

from fuzz import mutate
from fuzz.target import Target
from modelfs.codecs import Link
from modelfs.codecs import link as codec
from modelfs.errors import CorruptError, ModelfsError
from modelfs.ids import ChunkId
from modelfs.repository.access import Access
from modelfs.repository.envelope import wrap
from modelfs.repository.keys import chunk_key
from modelfs.repository.places import allowed, file_url, said
from modelfs.repository.repository import Repository
from modelfs.repository.sources import Source, pack_source, source_key, unpack_source
from modelfs.store.foreign import ForeignFiles

_scratch: Final = tempfile.TemporaryDirectory(prefix="modelfs-fuzz-links-")  # gone when the process ends
_CONTENT: Final = b"what may be read" * 400


def links() -> list[Target]:
    """All of them."""
    top = Path(_scratch.name).resolve()
    root = top / "root"
    root.mkdir(exist_ok=True)
    (root / "file").write_bytes(_CONTENT)
    (top / "secret").write_bytes(_CONTENT)
    ids = Repository.create(DictStore()).ids
    url = file_url(root)
    source = ids.digest(msgspec.msgpack.encode([url]))
    seeds = tuple(
        codec.encode(Link(source, key, offset, len(_CONTENT), 5))
        for key, offset in ((b"file", 0), (b"../secret", 0), (b"sub/../file", 7), (b"%2e%2e/secret", 2**62))
    )

    def link(data: bytes) -> None:
        found = codec.decode(data)
        assert codec.decode(codec.encode(found)) == found

    def text(data: bytes) -> None:
        made = unpack_source(data)
        assert unpack_source(pack_source(made)) == made
        place = said(made.url)
        assert str(place).isprintable()
        for near in (str(root), "s3://bucket/a"):
            if (rest := place.below(allowed(near).place)) is not None:
                assert not {b"", b".", b".."} & set(rest)

    made = DictStore()
    Repository.create(made)
    chunk = ChunkId(ids.digest(_CONTENT))
    opening = os.open

    def follow(data: bytes) -> None:
        """Input: a link, or after a zero byte the URL of the source that a link names."""
        shown = DictStore()
        shown.data = dict(made.data)
        plain = msgspec.msgpack.encode([url])
        if data[:1] == b"\0":
            plain = data[1:]
        shown.data[source_key(ids.digest(plain))] = wrap(plain)
        fallback = codec.encode(Link(ids.digest(plain), b"file", 0, 1))
        shown.data[chunk_key(chunk)] = fallback if data[:1] == b"\0" else data
        repo = Repository.open(shown, Access(sources=(str(root),)))

        def watched(path, *rest, **more):  # type: ignore[no-untyped-def]
            name = os.fspath(path)
            assert name.startswith("/proc/self/fd/") or Path(name).resolve().is_relative_to(root), name
            return opening(path, *rest, **more)

        with mock.patch("modelfs.store.foreign.os.open", watched), contextlib.suppress(ModelfsError):
            repo.read_chunk(chunk, len(_CONTENT))
        with mock.patch("modelfs.store.foreign.os.open", watched), contextlib.suppress(CorruptError):
            if (there := repo.stored_link(chunk)) is not None:
                repo.look_at_original(there)
        repo.close()

    structured = (mutate.blind, _behind_the_header)
    urls = (url, "s3://bucket/a/b", "file:///etc/%2e%2e/x", "http://169.254.169.254/latest")
    sources = tuple(msgspec.msgpack.encode(Source(one)) for one in urls)
    behind = tuple(b"\0" + one for one in sources)
    assert ForeignFiles(root).get("file") == _CONTENT
    return [
        Target("link", link, seeds, (CorruptError,), structured),
        Target("link-source", text, sources, mutations=(mutate.blind, mutate.msgpack)),
        Target("link-followed", follow, (*seeds, *behind), (), structured),
    ]


def _behind_the_header(rng: mutate.random.Random, data: bytes, other: bytes) -> bytes:
    return data[:1] + mutate.msgpack(rng, data[1:], other[1:])
