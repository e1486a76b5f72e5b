"""import --link as people run it: nothing is copied, what is read is right, and what is broken is found and mended."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store
from running import Run

SIZE = 9_000_000


@pytest.fixture
def run(in_process: Run) -> Run:
    """Commands beside a store."""
    in_process("init", "store")
    return in_process


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two large files and a small one."""
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    (root / "a.bin").write_bytes(os.urandom(SIZE))
    (root / "sub" / "b ü.bin").write_bytes(os.urandom(SIZE))
    (root / "config.json").write_text("{}")
    return root


def stored(store: Path) -> int:
    return sum(path.stat().st_size for path in (store / "data").rglob("*") if path.is_file())


def same(back: Path, root: Path) -> bool:
    return all((back / p.relative_to(root)).read_bytes() == p.read_bytes() for p in root.rglob("*") if p.is_file())


def change(path: Path, *, keep_time: bool = False) -> None:
    """Turn a bit in the middle; the size stays."""
    facts, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    moment = facts.st_mtime_ns if keep_time else facts.st_mtime_ns + 5_000_000_000
    os.utime(path, ns=(moment, moment))


def test_nothing_is_copied_and_everything_reads(run: Run, data: Path, tmp_path: Path) -> None:
    done = run("import", data, "store", "in", "--link")
    assert f"who reads this needs --allow-source {data}" in done.err
    assert stored(tmp_path / "store") < 5000
    assert run("log", "store", "--json").json[0]["message"] == f"linked to {data}"
    du = run("du", "store", "--by", "codec", "--json").json
    assert (du["linked"], list(du["codecs"])) == (2 * SIZE, ["link"])
    stat = run("stat", "store", "in/a.bin", "--chunks", "--json").json
    assert (stat["linked"], stat["originals"]) == (SIZE, [f"{data}/a.bin"])
    assert [p["original_offset"] for p in stat["chunk_list"]] == [p["offset"] for p in stat["chunk_list"]]
    assert f"{data}/a.bin" in run("stat", "store", "in/a.bin").out
    run("get", "store", "in", "back", "--allow-source", data)
    assert same(tmp_path / "back", data)
    assert run("import", data, "store", "in", "--link", "--json").json["same"] == 3
    found = run("fsck", "store", "--read-data", "--allow-source", tmp_path, "--json").json
    assert (found["clean"], found["links"]["refused"], found["links"]["originals"]) == (True, 0, 2)


def test_links_are_followed_only_where_that_is_allowed(run: Run, data: Path, tmp_path: Path) -> None:
    run("import", data, "store", "in", "--link")
    beside = tmp_path / "dat"
    beside.mkdir()
    for allowed in ((), ("--allow-source", beside), ("--allow-source", data / "sub")):
        said = run("get", "store", "in/a.bin", "back", *allowed, code=2).err
        assert f"is a link: {data}/a.bin may only be read if --allow-source says so" in said
    run("get", "store", "in/a.bin", "one", "--allow-source", data / "a.bin")  # the file itself
    found = run("fsck", "store", "--json").json
    assert found["clean"]
    assert found["links"]["refused"] == found["links"]["chunks"] > 1
    assert "not verified" in run("fsck", "store", "--read-data").out
    assert "not verified" in run("scrub", "store").out


def test_changed_and_vanished_originals(run: Run, data: Path, tmp_path: Path) -> None:
    run("import", data, "store", "in", "--link")
    allow = ("--allow-source", data)
    change(data / "a.bin")
    (data / "sub" / "b ü.bin").unlink()
    assert "a.bin was changed after it was linked" in run("get", "store", "in/a.bin", "x", *allow, code=1).err
    assert "b ü.bin is gone" in run("get", "store", "in/sub/b ü.bin", "x", *allow, code=1).err
    found = run("fsck", "store", *allow, "--json", code=1).json
    problems = {(row["problem"], hurt["path"]) for row in found["damage"] for hurt in row["hurts"]}
    assert problems == {("changed original", "in/a.bin"), ("broken link", "in/sub/b ü.bin")}
    text = run("fsck", "store", *allow, code=1).out
    assert text.count("hurts in/") == 2, text
    found = run("fsck", "store", "--read-data", *allow, "--json", code=1).json
    hurt = [hurt["path"] for row in found["damage"] for hurt in row["hurts"]]
    assert hurt.count("in/a.bin") == 1, "one chunk of it has other bytes"
    assert {row["problem"] for row in found["damage"]} == {"broken link"}
    assert "broken link" in run("scrub", "store", "--rate", "0", *allow, code=1).out


