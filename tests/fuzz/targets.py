"""The table of decoders: for each how bytes are given to it, what it may raise, and what it may take in memory.

A target also checks what came out: numbers in their bounds, names that name nothing outside, values that can be
written again. Seeds come from our own encoders, from ``corpus/<name>/``, and from ``corpus/formats/`` for the formats
of others, which `libraries` wrote with their own libraries.
"""

from __future__ import annotations

import contextlib
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from repository_store import DictStore

from fuzz import mutate
from fuzz.conversion import conversion
from fuzz.kernel import kernel
from fuzz.links import links
from fuzz.mutate import Mutation
from fuzz.target import CORPUS, Target, again
from fuzz.trust import trust
from fuzz.upkeep import upkeep
from modelfs import codecs, limits
from modelfs.chunking.params import ChunkParams
from modelfs.cli.location import split_ref, tree_path
from modelfs.codecs import Compression, DeltaHead, Element, lz4, planes, zstd
from modelfs.errors import CorruptError, ModelfsError, UsageError
from modelfs.formats import detect, gguf, hdf5, npy, onnx, safetensors, ziparchive
from modelfs.formats import msgpack as flax
from modelfs.formats import pickle as torch_pickle
from modelfs.formats.layout import Growing, Layout, Parser, read_all
from modelfs.formats.tfbundle import parse_index, shard_of
from modelfs.ids import ID_LENGTH, ChunkId, CommitId, TreeId, digest
from modelfs.journal.log import Begin, Committed, Delete, Mark, Move, Put, Staged, read_log, unfinished
from modelfs.quantities import parse_size
from modelfs.repository.checks import check_name
from modelfs.repository.envelope import unwrap, wrap
from modelfs.repository.format import read_format
from modelfs.repository.keys import (
    base_key,
    chunk_key,
    commit_key,
    meta_key,
    parse_base_key,
    parse_commit_key,
    parse_object_key,
    parse_tag_key,
    tag_key,
)
from modelfs.repository.objects import (
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
from modelfs.repository.repository import Repository
from modelfs.repository.scrub import read_progress
from modelfs.store.base import check_key
from modelfs.store.lease import KEY as LEASE_KEY
from modelfs.store.lease import Lease
from modelfs.writer.tensors import Tensors

_scratch: Final = tempfile.TemporaryDirectory(prefix="modelfs-fuzz-")  # gone when the process ends
ID: Final = bytes(range(32))


def table() -> dict[str, Target]:
    """Every target by name."""
    found = [*_codecs(), *_metadata(), *_names(), *_local(), *trust(), *upkeep(), *_formats(), *conversion(), *kernel()]
    assert len({target.name for target in found}) == len(found)
    return {target.name: target for target in found}


# -- chunks --------------------------------------------------------------------------------------------------------

_LENGTHS: Final = (1, 2, 7, 8, 255, 1024, 4096, 70_000, 1024 * 1024 + 13)


def _plain(length: int) -> bytes:
    return (bytes(range(256)) * 40 + b"text that repeats " * 300)[: min(length, 4096)].ljust(length, b"\1")


def _decode(codec: int | None) -> Callable[[bytes], None]:
    """Input: which length is declared, then the encoded chunk (its header byte is put right for one codec)."""

    def run(data: bytes) -> None:
        length = _LENGTHS[data[0] % len(_LENGTHS)] if data else 1
        encoded = data[1:] if codec is None else bytes((codec,)) + data[2:]
        plain = codecs.decode(encoded, length, lambda base: _plain(length))
        assert len(plain) == length

    return run


def _encoded(plain: bytes) -> list[bytes]:
    """A chunk in every form, whether it pays or not."""
    made = [codecs.encode(plain, element, level) for level in Compression for element in (None, Element.F32)]
    made += [bytes((codecs.Codec.LZ4,)) + lz4.compress(plain), bytes((codecs.Codec.ZSTD,)) + zstd.compress(plain)]
    made += [
        bytes((codecs.Codec.PLANES,)) + planes.encode(plain, width, packing)
        for width in (1, 2, 4, 8)
        for packing in planes.Packing
    ]
    return list(dict.fromkeys(made))


def _codecs() -> list[Target]:
    found, everything = [], []
    for codec in sorted(set(codecs.Codec) - {codecs.Codec.LINK}):  # whose bytes are elsewhere: `links`
        seeds = []
        for i, length in enumerate(_LENGTHS):
            plain = _plain(length)
            if codec is codecs.Codec.DELTA:
                encoded = [
                    codecs.encode_delta(plain[::-1], plain, DeltaHead(ID, element, 1, 5))
                    for element in Element
                    if length % element.width == 0 and length < 5000
                ]
            else:
                encoded = [one for one in _encoded(plain) if one[0] == codec and len(one) < 20_000]
            seeds += [bytes((i,)) + one for one in encoded]
        everything += seeds
        name = codec.name.lower()
        found.append(Target(name, _decode(codec), tuple(seeds), (CorruptError,), memory=24 * limits.MiB))
    found.append(Target("chunk", _decode(None), tuple(everything), (CorruptError,), memory=24 * limits.MiB))

    def head(data: bytes) -> None:
        made = codecs.delta_head(data)
        assert made is None or len(made.base) == ID_LENGTH
        assert codecs.codec_name(data)

    heads = tuple(seed[1:100] for seed in everything)
    return [*found, Target("delta-head", head, heads, (CorruptError,)), *links()]


# -- metadata ------------------------------------------------------------------------------------------------------


def _entries() -> list[Entry]:
    common = (0o644, 1000, 1000, 1_700_000_000_000_000_000)
    return [
        Entry(b"device", Kind.CHAR, *common, 0, bytes(8)),
        Entry(b"dir", Kind.DIRECTORY, *common, 0, ID),
        Entry(b"file", Kind.FILE, *common, 12, ID, ((b"user.a", b"1"), (b"user.b", b"2"))),
        Entry(b"inline", Kind.INLINE, *common, 5, b"hello"),
        Entry(b"link", Kind.SYMLINK, *common, 4, b"file"),
        Entry(b"pipe", Kind.FIFO, *common, 0, b""),
    ]


_ROOT: Final = Entry(b"", Kind.DIRECTORY, 0o755, 0, 0, 0, 0, EMPTY_TREE)
_TABLE: Final = TensorTable("npy", (TensorSpan(0, 8, "F32", (2,), "a"), TensorSpan(8, 4, "", (), "b")))


def _metadata() -> list[Target]:
    pages = (
        pack_page(0, _entries()),
        pack_page(0, []),
        pack_page(1, [PageRef(b"a", ID, 5, 700), PageRef(b"b", ID, 1, 66)]),
    )
    manifests = (
        pack_manifest(Manifest(0, ())),
        pack_manifest(Manifest(12, (Extent(ID, 7), Extent(b"", 5)), ID)),
    )
    commits = tuple(
        pack_commit(Commit(n, ID if n > 1 else b"", _ROOT, 1, "host", "user", "message", 1, 2)) for n in (1, 2)
    )
    plain: list[tuple[str, Callable[[bytes], None], tuple[bytes, ...]]] = [
        ("page", _page, pages),
        ("manifest", again(unpack_manifest, pack_manifest), manifests),
        ("commit", again(unpack_commit, pack_commit), commits),
        ("tag", again(unpack_tag, pack_tag), (pack_tag(Tag("main", 3, ID, 5)),)),
        ("tensors", again(unpack_tensors, pack_tensors), (pack_tensors(_TABLE),)),
    ]
    found = [Target(name, run, seeds, mutations=(mutate.blind, mutate.msgpack)) for name, run, seeds in plain]
    seeds = tuple(wrap(seed * n) for _, _, some in plain for seed in some for n in (1, 40))

    def envelope(data: bytes) -> None:
        assert len(unwrap(data)) <= limits.META_OBJECT_MAX

    found.append(Target("envelope", envelope, seeds, memory=limits.META_OBJECT_MAX + limits.MiB))
    found.append(_store_target(pages, manifests, commits))
    made = DictStore()
    Repository.create(made)
    found.append(
        Target(
            "format",
            _format,
            (made.data["format.json"],),
            (ModelfsError,),
            (mutate.blind, mutate.json),
        )
    )
    return found


def _page(plain: bytes) -> None:
    level, items = unpack_page(plain)
    assert unpack_page(pack_page(level, items)) == (level, items)
    for item in items:
        check_name(item.name)


def _store_target(pages: tuple[bytes, ...], manifests: tuple[bytes, ...], commits: tuple[bytes, ...]) -> Target:
    """Whatever a metadata object holds, walking what it describes ends in an error of ours."""
    base = DictStore()
    Repository.create(base)

    def run(plain: bytes) -> None:
        store = DictStore()
        store.data = dict(base.data)
        object_id = digest(plain)
        store.data[meta_key(object_id)] = b"\0" + plain
        store.data[commit_key("main", 2)] = b"\0" + plain
        repo = Repository.open(store)
        steps: list[Callable[[], object]] = [
            lambda: list(repo.walk(TreeId(object_id))),
            lambda: repo.lookup(TreeId(object_id), b"file"),
            lambda: list(repo.diff(EMPTY_TREE, TreeId(object_id))),
            lambda: repo.read_manifest(object_id),  # type: ignore[arg-type]
            lambda: repo.read_layout(Manifest(12, (), object_id)),
            lambda: list(repo.log("main")),
        ]
        for step in steps:
            with contextlib.suppress(ModelfsError):
                step()

    mutations = (mutate.blind, mutate.msgpack)
    seeds = (*pages, *manifests, *commits, pack_tensors(_TABLE))
    return Target("store", run, seeds, (), mutations, memory=8 * limits.MiB)


def _format(data: bytes) -> None:
    store = DictStore()
    store.data["format.json"] = data
    made = read_format(store)
    assert len(made.id) == 32
    assert made.id.isalnum()
    assert isinstance(made.chunking, ChunkParams)


# -- names ---------------------------------------------------------------------------------------------------------


def _names() -> list[Target]:
    keys = (
        chunk_key(ChunkId(ID)),
        meta_key(ID),
        base_key(ChunkId(ID), ChunkId(ID)),
        commit_key("main", 7),
        tag_key("v1.2"),
        "format.json",
    )

    def key(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        if (place := parse_commit_key(text)) is not None:
            assert commit_key(*place) == check_key(text)
        if (name := parse_tag_key(text)) is not None:
            assert tag_key(name) == check_key(text)
        if (pair := parse_base_key(text)) is not None:
            assert base_key(*pair) == check_key(text)
        if (found := parse_object_key(text)) is not None:
            assert text in (chunk_key(ChunkId(found)), meta_key(found))
        check_key(text)

    store = DictStore()
    repo = Repository.create(store)
    repo.tag("v1", repo.resolve(None))
    ours = repo.resolve(None).id.hex()

    def ref(data: bytes) -> None:
        record = repo.resolve(data.decode("utf-8", "surrogateescape"))
        assert record.id == CommitId(bytes.fromhex(ours))

    def argument(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape").replace("\0", "")
        location, name = split_ref(text)
        assert text.startswith(location)
        assert name is None or "/" not in name
        with contextlib.suppress(UsageError):
            path = tree_path(text)
            assert not path.startswith(b"/")
            assert b".." not in path.split(b"/")
        assert parse_size(text) >= 0

    return [
        Target("key", key, tuple(k.encode() for k in keys)),
        Target("ref", ref, (b"main", b"main@1", b"v1", ours.encode(), ours[:9].encode()), (UsageError,)),
        Target("argument", argument, (b"s3://b/p:v1", b"/a/b:main@3", b"50GB", b"1.5TiB", b"a/../b"), (UsageError,)),
    ]


# -- files of this machine -----------------------------------------------------------------------------------------


def _frame(payload: bytes) -> bytes:
    return struct.pack(">II", len(payload), zlib.crc32(payload)) + payload


def _local() -> list[Target]:
    path = Path(_scratch.name) / "log"
    entry = _entries()[2]
    records = [
        Begin("main", 3),
        Put(b"a/b", entry),
        Staged(b"a/c", entry, "0123abcd", 100, 5, ((0, 10), (20, 30))),
        Move(b"a", b"b", exchange=True),
        Delete(b"a/b"),
        Mark(1),
        Committed(4),
    ]
    payloads = tuple(msgspec.msgpack.encode(record) for record in records)

    def log(data: bytes) -> None:
        path.write_bytes(data)
        found = read_log(path)
        for record in found:
            if isinstance(record, Staged):
                assert record.file == "" or Path(record.file).name == record.file != "..", record.file
        unfinished(found)

    def one_record(payload: bytes) -> None:
        log(_frame(payload))

    def state(data: bytes) -> None:
        path.write_bytes(data)
        assert read_progress(path, "ab" * 16).store == "ab" * 16

    def lease(data: bytes) -> None:
        store = DictStore()
        store.data[LEASE_KEY] = data
        Lease(store).acquire()

    structured = (mutate.blind, mutate.msgpack)
    progress = b'{"store": "%s", "last": "%s", "rounds": 3, "finished": "", "checked": 7}' % (b"ab" * 16, b"0f" * 32)
    held = b'{"token": "x", "host": "h", "pid": 3, "user": "u", "expires": 1.5}'
    return [
        Target("journal", log, (b"".join(map(_frame, payloads)),), ()),
        Target("journal-record", one_record, payloads, (), structured),
        Target("scrub-state", state, (progress,), (UsageError,), (mutate.blind, mutate.json)),
        Target("lease", lease, (held,), (UsageError,), (mutate.blind, mutate.json)),
    ]


# -- formats of files ----------------------------------------------------------------------------------------------


def _check_layout(found: Layout | None, size: int) -> None:
    """A layout is what the writer builds on: it cuts by it, looks tensors up in it, stores it."""
    if found is None:
        return
    end = 0
    for span in found.spans:
        for number in (span.offset, span.length, *span.shape):
            assert type(number) is int, span
        assert type(span.name) is str
        assert end <= span.offset
        assert span.length > 0
        end = span.offset + span.length
    assert end <= found.size <= limits.FILE_SIZE_MAX
    tensors = Tensors(found)
    for span in found.spans[:3]:
        tensors.at(span.offset, span.length)
    repo = Repository(DictStore(), _STORE_FORMAT)
    table = repo.write_layout(found)
    if table:
        read = repo.read_layout(Manifest(found.size, (), table))
        assert read is not None
        assert [s.offset for s in read.spans] == [s.offset for s in found.spans]


_STORE_FORMAT: Final = Repository.create(DictStore()).format


def _parser(parse: Callable[[int | None], Parser]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        def read(offset: int, length: int) -> bytes:
            return data[offset : offset + length]

        found = read_all(parse(len(data)), read)
        assert found is None or found.size == len(data)
        _check_layout(found, len(data))
        growing = Growing(parse(None))
        for _ in range(2000):
            want = growing.want
            if want is None or want.length > len(data) + limits.MiB:
                break
            growing.feed(read(want.offset, want.length))
        _check_layout(growing.layout, limits.FILE_SIZE_MAX)

    return run


def _bundle(data: bytes) -> None:
    shard_of(data[:300])
    for shard in (0, 1):
        _check_layout(parse_index(data, shard), limits.FILE_SIZE_MAX)


def _pickled(data: bytes) -> None:
    found = torch_pickle.read(data)
    if found is not None:
        length, storages = found
        assert 0 < length <= len(data)
        for key, storage in storages.items():
            assert storage.key == key
            assert storage.length >= 0
            assert all(type(n) is int for n in storage.shape)


def _header_of(data: bytes) -> bytes:
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


def _with_header(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + bytes(64)


def _formats() -> list[Target]:
    files = {path.name: path.read_bytes() for path in sorted((CORPUS / "formats").glob("*"))}
    parsers: list[tuple[str, Callable[[int | None], Parser]]] = [
        ("safetensors", safetensors.parse),
        ("zip", ziparchive.parse),
        ("npy", npy.parse),
        ("hdf5", hdf5.parse),
        ("gguf", gguf.parse),
        ("onnx", onnx.parse),
        ("flax", flax.parse),
    ]
    found = []
    for name, parse in parsers:
        mutations: tuple[Mutation, ...] = (mutate.blind,)
        if name == "safetensors":
            mutations = (mutate.blind, mutate.framed(mutate.json, _header_of, _with_header))
        elif name == "zip":
            mutations = (mutate.blind, mutate.pickle)
        elif name == "flax":
            mutations = (mutate.blind, mutate.msgpack)
        seeds = tuple(data for file, data in files.items() if file.startswith(f"{name}-"))
        found.append(Target(name, _parser(parse), seeds, (), mutations, 48 * limits.MiB))
    pickles = tuple(data for file, data in files.items() if file.startswith("pickle-"))
    bundles = tuple(data for file, data in files.items() if file.startswith("tensorflow-"))
    return [
        *found,
        Target("detect", _parser(detect.parse), tuple(files.values()), (), memory=48 * limits.MiB),
        Target("pickle", _pickled, pickles, (), (mutate.blind, mutate.pickle), 48 * limits.MiB),
        Target("tensorflow", _bundle, bundles, (), memory=48 * limits.MiB),
    ]
