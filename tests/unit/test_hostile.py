"""A store that means harm is refused, never followed, and cannot make us hold more than the bounds allow."""

from __future__ import annotations

import contextlib
import random
import tracemalloc

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_store import DictStore, inline, puts

from modelfs import limits
from modelfs.errors import CorruptError, ModelfsError, NotFoundError
from modelfs.ids import ManifestId, TreeId, digest
from modelfs.repository import envelope
from modelfs.repository.keys import commit_key, meta_key, tag_key
from modelfs.repository.meta import MetaObjects
from modelfs.repository.objects import EMPTY_TREE, Entry, Extent, Kind, Manifest, PageRef
from modelfs.repository.packing import unpack_commit, unpack_manifest, unpack_page, unpack_tag, unpack_tensors
from modelfs.repository.repository import Repository
from modelfs.repository.trees import Trees

ID = bytes(32)


@pytest.fixture
def store() -> DictStore:
    made = DictStore()
    Repository.create(made)
    return made


def plant(store: DictStore, value: object) -> bytes:
    """Store any msgpack value as a metadata object whose id is right."""
    plain = msgspec.msgpack.encode(value)
    store.data[meta_key(digest(plain))] = b"\0" + plain
    return digest(plain)


def entry(name: bytes, **changes: object) -> Entry:
    return msgspec.structs.replace(inline(name), **changes)


@pytest.mark.parametrize(
    "items",
    [
        [entry(b"..")],
        [entry(b".")],
        [entry(b"a/../../etc/passwd")],
        [entry(b"a\0b")],
        [entry(b"")],
        [entry(b"a"), entry(b"a")],
        [entry(b"b"), entry(b"a")],
        [entry(b"a", size=2**63)],
        [entry(b"a", mode=0o100644)],
        [entry(b"a", kind=Kind.DIRECTORY)],
        [entry(b"%05d" % i) for i in range(limits.TREE_PAGE_MAX + 1)],
    ],
    ids=range(11),
)
def test_a_directory_outside_the_format_is_refused_by_every_way_to_read_it(
    store: DictStore, items: list[Entry]
) -> None:
    tree = TreeId(plant(store, (0, items)))
    repo = Repository.open(store)
    for read in (
        lambda: list(repo.list(tree)),
        lambda: repo.lookup(tree, b"a"),
        lambda: list(repo.diff(EMPTY_TREE, tree)),
        lambda: list(repo.walk(tree)),
        lambda: repo.apply(tree, puts(inline(b"x"))),
        lambda: repo.merge(EMPTY_TREE, repo.apply(EMPTY_TREE, puts(inline(b"x"))), tree),
    ):
        with pytest.raises(CorruptError, match="tree page") as caught:
            read()
        assert caught.value.key == meta_key(tree)


def leaf(store: DictStore, *names: bytes) -> PageRef:
    items = [entry(name) for name in names]
    return PageRef(names[0], plant(store, (0, items)), len(items), sum(64 + len(n) for n in names))


@pytest.mark.parametrize(
    "change",
    [
        {"count": 1},
        {"count": 2**62},
        {"weight": 5},
        {"name": b"c"},
        {"name": b"e"},
        {"level": 2},
    ],
    ids=str,
)
def test_a_page_that_is_not_what_its_index_says_is_refused(store: DictStore, change: dict[str, object]) -> None:
    refs = [leaf(store, b"a", b"b"), leaf(store, b"d", b"f"), leaf(store, b"g", b"h")]
    good = TreeId(plant(store, (1, refs)))
    assert [e.name for e in Repository.open(store).list(good)] == [b"a", b"b", b"d", b"f", b"g", b"h"]
    level = change.pop("level", 1)
    refs[1] = msgspec.structs.replace(refs[1], **change)
    tree = TreeId(plant(store, (level, refs)))
    with pytest.raises(CorruptError, match="not what its index says"):
        list(Repository.open(store).list(tree))
    with pytest.raises(CorruptError, match="not what its index says"):
        Repository.open(store).lookup(tree, b"f")


def test_pages_that_overlap_are_refused(store: DictStore) -> None:
    tree = TreeId(plant(store, (1, [leaf(store, b"a", b"x"), leaf(store, b"d", b"f")])))
    with pytest.raises(CorruptError, match="not what its index says"):
        list(Repository.open(store).list(tree))


def test_a_tower_of_index_pages_is_refused(store: DictStore) -> None:
    ref = leaf(store, b"a")
    for level in range(1, limits.TREE_INDEX_LEVELS + 2):
        ref = msgspec.structs.replace(ref, id=plant(store, (level, [ref])))
    with pytest.raises(CorruptError, match="not a tree page"):
        list(Repository.open(store).list(TreeId(ref.id)))
    looped = TreeId(plant(store, (1, [msgspec.structs.replace(ref, id=ref.id)])))
    with pytest.raises(CorruptError):
        Repository.open(store).lookup(looped, b"a")


def test_a_page_is_not_taken_for_a_manifest_nor_the_other_way_round(store: DictStore) -> None:
    repo = Repository.open(store)
    tree = repo.apply(EMPTY_TREE, puts(inline(b"a")))
    assert len(list(repo.list(tree))) == 1
    with pytest.raises(CorruptError, match="manifest"):
        repo.read_manifest(ManifestId(tree))
    manifest = repo.write_manifest(Manifest(1, (Extent(ID, 1),)))
    with pytest.raises(CorruptError, match="tree page"):
        list(repo.list(TreeId(manifest)))