def test_a_change_that_kept_size_and_time_is_found_by_reading(run: Run, data: Path) -> None:
    run("import", data, "store", "in", "--link")
    change(data / "a.bin", keep_time=True)
    assert run("fsck", "store", "--allow-source", data, "--json").json["clean"]
    assert run("fsck", "store", "--read-data", "--allow-source", data, "--json", code=1).json["damaged"] == 1
    assert "other ones" in run("get", "store", "in/a.bin", "x", "--allow-source", data, code=1).err


def test_moved_or_touched_originals_are_linked_anew(run: Run, data: Path, tmp_path: Path) -> None:
    run("import", data, "store", "in", "--link")
    moved = data.rename(tmp_path / "moved")
    os.utime(moved / "a.bin", ns=(1, 1))
    run("fsck", "store", "--allow-source", data, code=1)
    done = run("import", moved, "store", "in", "--link", "--json").json
    assert (done["files"], done["same"], done["links_to"]) == (2, 1, [f"file://{moved}"])
    assert run("import", moved, "store", "in", "--link", "--json").json["files"] == 0
    assert run("import", moved, "store", "again", "--link", "--json").json["sent"] == 0
    assert run("fsck", "store", "--allow-source", moved, "--json").json["clean"]
    run("get", "store", "in", "back", "--allow-source", moved)
    assert same(tmp_path / "back", moved)


def test_repair_materialise_and_sync_bring_the_bytes(run: Run, data: Path, tmp_path: Path) -> None:
    run("import", data, "store", "in", "--link")
    run("init", "copy")
    assert "may only be read" in run("sync", "store", "copy", code=2).err
    run("sync", "store", "copy", "--allow-source", data)
    assert stored(tmp_path / "copy") > 2 * SIZE * 0.99
    assert not (tmp_path / "copy" / "sources").exists()
    run("sync", "store", "mirror", "--create", "--allow-source", data)
    shutil.copytree(tmp_path / "store", tmp_path / "other")
    (data / "a.bin").unlink()
    allow = ("--allow-source", data)
    assert "repaired from" in run("fsck", "store", *allow, "--repair", "--from", "copy").out
    assert run("fsck", "store", "--read-data", *allow, "--json").json["clean"]
    assert run("du", "store", "--json").json["linked"] == SIZE
    assert run("materialise", "store", *allow, "--json").json["bytes"] == SIZE
    assert run("du", "store", "--json").json["linked"] == 0
    assert run("materialise", "store", "--json").json["chunks"] == 0
    shutil.move(data, tmp_path / "gone")
    assert run("fsck", "store", "--read-data", "--json").json["clean"]
    assert run("fsck", "mirror", "--read-data", "--json").json["clean"]
    # What cannot be had is said, and what can is done.
    shutil.move(tmp_path / "gone", data)
    half = run("materialise", "other", *allow, "--json", code=1).json
    assert (half["bytes"], list(half["failed"])) == (SIZE, [f"{data}/a.bin"])
    left = run("materialise", "other", "--json").json
    assert (left["refused"], left["chunks"]) == (half["failed_chunks"], 0)


def test_sync_does_not_rely_on_links_of_the_target(run: Run, data: Path, tmp_path: Path) -> None:
    run("init", "copy")
    run("sync", "store", "copy")
    run("branch", "create", "copy", "side")
    run("import", data, "copy", "in", "--link", "--branch", "side")
    run("put", "store", "data/a.bin", "a.bin")
    assert run("sync", "store", "copy", "--ref", "main", "--json").json["sent"] > SIZE * 0.99
    assert run("stat", "copy:side", "in/a.bin", "--json").json["linked"] == 0
    assert run("sync", "store", "copy", "--ref", "main", "--json").json["sent"] == 0
    shutil.rmtree(data)
    run("get", "copy", "a.bin", "back")


