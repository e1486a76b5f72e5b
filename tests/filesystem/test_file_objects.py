"""Files, names and transactions of one program."""

from __future__ import annotations

import errno
import io
import os
import pickle
from pathlib import Path
from typing import Any

import fsspec
import pytest
from mounting import Machine

from modelfs.filesystem.spec import ModelFileSystem
from modelfs.repository.objects import Kind
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

BIG = bytes(range(256)) * 40_000  # more than a chunk


def commits(store: str) -> int:
    """Number of the newest commit."""
    opened = open_store(store)
    try:
        return Repository.open(opened).resolve("main").number
    finally:
        opened.close()


# -- files -------------------------------------------------------------------------------------------------------------


def test_what_was_written_is_read(fs: ModelFileSystem) -> None:
    with fs.open("a/b.bin", "wb") as file:
        for start in range(0, len(BIG), 1_000_000):
            file.write(BIG[start : start + 1_000_000])
    assert fs.cat_file("a/b.bin") == BIG
    assert fs.size("a/b.bin") == len(BIG)
    with fs.open("a/b.bin") as file:
        assert file.size == len(BIG)
        file.seek(-10, os.SEEK_END)
        assert (file.read(), file.tell()) == (BIG[-10:], len(BIG))
        file.seek(5_000_001)
        target = bytearray(300_000)
        assert file.readinto(target) == len(target)
        assert target == BIG[5_000_001:5_300_001]


def test_text_lines_and_compression(fs: ModelFileSystem) -> None:
    with fs.open("a.txt", "w", encoding="utf-8") as file:
        file.write("ä\nb\n")
    assert fs.read_text("a.txt", encoding="utf-8").splitlines() == ["ä", "b"]
    with fs.open("a.txt.gz", "wb", compression="infer") as file:
        file.write(b"packed")
    with fs.open("a.txt.gz", "rb", compression="infer") as file:
        assert file.read() == b"packed"
    with fs.open("a.txt") as file:
        assert list(file) == ["ä\n".encode(), b"b\n"]
        file.seek(0)
        assert file.readuntil(b"\n", blocks=2) == "ä\n".encode()
        assert file.read() == b"b\n"


def test_a_file_is_seen_when_it_is_closed_and_old_readers_keep_what_they_opened(fs: ModelFileSystem) -> None:
    fs.pipe_file("a", b"old")
    reader = fs.open("a")
    with fs.open("a", "wb") as file:
        file.write(BIG)
        file.flush()
        assert fs.cat_file("a") == b"old"
        assert fs.ls("", detail=False) == ["a"]
    assert fs.cat_file("a") == BIG
    assert reader.read() == b"old"
    reader.close()


def test_a_discarded_file_leaves_nothing(fs: ModelFileSystem) -> None:
    fs.pipe_file("a", b"old")
    for mode in ("wb", "ab", "r+b"):
        file = fs.open("a", mode)
        file.write(b"half of it")
        file.flush()
        file.discard()
        assert file.closed
        assert fs.cat_file("a") == b"old"
    file = fs.open("new", "wb")
    file.write(b"x")
    file.discard()
    assert fs.find("") == ["a"]


def test_appending_and_changing_in_place(fs: ModelFileSystem, store: str, opened: Any) -> None:
    fs.pipe_file("a", b"0123456789")
    with fs.open("a", "ab") as file:
        assert file.tell() == 10
        file.write(b"ab")
    with fs.open("a", "r+b") as file:
        file.seek(2)
        file.write(b"XY")
        file.seek(0)
        assert file.read() == b"01XY456789ab"
        file.truncate(6)
    with fs.open("fresh", "ab") as file:
        file.write(b"made by appending")
    with fs.open("both", "w+b") as file:
        file.write(b"abc")
        file.seek(1)
        assert file.read() == b"bc"
    other = opened(store, cache="cache-2")
    assert other.cat(["a", "both", "fresh"]) == {"a": b"01XY45", "both": b"abc", "fresh": b"made by appending"}


def test_exclusive_creation_is_decided_at_the_close(fs: ModelFileSystem) -> None:
    file = fs.open("a", "xb")
    file.write(b"mine")
    fs.pipe_file("a", b"theirs")
    with pytest.raises(FileExistsError):
        file.close()
    assert fs.cat_file("a") == b"theirs"
    with pytest.raises(FileExistsError):
        fs.open("a", "xb")


