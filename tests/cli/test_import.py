"""import as people run it: directories, Hugging Face caches, buckets; repeated, stopped, and asked for what is not."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store
from running import Run

from modelfs.writer import ingest


@pytest.fixture
def run(in_process: Run) -> Run:
    """Commands beside a store."""
    in_process("init", "store")
    return in_process


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Checkpoints, links inside and outside, and names that are not quite ordinary."""
    root = tmp_path / "runs"
    (root / "1").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "1" / "model.bin").write_bytes(os.urandom(9_000_000))
    (root / "1" / "config.json").write_text("{}")
    (root / "1" / "zero").touch()
    (root / "a name, with ünusual ~ signs").write_bytes(os.urandom(5000))
    (root / "best").symlink_to("1")
    (root / "1" / "latest.bin").symlink_to("model.bin")
    (tmp_path / "elsewhere").write_bytes(b"elsewhere" * 1000)
    (root / "outside").symlink_to(tmp_path / "elsewhere")
    (root / "1").chmod(0o750)
    for path in (root / "1" / "model.bin", root / "1"):
        os.utime(path, ns=(1, 1_600_000_000_123_456_789))
    return root


def test_a_directory(run: Run, runs: Path, tmp_path: Path) -> None:
    assert run("import", runs, "store", "old", "--dry-run", "--json").json["files"] == 5
    assert not run("ls", "store").out
    done = run("import", runs, "store", "old", "-m", "moved in", "--json").json
    assert (done["files"], done["commits"], done["same"], done["left_out"]) == (5, 1, 0, [])
    assert run("log", "store", "--json").json[0]["message"] == "moved in"
    run("get", "store", "old", "back")
    back = tmp_path / "back"
    for path in runs.rglob("*"):
        copy = back / path.relative_to(runs)
        if path.name == "outside":
            assert not copy.is_symlink()
            assert copy.read_bytes() == path.read_bytes()
        elif path.is_symlink():
            assert copy.readlink() == path.readlink()
        else:
            assert (copy.stat().st_mode, copy.stat().st_mtime_ns) == (path.stat().st_mode, path.stat().st_mtime_ns)
            assert path.is_dir() or copy.read_bytes() == path.read_bytes()
    again = run("import", runs, "store", "old", "--json").json
    assert (again["files"], again["commits"], again["same"]) == (0, 0, 5)
    (runs / "1" / "config.json").write_text("{ }")
    (runs / "1" / "zero").unlink()
    changed = run("import", runs, "store", "old", "--json").json
    assert (changed["files"], changed["bytes"]) == (1, 3)
    assert "zero" in run("ls", "store", "old/1").out, "nothing is removed"
    run("import", runs, "store", "filtered", "--exclude", "*.bin", "--exclude", "1/config.json")
    assert "1/zero\n" not in run("ls", "store", "filtered", "-R").out
    assert "model.bin" not in run("ls", "store", "filtered", "-R").out