def test_warming_a_cache_passes_over_what_it_may_not_read(run: Run, data: Path, tmp_path: Path) -> None:
    run("import", data, "store", "in", "--link")
    run("put", "store", "data/a.bin", "a.bin")
    warmed = run("cache", "warm", "store", "in", "--json", code=1).json
    assert warmed["fetched_bytes"] == SIZE
    assert run("cache", "warm", "store", "in", "--allow-source", data, "--json").json["fetched_bytes"] == SIZE


def test_an_sftp_server(run: Run, data: Path, sftp_url: str, tmp_path: Path) -> None:
    there = tmp_path / "on-the-server"
    shutil.copytree(data, there, dirs_exist_ok=True)
    done = run("import", sftp_url, "store", "in", "--link", "--json").json
    (told,) = done["links_to"]
    assert "@" not in told, "who asks is the reader's business"
    run("get", "store", "in", "back", "--allow-source", sftp_url)
    assert same(tmp_path / "back", data)
    assert run("fsck", "store", "--allow-source", sftp_url, "--json").json["links"]["refused"] == 0
    change(there / "a.bin")
    found = run("fsck", "store", "--allow-source", sftp_url, "--json", code=1).json
    assert {row["problem"] for row in found["damage"]} == {"changed original"}


def test_a_touched_original_is_no_damage_to_repair(run: Run, data: Path) -> None:
    run("import", data, "store", "in", "--link")
    os.utime(data / "a.bin", ns=(1, 1))
    assert f"repaired from {data}/a.bin" in run("fsck", "store", "--repair", "--allow-source", data).out
    assert run("fsck", "store", "--allow-source", data, "--json").json["damaged"] == 0


def test_who_saves_the_bytes_does_not_rely_on_a_link(run: Run, data: Path, tmp_path: Path) -> None:
    run("import", data, "store", "in", "--link")
    run("put", "store", "data/a.bin", "own.bin")
    assert run("stat", "store", "own.bin", "--json").json["linked"] == 0
    assert run("stat", "store", "in/a.bin", "--json").json["linked"] == 0
    run("import", data, "store", "second", "--link")
    assert run("stat", "store", "second/a.bin", "--json").json["linked"] == 0, "bytes are not replaced by links"
    run("cp", "store", "in/sub", "copied")
    assert run("stat", "store", "copied/b ü.bin", "--json").json["linked"] == SIZE, "nothing was saved anew"
    shutil.rmtree(data)
    run("get", "store", "own.bin", "back")