def test_a_new_version_keeps_mode_and_attributes(machine: Machine, store: str, opened: Any) -> None:
    mnt = machine.mount(store)
    (mnt / "a").write_bytes(b"1")
    os.chmod(mnt / "a", 0o640)
    os.setxattr(mnt / "a", "user.note", b"kept")
    machine.umount(mnt)
    fs = opened(store)
    fs.pipe_file("a", b"2")
    assert fs.info("a")["mode"] & 0o777 == 0o640
    fs.close()
    mnt = machine.mount(store)
    assert (mnt / "a").read_bytes() == b"2"
    assert {name: os.getxattr(mnt / "a", name) for name in os.listxattr(mnt / "a")} == {"user.note": b"kept"}


def test_ranges_are_as_python_slices_have_them(fs: ModelFileSystem) -> None:
    fs.pipe({"a": BIG, "b": b"short"})
    assert fs.cat_file("b", 1, -1) == b"hor"
    assert fs.cat_file("b", -3) == b"ort"
    assert fs.cat_file("b", 4, 2) == b""
    found = fs.cat_ranges(["a", "b", "none", "a"], [10, 0, 0, -5], [20, 99, 1, None])
    assert found[:2] + found[3:] == [BIG[10:20], b"short", BIG[-5:]]
    assert isinstance(found[2], FileNotFoundError)
    assert found[2].filename == "none"


def test_files_can_be_pickled_and_have_what_fsspec_expects(fs: ModelFileSystem) -> None:
    fs.pipe_file("d/a", b"0123456789")
    file = fs.open("d/a")
    file.read(4)
    again = pickle.loads(pickle.dumps(file))
    assert (again.read(), file.loc, file.info()["size"]) == (b"456789", 4, 10)
    assert (file.path, file.mode, file.full_name) == ("d/a", "rb", "modelfs://d/a")
    with fs.open("d/b", "wb") as writer, pytest.raises(TypeError, match="being written"):
        pickle.dumps(writer)
    with pytest.raises(io.UnsupportedOperation):
        file.write(b"x")
    assert pickle.loads(pickle.dumps(fs)).cat_file("d/a") == b"0123456789"


def test_a_file_that_is_forgotten_is_closed(fs: ModelFileSystem) -> None:
    file = fs.open("a", "wb")
    file.write(b"x")
    del file
    assert fs.cat_file("a") == b"x"


# -- names -------------------------------------------------------------------------------------------------------------


def test_directories(fs: ModelFileSystem) -> None:
    fs.makedirs("a/b/c")
    fs.makedirs("a/b/c", exist_ok=True)
    with pytest.raises(FileExistsError):
        fs.makedirs("a/b/c")
    with pytest.raises(FileNotFoundError) as failure:
        fs.mkdir("x/y", create_parents=False)
    assert failure.value.filename == "x/y"
    assert (fs.isdir("a/b"), fs.isfile("a/b"), fs.exists("a/x"), fs.exists("a/b/c/d")) == (True, False, False, False)
    fs.touch("a/f")
    with pytest.raises(OSError) as refused:
        fs.rmdir("a")
    assert refused.value.errno == errno.ENOTEMPTY
    with pytest.raises(IsADirectoryError):
        fs.rm("a")
    fs.rmdir("a/b/c")
    assert list(fs.walk("")) == [("", ["a"], []), ("a", ["b"], ["f"]), ("a/b", [], [])]
    fs.rm("a", recursive=True)
    assert fs.ls("") == []
    with pytest.raises(FileNotFoundError):
        fs.ls("a")


def test_renaming(fs: ModelFileSystem) -> None:
    fs.pipe({"a/1": b"1", "a/2": b"2", "b": b"old"})
    before = fs.checksum("a/1")
    fs.mv("a/1", "b")
    fs.mv("a", "deep/er")
    assert fs.find("") == ["b", "deep/er/2"]
    assert fs.checksum("b") == before
    fs.mv("b", "deep")
    fs.mv("deep/b", "new/")
    assert fs.find("") == ["deep/er/2", "new/b"]
    fs.mv("deep/er/*", "new/")
    assert fs.find("") == ["new/2", "new/b"]
    with pytest.raises(FileNotFoundError):
        fs.mv("nothing", "x")


