"""What the format allows passes unchanged in both directions; what it does not is refused in both."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfs import limits
from modelfs.errors import UsageError
from modelfs.ids import digest
from modelfs.repository import envelope
from modelfs.repository.objects import (
    EMPTY_PAGE,
    EMPTY_TREE,
    Commit,
    Entry,
    Extent,
    Kind,
    Manifest,
    PageRef,
    Tag,
    TensorSpan,
    TensorTable,
)
from modelfs.repository.packing import (
    pack_commit,
    pack_manifest,
    pack_page,
    pack_tag,
    pack_tensors,
    unpack_commit,
    unpack_manifest,
    unpack_page,
    unpack_tag,
    unpack_tensors,
)

ID = bytes(range(32))

names = st.binary(min_size=1, max_size=12).filter(lambda n: n not in (b".", b"..") and b"/" not in n and b"\0" not in n)
xattrs = st.dictionaries(
    st.binary(min_size=1, max_size=8).filter(lambda n: b"\0" not in n), st.binary(max_size=20), max_size=3
).map(lambda d: tuple(sorted(d.items())))


@st.composite
def entries(draw: st.DrawFn, name: bytes | None = None) -> Entry:
    kind = draw(st.sampled_from(Kind))
    size = draw(st.integers(0, limits.FILE_SIZE_MAX))
    content = b""
    if kind in (Kind.FILE, Kind.DIRECTORY):
        content = draw(st.binary(min_size=32, max_size=32))
    elif kind is Kind.INLINE:
        content = draw(st.binary(max_size=50))
        size = len(content)
    elif kind is Kind.SYMLINK:
        content = draw(names)
    elif kind in (Kind.CHAR, Kind.BLOCK):
        content = draw(st.binary(min_size=8, max_size=8))
    return Entry(
        name=draw(names) if name is None else name,
        kind=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(st.integers(0, 2**32 - 1)),
        gid=draw(st.integers(0, 2**32 - 1)),
        mtime_ns=draw(st.integers(-(2**63), 2**63 - 1)),
        size=size,
        content=content,
        xattrs=draw(xattrs),
    )


@given(st.lists(entries(), max_size=8, unique_by=lambda e: e.name))
def test_a_leaf_page_comes_back_as_it_was(items: list[Entry]) -> None:
    items.sort(key=lambda e: e.name)
    assert unpack_page(pack_page(0, items)) == (0, tuple(items))


@given(st.lists(st.tuples(st.just(b"") | st.just(ID), st.integers(1, limits.CHUNK_LENGTH_MAX)), max_size=20))
def test_a_manifest_comes_back_as_it_was(pairs: list[tuple[bytes, int]]) -> None:
    manifest = Manifest(sum(n for _, n in pairs), tuple(Extent(i, n) for i, n in pairs))
    assert unpack_manifest(pack_manifest(manifest)) == manifest


def test_a_tensor_table_comes_back_as_it_was() -> None:
    spans = (TensorSpan(8, 100, "BF16", (5, 10), "a.weight ✓"), TensorSpan(108, 4, "", (), ""))
    table = TensorTable("safetensors", spans)
    assert unpack_tensors(pack_tensors(table)) == table


@pytest.mark.parametrize(
    "spans",
    [
        (TensorSpan(0, 100, "F32", (25,), "a"), TensorSpan(99, 4, "F32", (1,), "b")),
        (TensorSpan(100, 4, "F32", (1,), "a"), TensorSpan(0, 4, "F32", (1,), "b")),
        (TensorSpan(0, 0, "F32", (0,), "a"),),
        (TensorSpan(-4, 4, "F32", (1,), "a"),),
        (TensorSpan(limits.FILE_SIZE_MAX, 4, "F32", (1,), "a"),),
        (TensorSpan(0, 4, "F" * 17, (1,), "a"),),
        (TensorSpan(0, 4, "F32", (1,), "a" * (limits.PATH_MAX + 1)),),
        (TensorSpan(0, 4, "F32", (-1,), "a"),),
    ],
)
def test_a_tensor_table_outside_the_format_is_neither_written_nor_read(spans: tuple[TensorSpan, ...]) -> None:
    with pytest.raises(UsageError):
        pack_tensors(TensorTable("x", spans))
    with pytest.raises(ValueError):
        unpack_tensors(msgspec.msgpack.encode(TensorTable("x", spans)))


def test_a_commit_and_a_tag_come_back_as_they_were() -> None:
    root = Entry(b"", Kind.DIRECTORY, 0o755, 0, 0, 5, 0, ID)
    commit = Commit(7, ID, root, 123, "host", "user", "message ✓", 3, 99)
    assert unpack_commit(pack_commit(commit)) == commit
    tag = Tag("main", 7, ID, 123)
    assert unpack_tag(pack_tag(tag)) == tag


def test_the_empty_tree_is_the_digest_of_the_empty_page() -> None:
    assert pack_page(0, []) == EMPTY_PAGE
    assert digest(EMPTY_PAGE) == EMPTY_TREE


def test_a_manifest_of_a_hole_may_be_of_any_length() -> None:
    manifest = Manifest(limits.FILE_SIZE_MAX, (Extent(b"", limits.FILE_SIZE_MAX),))
    assert unpack_manifest(pack_manifest(manifest)) == manifest


FILE = Entry(b"a", Kind.FILE, 0o644, 0, 0, 0, 10, ID)


@pytest.mark.parametrize(
    "change",
    [
        {"name": b""},
        {"name": b"."},
        {"name": b".."},
        {"name": b"a/b"},
        {"name": b"/"},
        {"name": b"a\0"},
        {"name": b"x" * 256},
        {"mode": 0o10000},
        {"mode": -1},
        {"uid": 2**32},
        {"gid": -1},
        {"mtime_ns": 2**63},
        {"size": 2**63},
        {"size": -1},
        {"content": b""},
        {"content": ID + b"x"},
        {"kind": Kind.INLINE},
        {"kind": Kind.INLINE, "content": b"x" * 4097, "size": 4097},
        {"kind": Kind.SYMLINK, "content": b""},
        {"kind": Kind.SYMLINK, "content": b"a\0b"},
        {"kind": Kind.SYMLINK, "content": b"x" * 4096},
        {"kind": Kind.FIFO},
        {"kind": Kind.SOCKET},
        {"kind": Kind.CHAR, "content": b"1234567"},
        {"kind": Kind.BLOCK, "content": b""},
        {"kind": Kind.DIRECTORY, "content": ID[1:]},
        {"kind": 9},
        {"xattrs": ((b"b", b""), (b"a", b""))},
        {"xattrs": ((b"a", b""), (b"a", b""))},
        {"xattrs": ((b"", b""),)},
        {"xattrs": ((b"a\0", b""),)},
        {"xattrs": ((b"x" * 256, b""),)},
        {"xattrs": ((b"a", b"x" * (limits.XATTR_VALUE_MAX + 1)),)},
        {"xattrs": ((b"a", b"x" * 40_000), (b"b", b"x" * 40_000))},
    ],
)
def test_an_entry_outside_the_format_is_neither_written_nor_read(change: dict[str, object]) -> None:
    bad = msgspec.structs.replace(FILE, **change)
    with pytest.raises(UsageError):
        pack_page(0, [bad])
    with pytest.raises((ValueError, OverflowError)):
        unpack_page(msgspec.msgpack.encode((0, [bad])))


@pytest.mark.parametrize("second", [b"a", b"Z"])
def test_names_are_sorted_and_unique(second: bytes) -> None:
    items = [FILE, msgspec.structs.replace(FILE, name=second)]
    with pytest.raises(UsageError):
        pack_page(0, items)
    with pytest.raises(ValueError, match="out of order or twice"):
        unpack_page(msgspec.msgpack.encode((0, items)))


@pytest.mark.parametrize(
    "refs",
    [
        [],
        [PageRef(b"b", ID, 1, 1), PageRef(b"a", ID, 1, 1)],
        [PageRef(b"a", ID, 1, 1), PageRef(b"a", ID, 1, 1)],
        [PageRef(b"a", ID[1:], 1, 1)],
        [PageRef(b"a", ID, 0, 1)],
        [PageRef(b"a", ID, 1, 0)],
        [PageRef(b"..", ID, 1, 1)],
    ],
)
def test_an_index_page_outside_the_format_is_refused(refs: list[PageRef]) -> None:
    with pytest.raises(UsageError):
        pack_page(1, refs)
    with pytest.raises(ValueError):
        unpack_page(msgspec.msgpack.encode((1, refs)))


@pytest.mark.parametrize(
    "manifest",
    [
        Manifest(1, ()),
        Manifest(0, (Extent(ID, 1),)),
        Manifest(0, (Extent(b"", 0),)),
        Manifest(-1, (Extent(ID, -1),)),
        Manifest(3, (Extent(b"short", 3),)),
        Manifest(limits.CHUNK_LENGTH_MAX + 1, (Extent(ID, limits.CHUNK_LENGTH_MAX + 1),)),
        Manifest(2**63, (Extent(b"", 2**62), Extent(b"", 2**62))),
        Manifest(1, (Extent(ID, 1),), b"short"),
    ],
)
def test_a_manifest_outside_the_format_is_neither_written_nor_read(manifest: Manifest) -> None:
    with pytest.raises(UsageError):
        pack_manifest(manifest)
    with pytest.raises(ValueError):
        unpack_manifest(msgspec.msgpack.encode(manifest))


@pytest.mark.parametrize(
    "change",
    [
        {"number": 0, "parent": b""},
        {"number": 1},
        {"parent": b""},
        {"parent": ID[1:]},
        {"root": FILE},
        {"root": msgspec.structs.replace(FILE, name=b"")},
        {"root": msgspec.structs.replace(FILE, kind=Kind.DIRECTORY)},
        {"files": -1},
        {"message": "x" * (limits.COMMIT_TEXT_MAX + 1)},
        {"host": "\udc80"},
    ],
)
def test_a_commit_outside_the_format_is_not_written(change: dict[str, object]) -> None:
    root = Entry(b"", Kind.DIRECTORY, 0o755, 0, 0, 5, 0, ID)
    commit = Commit(7, ID, root, 123, "host", "user", "message", 3, 99)
    with pytest.raises(UsageError):
        pack_commit(msgspec.structs.replace(commit, **change))


@given(st.binary(max_size=200) | st.binary(min_size=1, max_size=4).map(lambda b: b * 5000))
def test_the_envelope_gives_back_what_it_took(plain: bytes) -> None:
    stored = envelope.wrap(plain)
    assert envelope.unwrap(stored) == plain
    assert len(stored) <= len(plain) + 1