def test_collections_leave_originals_alone(run: Run, data: Path, tmp_path: Path) -> None:
    run("import", data / "a.bin", "store", "in/", "--link")
    objects = set((tmp_path / "store" / "data").rglob("*"))
    run("branch", "create", "store", "b")
    run("import", data, "store", "other", "--link", "--branch", "b")
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    assert set((tmp_path / "store" / "data").rglob("*")) > objects
    run("branch", "rm", "store", "b")
    for _ in range(3):
        run("gc", "store", "--grace", "0s", "--exclusive")
    left = [path for path in (tmp_path / "store" / "data").rglob("*") if path.is_file()]
    assert set(left) == {path for path in objects if path.is_file()}
    assert before == {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    run("get", "store", "in/a.bin", "back", "--allow-source", data)
    assert (tmp_path / "back").read_bytes() == (data / "a.bin").read_bytes()


def test_links_out_of_the_directory_lead_to_where_the_file_is(run: Run, data: Path, tmp_path: Path) -> None:
    hub = tmp_path / "models--org--m"
    for name in ("blobs", "refs", "snapshots/aaaa"):
        (hub / name).mkdir(parents=True)
    (hub / "blobs" / "b1").write_bytes(os.urandom(SIZE))
    (hub / "refs" / "main").write_text("aaaa")
    (hub / "snapshots/aaaa/model.bin").symlink_to("../../blobs/b1")
    assert run("import", hub, "store", "m", "--link", "--json").json["links_to"] == [f"file://{hub}"]
    alone = run("import", hub / "snapshots/aaaa", "store", "n", "--link", "--json").json
    assert alone["links_to"] == [f"file://{hub}/blobs"]
    run("get", "store", "n/model.bin", "back", "--allow-source", hub)
    assert (tmp_path / "back").read_bytes() == (hub / "blobs" / "b1").read_bytes()
    one = run("import", data / "a.bin", "store", "--link", "--json").json
    assert one["links_to"] == [f"file://{data}"]


def test_an_encrypted_store(run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_bytes(bytes(range(32)))
    monkeypatch.setenv("MODELFS_KEY_FILE", str(tmp_path / "key"))
    run("init", "vault", "--encrypt")
    run("import", data, "vault", "in", "--link")
    assert stored(tmp_path / "vault") < 5000
    for path in (tmp_path / "vault").rglob("*"):
        assert not path.is_file() or b"a.bin" not in path.read_bytes()
        assert not path.is_file() or b"file://" not in path.read_bytes()
    run("get", "vault", "in", "back", "--allow-source", data)
    assert same(tmp_path / "back", data)
    assert run("fsck", "vault", "--allow-source", data, "--json").json["links"]["refused"] == 0
    change(data / "a.bin")
    assert run("fsck", "vault", "--read-data", "--allow-source", data, "--json", code=1).json["damaged"] == 1
    monkeypatch.delenv("MODELFS_KEY_FILE")
    run("sync", "vault", "store", "--rewrite", "--from-key-file", "key", "--allow-source", data, code=1)


def test_a_bucket(run: Run, data: Path, s3_bucket: str, tmp_path: Path) -> None:
    bucket = S3Store(s3_bucket.removeprefix("s3://"), client_options={"allow_http": True})
    for path in (data / "a.bin", data / "config.json"):
        obstore.put(bucket, f"runs/1/{path.name}", path.read_bytes(), use_multipart=False)
    done = run("import", f"{s3_bucket}/runs", "store", "--link", "--json").json
    assert done["links_to"] == [f"{s3_bucket}/runs"]
    assert stored(tmp_path / "store") < 5000
    run("get", "store", "1/a.bin", "x", "--allow-source", f"{s3_bucket}/other", code=2)
    run("get", "store", "1/a.bin", "back", "--allow-source", f"{s3_bucket}/runs")
    assert (tmp_path / "back").read_bytes() == (data / "a.bin").read_bytes()
    one = run("import", f"{s3_bucket}/runs/1/a.bin", "store", "one.bin", "--link", "--json").json
    assert (one["links_to"], one["sent"]) == ([f"{s3_bucket}/runs/1"], 0) or one["sent"] < 1000
    allow = ("--allow-source", s3_bucket)
    assert run("fsck", "store", *allow, "--json").json["clean"]
    assert run("fsck", "store", "--read-data", *allow, "--json").json["clean"]
    obstore.put(bucket, "runs/1/a.bin", os.urandom(SIZE - 1), use_multipart=False)
    found = run("fsck", "store", *allow, "--json", code=1).json
    assert {row["problem"] for row in found["damage"]} == {"broken link"}
    obstore.delete(bucket, "runs/1/a.bin")
    assert "is gone" in run("get", "store", "1/a.bin", "y", *allow, code=1).err
    assert "is gone" in run("fsck", "store", *allow, code=1).out


def test_a_source_that_does_not_answer_is_no_damage_of_the_store(run: Run, data: Path, tmp_path: Path) -> None:
    run("import", data, "store", "in", "--link")
    shutil.move(data, tmp_path / "elsewhere")
    data.mkdir()
    (data / "a.bin").mkdir()
    allow = ("--allow-source", data)
    found = run("fsck", "store", *allow, "--json", code=1).json
    assert {row["problem"] for row in found["damage"]} == {"original not reached", "broken link"}
    found = run("fsck", "store", "--read-data", *allow, "--json", code=1).json
    assert {row["problem"] for row in found["damage"]} == {"original not reached", "broken link"}


def test_what_cannot_be(run: Run, data: Path) -> None:
    assert "it is a directory or a URL" in run("get", "store", "x", "y", "--allow-source", "", code=2).err