def test_missing_metadata_is_named(store: DictStore) -> None:
    with pytest.raises(NotFoundError, match=f"tree page {ID.hex()} is missing") as caught:
        list(Repository.open(store).list(TreeId(ID)))
    assert caught.value.key == meta_key(ID)


def bombs() -> list[bytes]:
    """Objects whose payload is small and whose content is not."""
    size = 4 * limits.META_OBJECT_MAX
    zeros = bytes(limits.MiB)
    streaming = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    undeclared = b"".join(streaming.compress(zeros) for _ in range(size // len(zeros))) + streaming.flush()
    declaring = zstandard.ZstdCompressor().compressobj(size=size)
    declared = b"".join(declaring.compress(zeros) for _ in range(size // len(zeros))) + declaring.flush()
    # A frame that declares little and holds much: the size field of an honest frame, changed.
    small = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(300))
    lying = small[:5] + (1).to_bytes(2, "little") + small[7:]
    return [b"\1" + undeclared, b"\1" + declared, b"\1" + lying, b"\1", b"\2", b"", b"\1" + small + small, b"\0\xc1"]


@pytest.mark.parametrize("index", range(8))
def test_a_bomb_costs_no_more_than_the_bound(store: DictStore, index: int) -> None:
    store.data[meta_key(ID)] = bombs()[index]
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError, match="damaged") as caught:
            Repository.open(store).read_manifest(ManifestId(ID))
        assert tracemalloc.get_traced_memory()[1] < limits.META_OBJECT_MAX + limits.MiB
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_an_announced_length_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        for plain in (
            b"\x92\x01\xdd\xff\xff\xff\xff",
            b"\x92\x00\xdd\x00\x00\x10\x00",
            b"\x92\x00\xdc\x0f\xff",
            b"\x92\x00\x91\x99\xc6\xff\xff\xff\xff",
        ):
            with pytest.raises(ValueError):
                unpack_page(plain)
        with pytest.raises(ValueError):
            unpack_manifest(b"\x92\x01\xdd\x00\x18\x00\x00")
        assert tracemalloc.get_traced_memory()[1] < limits.MiB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("unpack", [unpack_page, unpack_manifest, unpack_tensors, unpack_commit, unpack_tag])
@given(data=st.binary(max_size=200) | st.binary(max_size=60).map(lambda b: b"\x92\x00" + b))
@settings(max_examples=200, deadline=None)
def test_noise_is_refused_and_nothing_else_happens(unpack: object, data: bytes) -> None:
    assert callable(unpack)
    with contextlib.suppress(ValueError):
        unpack(data)


@pytest.mark.parametrize("unpack", [unpack_page, unpack_manifest, unpack_tensors, unpack_commit, unpack_tag])
@pytest.mark.parametrize("brick", [b"\x91", b"\x92\x00", b"\x81\x01", b"\xdd\xff\xff\xff\xff"])
def test_deep_nesting_is_refused(unpack: object, brick: bytes) -> None:
    assert callable(unpack)
    for prefix in (b"", b"\x92\x00", b"\x92\x01"):
        with pytest.raises(ValueError):
            unpack(prefix + brick * 200_000)


def test_a_flipped_bit_anywhere_is_noticed_or_means_nothing(store: DictStore) -> None:
    repo = Repository.open(store)
    head = repo.resolve(None)
    many = puts(*(inline(b"%04d" % i, b"content %d" % i) for i in range(3000)))
    tree = repo.apply(EMPTY_TREE, many)
    repo.commit("main", head, msgspec.structs.replace(head.commit.root, content=tree), "")
    repo.tag("v1", repo.resolve(None))
    expected = list(repo.walk(tree))
    assert len(expected) == 3000
    rng, refused = random.Random(7), 0
    metas = [key for key in store.data if key.startswith("meta/")]
    assert len(metas) > 2
    for key in metas * 5:
        good = store.data[key]
        at = rng.randrange(len(good))
        store.data[key] = good[:at] + bytes((good[at] ^ (1 << rng.randrange(8)),)) + good[at + 1 :]
        try:  # zstd has bits that it does not look at
            assert list(Trees(MetaObjects(store)).walk(tree)) == expected
        except CorruptError as error:
            assert error.key == key
            refused += 1
        store.data[key] = good
    assert refused > len(metas) * 4


@pytest.mark.parametrize("key", [commit_key("main", 1), tag_key("v1")])
@pytest.mark.parametrize("data", [b"", b"\0", b"\0\x90", b"\1\1\1", b"\0" + b"\x91" * 100_000, b"\7abc"])
def test_a_damaged_commit_or_tag_is_named(store: DictStore, key: str, data: bytes) -> None:
    Repository.open(store).tag("v1", Repository.open(store).resolve(None))
    store.data[key] = data
    with pytest.raises(CorruptError) as caught:
        Repository.open(store).resolve("v1")
    assert caught.value.key == key


def test_a_commit_number_at_the_end_of_numbers_is_an_error_and_no_overflow(store: DictStore) -> None:
    repo = Repository.open(store)
    head = repo.resolve(None)
    last = msgspec.structs.replace(head.commit, number=limits.FILE_SIZE_MAX, parent=ID)
    store.data[commit_key("main", limits.FILE_SIZE_MAX)] = envelope.wrap(msgspec.msgpack.encode(last))
    fresh = Repository.open(store)
    with pytest.raises(ModelfsError):
        fresh.commit("main", fresh.resolve(None), head.commit.root, "")