def test_a_copy_moves_no_bytes(fs: ModelFileSystem, store: str) -> None:
    fs.pipe_file("a", os.urandom(6_000_000))
    data = {path for path in Path(store).rglob("*") if path.is_file()}
    size = sum(path.stat().st_size for path in data)
    fs.cp_file("a", "copies/b")
    fs.copy("copies", "more", recursive=True)
    added = sum(path.stat().st_size for path in Path(store).rglob("*") if path.is_file()) - size
    assert added < 10_000
    assert fs.checksum("a") == fs.checksum("copies/b") == fs.checksum("more/b")
    fs.rm("a")
    assert fs.size("copies/b") == 6_000_000


def test_a_copy_of_what_is_being_changed_has_the_bytes_of_now(fs: ModelFileSystem) -> None:
    fs.pipe_file("a", b"old")
    with fs.open("a", "r+b") as file:
        file.write(b"new")
        file.flush()
        fs.cp_file("a", "b")
    assert fs.cat_file("b") == b"new"


def test_links_of_a_mount_are_followed(machine: Machine, store: str, opened: Any) -> None:
    mnt = machine.mount(store)
    (mnt / "runs/7").mkdir(parents=True)
    (mnt / "runs/7/model").write_bytes(b"seven")
    (mnt / "latest").symlink_to("runs/7")
    (mnt / "out").symlink_to("/etc/passwd")
    (mnt / "round").symlink_to("round")
    machine.umount(mnt)
    fs = opened(store)
    assert fs.cat_file("latest/model") == b"seven"
    assert (fs.isdir("latest"), fs.info("latest")["islink"], fs.info("latest")["destination"]) == (
        True, True, "runs/7",
    )  # fmt: skip
    assert (fs.exists("out"), fs.lexists("out"), fs.exists("round")) == (False, True, False)
    fs.pipe_file("latest/model", b"eight")
    fs.rm("latest")
    assert fs.cat_file("runs/7/model") == b"eight"


def test_times_and_checksums(fs: ModelFileSystem) -> None:
    fs.pipe({"a": BIG, "b": BIG, "c": b"small", "d": b"small"})
    assert fs.ukey("a") == fs.ukey("b") == fs.info("a")["ETag"]
    assert (fs.checksum("c") == fs.checksum("d"), fs.checksum("a") == fs.checksum("c")) == (True, False)
    before = fs.modified("a")
    fs.touch("a", truncate=False)
    assert fs.modified("a") > before
    assert fs.created("a") == fs.modified("a")
    assert fs.size("a") == len(BIG)
    fs.touch("a")
    assert fs.size("a") == 0
    with pytest.raises(NotImplementedError):
        fs.sign("a")


# -- transactions ------------------------------------------------------------------------------------------------------


def test_a_transaction_is_one_commit(fs: ModelFileSystem, store: str, opened: Any) -> None:
    fs.pipe_file("b", b"old")
    other, before = opened(store, cache="cache-2"), commits(store)
    with fs.transaction:
        fs.pipe_file("t/a", BIG)
        with fs.open("b", "wb") as file:
            file.write(b"new")
        fs.open("c", "wb").write(b"left open")
        assert fs.find("") == other.find("") == ["b"]
    assert commits(store) == before + 1
    assert other.cat(["t/a", "b", "c"]) == {"t/a": BIG, "b": b"new", "c": b"left open"}
    fs.pipe_file("d", b"an ordinary one again")
    assert other.exists("d")


def test_a_transaction_that_fails_changes_nothing(fs: ModelFileSystem) -> None:
    fs.pipe_file("a", b"old")
    fs.makedirs("dir")

    def write(last: str) -> None:
        for path in ("a", "b", last):
            with fs.open(path, "wb") as file:
                file.write(b"new" * 100)

    with pytest.raises(KeyError), fs.transaction:
        write("c")
        raise KeyError
    with pytest.raises(FileExistsError, match="'e'"), fs.transaction:
        write("c")
        file = fs.open("e", "xb")
        file.close()
        fs.makedirs("e")
    assert (fs.find(""), fs.cat_file("a")) == (["a"], b"old")
    fs.pipe_file("b", b"after")
    assert fs.cat_file("b") == b"after"


