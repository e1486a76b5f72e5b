"""Stores with one object of every kind, and the ways to spoil them, for the tests of fsck, repair and scrub."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from repository_store import DictStore, directory, inline
from spoiling import spoilt

from modelfs.codecs import Element
from modelfs.formats.layout import Layout, Span
from modelfs.ids import ChunkId, TreeId
from modelfs.repository.keys import DELTAS, FORMAT_KEY, chunk_key, commit_key, meta_key, parse_base_key, tag_key
from modelfs.repository.objects import EMPTY_TREE, Entry, Extent, Kind, Manifest, PageRef, TreeDelta
from modelfs.repository.repository import Repository, Tensor

MANY = 5000  # entries of a directory of several pages


@dataclass(frozen=True)
class Stocked:
    """A store and the keys of its objects by what they are."""

    store: DictStore
    keys: dict[str, str]

    def copy(self) -> DictStore:
        """Another store with the same objects."""
        made = DictStore()
        made.data = dict(self.store.data)
        return made

    def files(self) -> dict[bytes, bytes]:
        """The bytes of every file of the newest commit and of the tag, read through a repository of their own."""
        found = {}
        for ref in ("main", "main@2", "v1"):
            repo = Repository.open(self.store)
            record = repo.resolve(ref)
            for path, entry in repo.walk(TreeId(record.commit.root.content)):
                if entry.kind is Kind.FILE:
                    manifest = repo.read_manifest(entry.content)  # type: ignore[arg-type]
                    repo.read_layout(manifest)
                    data = b"".join(bytes(repo.read_chunk(ChunkId(e.id), e.length)) for e in manifest.chunks)
                    found[ref.encode() + b":" + path] = data
                elif entry.kind is Kind.INLINE:
                    found[ref.encode() + b":" + path] = entry.content
        return found


def file(repo: Repository, name: bytes, *chunks: bytes, tensors: bytes = b"", like: bytes | None = None) -> Entry:
    """A file of these chunks; the first is built on the chunk ``like`` when that is given."""
    extents = []
    for i, data in enumerate(chunks):
        tensor = Tensor(Element.F32, (ChunkId(like),)) if like is not None and not i else None
        extents.append(Extent(repo.write_chunk(data, tensor)[0], len(data)))
    size = sum(extent.length for extent in extents)
    return Entry(name, Kind.FILE, 0o644, 0, 0, 0, size, repo.write_manifest(Manifest(size, tuple(extents), tensors)))


def weights(seed: int, step: float = 0.0) -> bytes:
    """A megabyte of floats; the same seed with another step is a successor."""
    import numpy as np

    values = np.random.default_rng(seed).normal(size=64 * 1024).astype(np.float32)
    return (values * np.float32(1 + step)).tobytes()


def stocked(make: Callable[[DictStore], Repository] = Repository.create) -> Stocked:
    """Three commits of main, a branch, a tag:

    main@2  base.bin                          one chunk, which a delta of main@3 builds on
    main@3  next.bin  model/a  many/…         a delta; two chunks and a tensor table; a directory of several pages
    """
    store = DictStore()
    repo = make(store)
    base = file(repo, b"base.bin", weights(1))
    tree = repo.apply(EMPTY_TREE, TreeDelta(puts={b"base.bin": base}))
    first = repo.resolve(None)
    second = repo.commit("main", first, root_of(first.commit.root, tree), "base")
    base_chunk = repo.read_manifest(base.content).chunks[0].id  # type: ignore[arg-type]
    repo.tag("v1", second)
    table = repo.write_layout(Layout("safetensors", (Span(0, 4000, "F32", (1000,), "t"),), 20_000))
    a = file(repo, b"a", random.Random(1).randbytes(10_000), random.Random(2).randbytes(10_000), tensors=table)
    many = {b"%06d" % i: inline(b"%06d" % i, b"%d" % i) for i in range(MANY)}
    changes = TreeDelta(
        puts={b"next.bin": file(repo, b"next.bin", weights(1, 1e-6), like=base_chunk)},
        deletes={b"base.bin"},
        subdirs={
            b"many": (directory(b"many"), TreeDelta(puts=many)),
            b"model": (directory(b"model"), TreeDelta(puts={b"a": a})),
        },
    )
    third = repo.commit("main", second, root_of(second.commit.root, repo.apply(tree, changes)), "more")
    repo.commit("main", third, third.commit.root, "again")
    repo.commit("side", None, root_of(first.commit.root, tree), "")
    many_id = repo.find(third.commit.root, b"many").content  # type: ignore[union-attr]
    model_id = repo.find(third.commit.root, b"model").content  # type: ignore[union-attr]
    page = repo.read_page(TreeId(many_id))
    leaf = page.items[1]
    assert isinstance(leaf, PageRef)
    (note,) = [key for key in store.data if key.startswith(DELTAS)]
    noted = parse_base_key(note)
    assert noted is not None
    assert noted[0] == base_chunk
    assert repo.delta_head(noted[1]) is not None
    manifest = repo.read_manifest(a.content)  # type: ignore[arg-type]
    keys = {
        "chunk": chunk_key(ChunkId(manifest.chunks[0].id)),
        "base": chunk_key(noted[0]),
        "delta": chunk_key(noted[1]),
        "note": note,
        "manifest": meta_key(a.content),
        "table": meta_key(table),
        "page": meta_key(leaf.id),
        "index": meta_key(many_id),
        "directory": meta_key(model_id),
        "root": meta_key(third.commit.root.content),
        "commit": commit_key("main", 3),
        "first": commit_key("main", 1),
        "head": commit_key("main", 4),
        "tag": tag_key("v1"),
        "format": FORMAT_KEY,
    }
    assert set(keys.values()) <= set(store.data)
    return Stocked(store, keys)


def root_of(like: Entry, tree: TreeId) -> Entry:
    """A root with another tree."""
    return msgspec.structs.replace(like, content=tree)


def spoil(data: dict[str, bytes], key: str, how: str) -> None:
    """Damage one object. "swapped": with another object of another kind, which stays as it was."""
    if how == "missing":
        del data[key]
    elif how == "emptied":
        data[key] = b""
    elif how == "truncated":
        data[key] = data[key][: len(data[key]) // 2]
    elif how == "flipped":
        data[key] = spoilt(data[key], len(data[key]) * 2 // 3)
    else:
        assert how == "swapped"
        others = {"data/": "data/", "meta/": "meta/", "commits/": "commits/"}
        area = next((a for a in others if key.startswith(a)), "meta/")
        data[key] = next(v for k, v in sorted(data.items()) if k.startswith(area) and k != key and v != data[key])


HOWS = ("missing", "flipped", "truncated", "swapped", "emptied")
