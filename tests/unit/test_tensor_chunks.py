"""Chunks of tensors: the same ones in front, behind and beside others, few of them, and found again by name."""

from __future__ import annotations

import mmap
import os
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_store import DictStore

from modelfs import limits
from modelfs.chunking.cutter import Cutter
from modelfs.chunking.params import ChunkParams
from modelfs.codecs import Element
from modelfs.formats.layout import Layout, Span
from modelfs.ids import ChunkId, digest
from modelfs.repository.graft import graft
from modelfs.repository.objects import Entry, Extent, Kind, Manifest
from modelfs.repository.packing import pack_manifest
from modelfs.repository.repository import Repository
from modelfs.writer.bases import Bases, Origin, resolve_named
from modelfs.writer.tensors import Tensors, pieces

MAP_NORESERVE = 0x4000  # linux/mman.h; the module does not name it
PARAMS = ChunkParams(min_size=256, avg_size=1024, max_size=2048, group_size=128)


def layout_of(lengths: list[int], *, start: int = 8, gap: int = 0, names: list[str] | None = None) -> Layout:
    spans, at = [], start
    for i, length in enumerate(lengths):
        spans.append(Span(at, length, "F32", (length // 4,), names[i] if names else f"t{i}"))
        at += length + gap
    return Layout("test", tuple(spans), at - gap if lengths else at)


def cut(layout: Layout | None, data: bytes) -> list[int]:
    return Cutter(PARAMS, layout).cut(memoryview(data), 0, True)


def ids(layout: Layout, data: bytes) -> set[bytes]:
    ends = list(accumulate(cut(layout, data), initial=0))
    return {digest(data[a:b]) for a, b in pairwise(ends)}


def test_a_model_of_seven_billion_numbers_is_few_chunks() -> None:
    """Llama's shapes in bf16, as one safetensors file; no byte of it exists."""
    width, hidden, vocabulary = 4096, 11008, 32000
    shapes = [("model.embed_tokens.weight", vocabulary * width), ("lm_head.weight", vocabulary * width)]
    for i in range(32):
        shapes += [(f"model.layers.{i}.self_attn.{n}_proj.weight", width * width) for n in "qkvo"]
        shapes += [(f"model.layers.{i}.mlp.{n}_proj.weight", width * hidden) for n in ("gate", "up", "down")]
        shapes += [(f"model.layers.{i}.{n}_layernorm.weight", width) for n in ("input", "post_attention")]
    layout = layout_of([2 * n for _, n in shapes], start=30_000, names=[name for name, _ in shapes])
    assert layout.size > 13_000_000_000
    nothing = memoryview(mmap.mmap(-1, layout.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE))
    lengths = Cutter(ChunkParams(), layout).cut(nothing, 0, True)
    assert sum(lengths) == layout.size
    assert max(lengths) <= limits.CHUNK_MAX
    assert len(lengths) < 5000
    manifest = Manifest(layout.size, tuple(Extent(os.urandom(32), n) for n in lengths), bytes(32))
    assert len(pack_manifest(manifest)) < 300_000


def test_rows_appended_to_a_tensor_leave_its_first_pieces_alone() -> None:
    table, other = os.urandom(10_000), os.urandom(5000)
    old = ids(layout_of([10_000, 5000]), bytes(8) + table + other)
    new = ids(layout_of([10_400, 5000]), bytes(8) + table + os.urandom(400) + other)
    # the header, and the last piece of the table
    assert len(old - new) <= 2


def test_rows_appended_to_a_table_of_whole_pieces_change_none_of_them() -> None:
    piece = limits.CHUNK_AVG
    table = bytes(2 * piece)
    for more, expected in ((0, [piece, piece]), (64 * limits.KiB, [piece, piece, 64 * limits.KiB])):
        layout = layout_of([len(table) + more], start=0)
        assert Cutter(ChunkParams(), layout).cut(memoryview(table + bytes(more)), 0, True) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=12), st.integers(0, 12), st.integers(0, 300), st.data())
def test_what_is_known_of_a_growing_file_is_cut_as_in_the_end(
    lengths: list[int], known: int, gap: int, data: st.DataObject
) -> None:
    final = layout_of(lengths, gap=gap)
    content = np.random.default_rng(1).bytes(final.size)
    spans = final.spans[:known]
    end = spans[-1].offset + spans[-1].length if spans else 8
    partial = Layout("test", spans, end, complete=False)
    early, late = Cutter(PARAMS, partial), Cutter(PARAMS, final)
    written = data.draw(st.integers(end, final.size)) if end < final.size else final.size
    done = list(accumulate(early.cut(memoryview(content[:written]), 0, False), initial=0))
    agreed = early.agrees_until(late)
    assert [cut for cut in done if cut <= agreed] == [
        cut for cut in accumulate(late.cut(memoryview(content), 0, True), initial=0) if cut <= min(agreed, done[-1])
    ]
    # whole tensors that have been told of are not cut anew at the end
    large = [span for span in spans if span.length >= PARAMS.group_size]
    if large:
        assert agreed >= large[-1].offset + large[-1].length
    assert late.agrees_until(late) >= final.size
    assert Cutter(PARAMS, None).agrees_until(Cutter(PARAMS, None)) >= final.size
    assert Cutter(PARAMS, None).agrees_until(late) == 0


def test_pieces_are_named_by_tensor_and_place() -> None:
    layout = layout_of([2500, 40, 40, 1024], names=["a", "b", "b", "a"])
    data = np.random.default_rng(1).bytes(layout.size)
    lengths = cut(layout, data)
    tensors = Tensors(layout)
    found = [tensors.at(at, n)[0] for at, n in zip(accumulate(lengths, initial=0), lengths, strict=False)]
    keys = [key for key in found if key is not None]
    assert keys == [("a", "F32", 0, 1024), ("a", "F32", 1024, 1476), ("a#2", "F32", 0, 1024)]
    manifest = Manifest(layout.size, tuple(Extent(bytes([i]) * 32, n) for i, n in enumerate(lengths)))
    assert set(pieces(layout, manifest)) == set(keys)
    # the small ones share a chunk, whose element type is theirs
    assert tensors.at(8 + 2500, 80) == (None, Element.F32)
    assert tensors.at(0, 8) == (None, None)


class Branch:
    """A store with files of one tensor, each its own bytes."""

    def __init__(self) -> None:
        store = DictStore()
        self.repo = Repository.create(store)
        self.length = self.repo.format.chunking.avg_size
        self.layout = layout_of([self.length], start=0, names=["w"])
        self.chunks: dict[bytes, ChunkId] = {}
        root = self.repo.head()
        assert root is not None
        self.root = root.commit.root

    def add(self, path: bytes, mtime_ns: int = 1) -> None:
        chunk = ChunkId(digest(path))
        self.chunks[path] = chunk
        manifest = Manifest(self.length, (Extent(chunk, self.length),), self.repo.write_layout(self.layout))
        content = self.repo.write_manifest(manifest)
        entry = Entry(path.rpartition(b"/")[2], Kind.FILE, 0o644, 0, 0, mtime_ns, self.length, content)
        self.root = graft(self.repo, self.root, {path: entry})

    def found(self, path: bytes, *named: bytes, bases: Bases | None = None) -> list[bytes]:
        bases = bases or Bases(self.repo)
        tensor = bases.earlier(self.layout, Origin(self.root, path, named), None).tensor(0, self.length)
        assert tensor is not None
        return [path for chunk in tensor.earlier for path, id in self.chunks.items() if id == chunk]


def test_earlier_versions_are_looked_for_beside_the_file() -> None:
    branch = Branch()
    for number in (1000, 2000):
        branch.add(b"run/checkpoint-%d/model.bin" % number, number)
    branch.add(b"elsewhere/model.bin", 9000)
    assert branch.found(b"run/checkpoint-3000/tmpXYZ")[0] == b"run/checkpoint-2000/model.bin"
    assert b"elsewhere/model.bin" not in branch.found(b"run/checkpoint-3000/tmpXYZ")
    # the same name counts for more than the time
    branch.add(b"run/checkpoint-2000/other.bin", 9000)
    assert branch.found(b"run/checkpoint-3000/model.bin")[0] == b"run/checkpoint-2000/model.bin"
    assert branch.found(b"nowhere/at/all") == []


def test_what_is_named_comes_first_and_what_was_written_last_before_what_is_beside() -> None:
    branch = Branch()
    branch.add(b"run/1/m", 1)
    branch.add(b"far/away/m", 1)
    bases = Bases(branch.repo)
    manifest = branch.repo.read_manifest(branch.repo.find(branch.root, b"far/away/m").content)  # type: ignore[union-attr,arg-type]
    bases.written(branch.layout, manifest)
    assert branch.found(b"run/2/m", bases=bases) == [b"far/away/m"]
    assert branch.found(b"run/2/m", b"run/1", bases=bases) == [b"run/1/m", b"far/away/m"]
    assert branch.found(b"run/2/m", b"not/there", bases=bases) == [b"far/away/m"]


@pytest.mark.parametrize(
    ("named", "meant"),
    [(b"../1/m", b"run/1/m"), (b"/run/1", b"run/1"), (b"other", b"run/2/other"), (b"../../../..", b""), (b"/", b"")],
)
def test_a_named_base_is_relative_to_the_directory_and_stays_in_the_branch(named: bytes, meant: bytes) -> None:
    assert resolve_named(b"run/2/m", named) == ((meant,) if meant else ())