def test_one_file(run: Run, runs: Path) -> None:
    run("import", runs / "1" / "config.json", "store")
    run("import", runs / "1" / "config.json", "store", "other.json")
    run("import", f"file://{runs}/1/config.json", "store", "dir/")
    assert run("ls", "store", "-R").out.split() == ["config.json", "dir/", "dir/config.json", "other.json"]


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A Hugging Face cache with two revisions of a model and a data set without any."""
    root = tmp_path / "hub"
    model = root / "models--org--llama"
    for directory in ("blobs", "refs", "snapshots/aaaa/sub", "snapshots/bbbb", ".no_exist/aaaa"):
        (model / directory).mkdir(parents=True)
    for name, data in (("b1", b"weights" * 10_000), ("b2", b"new weights" * 10_000)):
        (model / "blobs" / name).write_bytes(data)
    (model / "refs" / "main").write_text("bbbb")
    (model / "refs" / "v1").write_text("aaaa")
    (model / "snapshots/aaaa/model.bin").symlink_to("../../blobs/b1")
    (model / "snapshots/aaaa/sub/same.bin").symlink_to("../../../blobs/b1")
    (model / "snapshots/bbbb/model.bin").symlink_to("../../blobs/b2")
    (root / "datasets--org--words" / "snapshots").mkdir(parents=True)
    (root / "datasets--org--words" / "refs").mkdir()
    (root / "datasets--org--words" / "blobs").mkdir()
    (root / "version.txt").write_text("1")
    return root


def test_a_hugging_face_cache(run: Run, hub: Path, tmp_path: Path) -> None:
    done = run("import", hub, "store", "hub", "--json").json
    assert run("ls", "store", "-R").out.split() == ["hub/", "hub/org/", "hub/org/llama/", "hub/org/llama/model.bin"]
    assert len(done["left_out"]) == 1
    model = hub / "models--org--llama"
    run("import", model, "store", "v1", "--revision", "v1")
    assert run("ls", "store", "v1", "-R").out.split() == ["model.bin", "sub/", "sub/same.bin"]
    run("get", "store", "v1/sub/same.bin", "back")
    assert (tmp_path / "back").read_bytes() == b"weights" * 10_000
    run("import", model / "snapshots" / "aaaa", "store", "direct")
    assert run("ls", "store", "direct", "-R").out == run("ls", "store", "v1", "-R").out
    assert run("import", model, "store", "x", "--revision", "v9", "--json").json["files"] == 0


def test_a_bucket(run: Run, runs: Path, s3_bucket: str, tmp_path: Path) -> None:
    bucket = S3Store(s3_bucket.removeprefix("s3://"), client_options={"allow_http": True})
    for path in runs.rglob("*"):
        if path.is_file() and not path.is_symlink():
            obstore.put(bucket, f"some/where/{path.relative_to(runs)}", path.read_bytes())
    large = os.urandom(40_000_000)
    obstore.put(bucket, "some/where/1/large.bin", large, use_multipart=False)
    done = run("import", f"{s3_bucket}/some", "store", "--json").json
    assert (done["files"], done["left_out"]) == (5, [])
    run("get", "store", "where", "back")
    for path in runs.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert (tmp_path / "back" / path.relative_to(runs)).read_bytes() == path.read_bytes()
    assert (tmp_path / "back" / "1" / "large.bin").read_bytes() == large
    again = run("import", f"{s3_bucket}/some", "store", "--json").json
    assert (again["files"], again["same"]) == (0, 5)
    run("import", f"{s3_bucket}/some/where/1/config.json", "store", "single.json")
    run("get", "store", "single.json", "single")
    assert (tmp_path / "single").read_bytes() == b"{}"
    assert "nothing at" in run("import", f"{s3_bucket}/nowhere", "store", code=2).err


def test_stopped_and_run_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "many").mkdir()
    for i in range(12):
        (tmp_path / "many" / f"{i:02d}").write_bytes(os.urandom(1_000_000))
    whole, left = ingest.Ingest.content, 7

    def failing(self, name, *rest):  # type: ignore[no-untyped-def]
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(5, "the disk is tired", name)
        return whole(self, name, *rest)

    monkeypatch.setattr(ingest.Ingest, "content", failing)
    assert "the disk is tired" in run("import", "many", "store", code=1).err
    assert not run("ls", "store").out, "one commit, or none"
    left = 7
    run("import", "many", "store", "--group", "2MB", code=1)
    kept = len(run("ls", "store").out.split())
    assert 2 <= kept <= 7
    monkeypatch.setattr(ingest.Ingest, "content", whole)
    done = run("import", "many", "store", "--json").json
    assert (done["files"], done["same"]) == (12 - kept, kept)
    assert done["sent"] < 6_000_000, "what was uploaded before is there"


def test_a_server_that_fails_for_a_while(run: Run, runs: Path, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelfs.errors import TransientError
    from modelfs.store.objectstore import ObjectStoreBackend

    bucket = S3Store(s3_bucket.removeprefix("s3://"), client_options={"allow_http": True})
    obstore.put(bucket, "there/model.bin", os.urandom(9_000_000))
    whole, failed = ObjectStoreBackend.get_range, []

    def failing(self, key, start, length):  # type: ignore[no-untyped-def]
        if len(failed) < 3:
            failed.append(key)
            raise TransientError("injected", key)
        return whole(self, key, start, length)

    monkeypatch.setattr(ObjectStoreBackend, "get_range", failing)
    assert run("import", f"{s3_bucket}/there", "store", "--json").json["files"] == 1
    assert len(failed) == 3


def test_a_file_that_changes_while_it_is_read(run: Run, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ingest.Ingest.content

    def growing(self, name, *rest):  # type: ignore[no-untyped-def]
        with open(name, "ab") as file:
            file.write(b"more")
        return whole(self, name, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(ingest.Ingest, "content", growing)
        assert "was changed while it was read" in run("import", runs, "store", code=2).err
    assert not run("ls", "store").out
    run("import", runs, "store")


def test_what_can_be_wrong(run: Run, runs: Path, tmp_path: Path) -> None:
    def refused(*arguments: object) -> str:
        err = run("import", *arguments, code=2).err
        assert err.startswith("modelfs: ")
        assert err.count("\n") == 1, err
        return err

    assert "no such file" in refused("nowhere", "store")
    assert "no such directory" in refused(runs, "nostore")
    assert "nosuch:// is no kind" in refused("nosuch://x/y", "store")
    assert "not a size" in refused(runs, "store", "--group", "many")
    assert "above 0" in refused(runs, "store", "--group", "0")
    assert "--revision" in refused(runs, "store", "--revision", "v1")
    assert "no branch, tag or commit 'dev'" in refused(runs, "store", "--branch", "dev")
    assert "no `..`" in refused(runs, "store", "../x")
    run("import", runs / "1" / "config.json", "store", "file")
    before = len(list((tmp_path / "store").rglob("*")))
    assert "not a directory" in refused(runs, "store", "file")
    assert "not a directory" in refused(runs, "store", "file/deeper/still")
    assert ".modelfs" in refused(runs, "store", ".modelfs/x")
    assert len(list((tmp_path / "store").rglob("*"))) == before, "said before anything is sent"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(runs / "socket"))
        (runs / "dangling").symlink_to("/nowhere/at/all")
        assert run("import", runs, "store", "rest").err.count("left out: ") == 1
    assert "socket" not in run("ls", "store", "rest").out
