"""Linked chunks in a repository: what is followed, what replaces what, and what a hostile store cannot do."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from repository_store import KEY_FILE, DictStore, create_encrypted

from modelfs import codecs, limits
from modelfs.codecs import Element, Link
from modelfs.codecs import link as links
from modelfs.errors import (
    BrokenLinkError,
    CorruptError,
    LinkError,
    LinkRefusedError,
    NotFoundError,
    PermissionDeniedError,
    ReadOnlyError,
    UsageError,
)
from modelfs.ids import ChunkId
from modelfs.repository.access import Access
from modelfs.repository.envelope import wrap
from modelfs.repository.keys import chunk_key
from modelfs.repository.places import allowed, file_url, key_parts, said
from modelfs.repository.repository import Repository, Tensor
from modelfs.repository.sources import pack_source, source_key, unpack_source
from modelfs.store.foreign import ForeignFiles

LENGTH = 100_000


@pytest.fixture
def store() -> DictStore:
    made = DictStore()
    Repository.create(made)
    return made


@pytest.fixture
def original(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "model.bin"
    path.parent.mkdir()
    path.write_bytes(os.urandom(3 * LENGTH))
    return path


def opened(store: DictStore, *sources: Path | str, secret: bool = False) -> Repository:
    repo = Repository.open(store, Access(KEY_FILE if secret else None, sources=tuple(map(str, sources))))
    repo.begin_writing()
    return repo


def linked(repo: Repository, path: Path, offset: int = 0) -> ChunkId:
    """A chunk of a file as a link."""
    source = repo.add_source(file_url(path.parent))
    facts = path.stat()
    link = Link(source, os.fsencode(path.name), offset, facts.st_size, round(facts.st_mtime * 1e9))
    return repo.link_chunk(path.read_bytes()[offset : offset + LENGTH], link)[0]


def put_link(store: DictStore, chunk: ChunkId, url: str, key: bytes) -> None:
    """What a keeper of the bucket may write: any URL, any key."""
    repo = Repository.open(store)
    plain = msgspec.msgpack.encode([url])
    source = repo.ids.digest(plain)
    store.data[source_key(source)] = wrap(plain)
    store.data[chunk_key(chunk)] = b"\x05" + msgspec.msgpack.encode([source, key, 0, LENGTH, 0])


@pytest.mark.parametrize("secret", [False, True])
def test_a_link_is_the_same_chunk(original: Path, secret: bool) -> None:
    store = DictStore()
    create_encrypted(store) if secret else Repository.create(store)
    chunk = linked(opened(store, secret=secret), original, LENGTH)
    piece = original.read_bytes()[LENGTH : 2 * LENGTH]
    other = opened(store, original.parent, secret=secret)
    assert other.ids.digest(piece) == chunk
    assert other.read_chunk(chunk, LENGTH) == piece
    found = other.stored_link(chunk)
    assert found is not None
    assert (found.key, found.offset, found.size) == (b"model.bin", LENGTH, 3 * LENGTH)
    assert codecs.codec_name(other.store.get(chunk_key(chunk))) == "link"
    with pytest.raises(LinkRefusedError, match=f"{original} may only be read"):
        opened(store, secret=secret).read_chunk(chunk, LENGTH)


def test_bytes_replace_a_link_and_no_link_replaces_bytes(store: DictStore, original: Path) -> None:
    chunk = linked(opened(store), original)
    piece = original.read_bytes()[:LENGTH]
    writer = opened(store, original.parent)
    writer.known([chunk])  # as a manifest says that the branch reaches
    assert writer.read_chunk(chunk, LENGTH) == piece
    assert writer.write_chunk(piece)[1] > LENGTH * 0.9
    assert writer.write_chunk(piece)[1] == 0
    assert writer.stored_link(chunk) is None
    again = opened(store, original.parent)
    assert linked(again, original) == chunk
    assert again.stored_link(chunk) is None
    # Who began before there were links learns of them with the next list.
    other = linked(opened(store), original, LENGTH)
    assert opened(store).write_chunk(original.read_bytes()[LENGTH : 2 * LENGTH]) != (other, 0)


def test_a_store_without_sources_is_asked_nothing_more(store: DictStore) -> None:
    repo = opened(store)
    store.reset()
    chunk, _ = repo.write_chunk(b"x" * LENGTH)
    repo.read_chunk(chunk, LENGTH)
    repo.write_chunk(b"x" * LENGTH)
    assert store.calls == {"size": 1, "put": 1, "get": 1}


def test_nothing_is_built_on_a_link(store: DictStore, original: Path) -> None:
    base = linked(opened(store), original)
    repo = opened(store, original.parent)
    for step, delta in ((1000, False), (800, True)):
        changed = bytearray(original.read_bytes()[:LENGTH])
        changed[::step] = bytes(LENGTH // step)
        chunk, _ = repo.write_chunk(bytes(changed), Tensor(Element.F32, (base,)))
        assert (repo.delta_head(chunk) is not None) is delta
        assert any(key.startswith("deltas/") for key in store.data) is delta
        repo.write_chunk(original.read_bytes()[:LENGTH])  # the base itself


def test_a_small_chunk_is_no_link(store: DictStore, original: Path) -> None:
    repo = opened(store)
    link = Link(repo.add_source(file_url(original.parent)), b"model.bin", 0, 3 * LENGTH)
    piece = original.read_bytes()[: limits.LINK_OBJECT_MAX]
    assert repo.stored_link(repo.link_chunk(piece, link)[0]) is None
    longest = Link(bytes(32), b"k" * limits.PATH_MAX, 2**63 - 1, 2**63 - 1, 2**63 - 1)
    assert len(links.encode(longest)) <= limits.LINK_OBJECT_MAX


def test_a_condemned_link_is_written_again_as_it_is(store: DictStore, original: Path) -> None:
    chunk = linked(opened(store), original)
    repo = opened(store)  # which may not even follow it
    repo._condemned.chunks.judge({bytes(chunk)}, [bytes(chunk)])
    store.reset()
    repo._chunks.restore(chunk, LENGTH)
    assert store.calls["put"] == 1
    assert repo._condemned.chunks.pardoned(chunk)
    assert repo.stored_link(chunk) is not None
    repo._condemned.chunks.judge({bytes(chunk)}, [bytes(chunk)])
    store.reset()
    assert linked(repo, original) == chunk
    assert ("put", chunk_key(chunk)) in store.log


def test_what_originals_may_do(store: DictStore, original: Path) -> None:
    chunk, last = linked(opened(store), original), linked(opened(store), original, 2 * LENGTH)
    repo = opened(store, original.parent)
    data = bytearray(original.read_bytes())
    data[7] ^= 1
    original.write_bytes(data[:-1])
    for each in (chunk, last):
        with pytest.raises(BrokenLinkError, match=f"{original} was changed after it was linked .it has 299999") as told:
            repo.read_chunk(each, LENGTH)
        assert (told.value.original, told.value.key) == (str(original), chunk_key(each))
    original.unlink()
    with pytest.raises(BrokenLinkError, match="is gone"):
        repo.read_chunk(chunk, LENGTH)
    os.mkfifo(original)
    with pytest.raises(LinkError, match="is no file"):
        repo.read_chunk(chunk, LENGTH)
    # A broken link is replaced by who has the bytes.
    data[7] ^= 1
    assert repo.write_chunk(bytes(data[:LENGTH]))[0] == chunk
    assert repo.read_chunk(chunk, LENGTH) == data[:LENGTH]
    with pytest.raises(LinkError, match=r"cannot be opened: .* no kind of store"):
        put_link(store, chunk, "nosuch://host/x", b"model.bin")
        opened(store, "nosuch://host").read_chunk(chunk, LENGTH)


@pytest.mark.parametrize(
    "key",
    [
        b"../secret",
        b"a/../../secret",
        b"/etc/passwd",
        b"a//b",
        b".",
        b"%2e%2e/secret",
        b"a/%2E./b",
        b"a\0b",
        b"",
        b"a/",
    ],
)
def test_keys_that_lead_elsewhere_are_refused(store: DictStore, original: Path, key: bytes) -> None:
    (original.parent.parent / "secret").write_bytes(bytes(LENGTH))
    chunk = ChunkId(Repository.open(store).ids.digest(bytes(LENGTH)))
    put_link(store, chunk, file_url(original.parent), key)
    with pytest.raises(CorruptError):
        opened(store, original.parent).read_chunk(chunk, LENGTH)
    with pytest.raises(ValueError):
        key_parts(key)


@pytest.mark.parametrize(
    "url",
    [
        "file:///data/../secret", "file:///data/%2e%2e/secret", "FILE:///data", "file://host/data", "/data", "", "x",
        "s3://bucket/a?endpoint=http://169.254.169.254", "http://user:pass@host/", "http://host/#x", "http://host//a",
        "file:///da%74a", "http://169.254.169.254/%2e%2e/latest", "S3://bucket",
    ],
)  # fmt: skip
def test_urls_that_no_writer_writes_are_refused(store: DictStore, url: str) -> None:
    with pytest.raises(ValueError):
        unpack_source(msgspec.msgpack.encode([url]))
    chunk = ChunkId(bytes(32))
    put_link(store, chunk, url, b"x")
    with pytest.raises(CorruptError, match="which says where its original is"):
        opened(store, "/").read_chunk(chunk, LENGTH)


def test_a_source_is_what_its_id_says(store: DictStore, original: Path) -> None:
    chunk = linked(opened(store), original)
    (key,) = [key for key in store.data if key.startswith("sources/")]
    store.data[key] = wrap(msgspec.msgpack.encode(["file:///etc"]))
    with pytest.raises(CorruptError, match="do not match"):
        opened(store, "/").read_chunk(chunk, LENGTH)
    del store.data[key]
    with pytest.raises(CorruptError, match="sources/"):
        opened(store, "/").read_chunk(chunk, LENGTH)


def test_places() -> None:
    def below(one: str, other: str) -> bool:
        return said(one).below(allowed(other).place) is not None

    assert below("file:///data/a", "/data")
    assert below("file:///data/a", "file:///data/")
    assert below("file:///data", "/")
    assert not below("file:///database", "/data")
    assert not below("file:///data", "/data/a")
    assert below("s3://b/x/y", "s3://b/x?endpoint=http://10.0.0.1:7480&region=r")
    assert not below("s3://b/x", "s3://c/x")
    assert not below("s3://b/x", "gs://b/x")
    assert below("sftp://nas/v", "sftp://anna:secret@nas/v")
    assert not below("sftp://nas:2222/v", "sftp://nas/v")
    assert not below("abfs://one@account/x", "abfs://two@account/x")
    assert not below("http://10.0.0.1/x", "http://10.0.0.2/")
    assert allowed("s3://b/x/y?endpoint=http://e").above == "s3://b/x?endpoint=http://e"
    assert "\n" not in str(said("s3://b").at(b"a\nb"))
    for text in ("", "file://", "file://host/x", "s3://b/../c"):
        with pytest.raises(UsageError):
            allowed(text)


def test_urls_of_paths_come_back(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"a %2e\xff#?\nb")
    odd.mkdir()
    assert allowed(str(odd)).place == said(file_url(odd))
    assert unpack_source(pack_source(unpack_source(msgspec.msgpack.encode([file_url(odd)]))))
    (tmp_path / "way").symlink_to(odd)
    assert allowed(str(tmp_path / "way")).place == said(file_url(odd))


def test_files_are_read_below_the_root_only(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "file").write_bytes(b"content")
    (root / "inside").symlink_to("sub/file")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "root2").mkdir()
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to("..")
    (root / "device").symlink_to("/dev/zero")
    os.mkfifo(root / "pipe")
    files = ForeignFiles(root)
    assert files.get("sub/file") == b"content"
    assert files.get_range("inside", 3, 2) == b"te"
    assert files.size("inside") == 7
    assert files.info("nothing") is None
    for key in ("out", "up/secret", "device", "pipe", "sub"):
        with pytest.raises(PermissionDeniedError):
            files.get_range(key, 0, 1)
    with pytest.raises(NotFoundError):
        files.get("nothing")
    for change in (lambda: files.put("x", b""), lambda: files.put_if_absent("x", b""), lambda: files.delete("inside")):
        with pytest.raises(ReadOnlyError):
            change()
    with pytest.raises(ReadOnlyError):
        files.list("")
    files.close()