# -- places ------------------------------------------------------------------------------------------------------------


def test_urls(machine: Machine, store: str, opened: Any, home: Path) -> None:
    opened(store).pipe_file("a/b", b"here")
    cache = str(machine.directory / "cache")
    with fsspec.open("modelfs://a/b", store=store, cache_dir=cache, refresh=0) as file:
        assert file.read() == b"here"
    with fsspec.open(f"modelfs://a/b::file://{store}", modelfs={"cache_dir": cache, "refresh": 0}) as file:
        assert file.read() == b"here"
    config = home / ".config/modelfs"
    config.mkdir(parents=True, exist_ok=True)
    (config / "named.toml").write_text(f'store = "{store}"\ncache-dir = "{cache}"\nrefresh = 0\nallow-other = true\n')
    with fsspec.open("modelfs://@named/a/b") as file:
        assert file.read() == b"here"
        assert file.full_name == "modelfs://@named/a/b"
    fs, path = fsspec.url_to_fs("modelfs://@named/a/b")
    assert (path, fs.unstrip_protocol("a/b"), fs._strip_protocol("modelfs://@named/")) == (
        "a/b", "modelfs://@named/a/b", "",
    )  # fmt: skip


def test_old_commits_and_read_only(fs: ModelFileSystem, store: str, opened: Any) -> None:
    fs.pipe_file("a", b"1")
    number = commits(store)
    fs.pipe_file("a", b"2")
    assert opened(store, ref=f"main@{number}").cat_file("a") == b"1"
    with pytest.raises(OSError) as refused:
        opened(store, at=f"main@{number}").pipe_file("a", b"3")
    assert refused.value.errno == errno.EROFS
    with pytest.raises(OSError) as refused:
        opened(store, read_only=True).rm("a")
    assert refused.value.errno == errno.EROFS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "which store"),
        ({"store": ""}, "a directory or a URL"),
        ({"store": "@nobody"}, "no mount is named nobody"),
        ({"store": "/x", "cach_size": 1}, "did you mean cache_size"),
        ({"store": "/x", "cache_size": "much"}, "cache_size: "),
        ({"store": "/x", "refresh": -1}, "refresh: "),
        ({"store": "/x", "uid": 3}, "only a mount"),
        ({"store": "/x", "at": "v1", "ref": "v2"}, "at and ref"),
        ({"store": "/x", "at": "v1", "write_back": True}, "cannot be written"),
        ({"store": "/x", "fo": "/y", "target_protocol": "file"}, "one of them"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as failure:
        ModelFileSystem(**options)
    assert words in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_wrong_store_is_one_line_and_no_empty_store(tmp_path: Path, opened: Any, store: str) -> None:
    for fs, words in ((opened(str(tmp_path)), "no modelfs store"), (opened(store, branch="other"), "no branch")):
        for call in (fs.exists, fs.ls, fs.isdir, fs.cat_file):
            with pytest.raises(ValueError, match=words):
                call("a")


def test_a_store_that_fails_is_an_oserror(fs: ModelFileSystem, machine: Machine, store: str) -> None:
    fs.pipe_file("a", b"1")
    machine.freeze_uploads(store)
    try:
        with pytest.raises(OSError) as failure:
            fs.pipe_file("a", b"2")
        assert failure.value.errno == errno.EIO
    finally:
        machine.thaw_uploads(store)
    fs.pipe_file("b", b"3")
    assert fs.cat(["a", "b"]) == {"a": b"2", "b": b"3"}


def test_copies_are_inline_too(fs: ModelFileSystem, store: str) -> None:
    fs.pipe_file("a", b"tiny")
    fs.cp_file("a", "b")
    opened = open_store(store)
    try:
        repo = Repository.open(opened)
        entry = repo.find(repo.resolve("main").commit.root, b"b")
        assert entry is not None
        assert (entry.kind, entry.content) == (Kind.INLINE, b"tiny")
    finally:
        opened.close()
