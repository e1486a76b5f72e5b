"""``modelfs cache`` as people run it: facts as text and JSON, and what cannot be met in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from running import Run
from safetensors.numpy import save_file

from modelfs import limits
from modelfs.fuse.mountpoint import mount_table

MIB = 1 << 20


@pytest.fixture
def modelfs(in_process: Run) -> Run:
    return in_process


@pytest.fixture
def full(modelfs: Run, local_store: Path, tmp_path: Path) -> Path:
    """A store with two files in a directory, a checkpoint, and a small file."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a").write_bytes(os.urandom(9 * MIB))
    (tmp_path / "in" / "sub" / "b").write_bytes(os.urandom(2 * MIB))
    (tmp_path / "in" / "small").write_text("in the tree")
    tensors = {f"layers.{i}.w": np.random.default_rng(i).random((1024, 512), np.float32) for i in range(6)}
    save_file(tensors, tmp_path / "in" / "model.safetensors")
    modelfs("put", local_store, tmp_path / "in", "dir")
    modelfs("tag", local_store, "v1")
    return local_store


@pytest.fixture
def refused(modelfs: Run):  # type: ignore[no-untyped-def]
    def run(*arguments: object) -> str:
        err = modelfs("cache", *arguments, code=2).err
        assert err.startswith("modelfs: ")
        assert err.count("\n") == 1, err
        return err

    return run


def test_warm_ls_stats(modelfs: Run, full: Path) -> None:
    found = modelfs("cache", "warm", full, "dir/sub", "dir/a", "--json").json
    assert (found["files"], found["bytes"], found["fetched_bytes"]) == (2, 11 * MIB, 11 * MIB)
    assert (found["missing_bytes"], found["failures"], found["pinned"]) == (0, [], False)
    again = modelfs("cache", "warm", full, "dir", "--at", "v1")
    assert "11.5 MB were here" in again.out
    rows = {tuple(row["paths"]): row for row in modelfs("cache", "ls", full, "--json").json}
    assert rows[("dir/a",)]["resident"] == rows[("dir/a",)]["size"] == 9 * MIB
    text = modelfs("cache", "ls").out
    assert "dir/sub/b" in text
    assert "100 %" in text
    (stats,) = modelfs("cache", "stats", full, "--json").json
    assert stats["bytes"] >= 11 * MIB
    assert (stats["files"], stats["limit"], stats["pinned_bytes"], stats["hit_ratio"]) == (
        3,
        limits.CACHE_SIZE_DEFAULT,
        0,
        None,
    )
    assert "HITS" in modelfs("cache", "stats").out


def test_tensors_are_warmed_and_shown(modelfs: Run, full: Path) -> None:
    modelfs("cache", "warm", full, "dir", "--tensor", "layers.2.*")
    found = modelfs("cache", "map", f"{full}:dir/model.safetensors", "--json").json
    here = {t["name"]: t["resident"] == t["length"] for t in found["tensors"]}
    assert here["layers.2.w"]
    assert list(here.values()).count(False) >= 4
    assert (found["format"], found["path"]) == ("safetensors", "dir/model.safetensors")
    assert 2 * MIB <= found["resident"] < found["size"]
    text = modelfs("cache", "map", f"{full}:v1:dir/model.safetensors").out
    assert "layers.5.w" in text
    assert "█" in text
    assert "·" in text
    assert "100 %" in modelfs("cache", "map", f"{full}:dir/small").out


def test_a_file_of_a_mount_is_shown_by_its_daemon(modelfs: Run, full: Path, tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    (tmp_path / "link").symlink_to(mountpoint)
    modelfs("mount", full, mountpoint)
    try:
        path = mountpoint / "dir" / "a"
        assert modelfs("cache", "map", path, "--json").json["resident"] == 0
        path.read_bytes()
        for way in (path, tmp_path / "link" / "dir" / "a"):
            found = modelfs("cache", "map", way, "--json").json
            assert (found["resident"], found["ranges"], found["path"]) == (9 * MIB, [[0, 9 * MIB]], "dir/a")
        assert modelfs("cache", "map", mountpoint / "dir" / "small", "--json").json["chunks"] == 0
        assert "not a regular file" in modelfs("cache", "map", mountpoint / "dir", code=2).err
    finally:
        modelfs("umount", mountpoint)
    (stats,) = modelfs("cache", "stats", full, "--json").json
    assert stats["hit_ratio"] == 0
    assert stats["miss_bytes"] == 9 * MIB
    assert not any(entry.path == str(mountpoint) for entry in mount_table())


def test_pin_evict_unpin_resize(modelfs: Run, full: Path, refused) -> None:  # type: ignore[no-untyped-def]
    assert modelfs("cache", "pin", full, "dir/a", "--json").json == {"files": 1, "bytes": 9 * MIB, "resident": 0}
    modelfs("cache", "warm", full, "dir/sub", "--pin")
    modelfs("cache", "warm", full, "dir")
    left = modelfs("cache", "evict", "--to", "0", "--json").json
    assert left["left"] == 11 * MIB
    assert modelfs("cache", "evict", full, "dir/a", "--json").json["freed"] == 0
    assert "pinned" in modelfs("cache", "ls").out
    assert "are pinned in" in refused("resize", "9MB")
    assert "limited to 12.0 MB" in modelfs("cache", "resize", "12MB", full).out
    assert "this takes" in refused("warm", full, "dir/model.safetensors")
    assert "pinning this takes" in refused("pin", full, "dir/model.safetensors")
    assert modelfs("cache", "resize", "12MB", "--json").json["limit"] == 12_000_000
    assert "1 file unpinned" in modelfs("cache", "unpin", full, "dir/a").out
    assert modelfs("cache", "unpin", full, "--json").json == {"files": 1}
    assert modelfs("cache", "evict", full, "dir/a", "dir/sub", "--json").json == {"freed": 11 * MIB, "left": 0}


def test_versions_that_a_path_had_are_unpinned_by_it(modelfs: Run, full: Path, tmp_path: Path) -> None:
    modelfs("cache", "pin", full, "dir/a")
    (tmp_path / "new").write_bytes(os.urandom(MIB))
    modelfs("put", full, tmp_path / "new", "dir/a")
    assert modelfs("cache", "unpin", full, "dir", "--json").json == {"files": 1}


def test_export_and_import(modelfs: Run, full: Path, tmp_path: Path) -> None:
    modelfs("cache", "warm", full, "dir")
    held = modelfs("cache", "stats", full, "--json").json[0]["bytes"]
    (row,) = modelfs("cache", "export", tmp_path / "seed", full, "--json").json
    assert (row["files"], row["copied_bytes"]) == (3, held)
    assert "were there" in modelfs("cache", "export", tmp_path / "seed").out
    other = ("--cache-dir", tmp_path / "other")
    shutil.move(full / "data", full / "data-away")  # no chunk comes from the store
    taken = modelfs("cache", "import", full, tmp_path / "seed", *other, "--json").json
    assert (taken["files"], taken["taken_bytes"], taken["damaged_bytes"]) == (3, held, 0)
    assert modelfs("cache", "warm", full, "dir", *other, "--json").json["fetched_chunks"] == 0
    victim = next(p for p in (tmp_path / "seed").rglob("files/*/*") if p.stat().st_size == 9 * MIB)
    data = bytearray(victim.read_bytes())
    data[MIB] ^= 1
    victim.write_bytes(data)
    damaged = modelfs("cache", "import", full, tmp_path / "seed", "--cache-dir", tmp_path / "third", code=1)
    assert "are not what the store says" in damaged.err


def test_the_script_that_warms_a_list(modelfs: Run, full: Path, tmp_path: Path) -> None:
    """Every line is tried; one that cannot be met is the exit code."""
    script = Path(__file__).resolve().parents[2] / "tools" / "warm-cache"
    wanted = tmp_path / "list"
    wanted.write_text(f"# what the job needs\n\n{full}:v1  dir/a dir/sub\n{full} dir/none\n{full} dir/small dir/a\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [script, wanted], env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "has no dir/none" in done.stderr
    assert done.stderr.count("\n") == 1
    pinned = [row["paths"] for row in modelfs("cache", "ls", "--json").json if row["pinned"]]
    assert sorted(pinned) == [["dir/a"], ["dir/sub/b"]]


def test_what_is_damaged_in_the_store_is_said(modelfs: Run, full: Path) -> None:
    for path in (full / "data").rglob("*"):
        if path.is_file():
            path.unlink()
            break
    done = modelfs("cache", "warm", full, "dir", code=1)
    assert "are not in the cache" in done.err
    assert len(modelfs("cache", "warm", full, "dir", "--json", code=1).json["failures"]) == 1


def test_what_cannot_be_met(refused, modelfs: Run, full: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert "not a cache directory" in refused("unpin", full)
    assert "not a cache directory" in refused("evict", full, "dir")
    assert "there are 0 caches" in refused("resize", "20GB")
    assert "has no dir/none" in refused("warm", full, "dir/none")
    assert "v9" in refused("warm", full, "dir", "--at", "v9")
    assert "one of them" in refused("warm", f"{full}:v1", "dir", "--at", "v1")
    assert "no tensor is named like nothing*" in refused("warm", full, "dir", "--tensor", "nothing*")
    assert "no such directory" in refused("warm", tmp_path / "none", "dir")
    assert "Missing argument" in refused("warm", full)
    assert "evict what?" in refused("evict")
    assert "evict what?" in refused("evict", full)
    assert "evict what?" in refused("evict", full, "dir", "--to", "0")
    assert "not a size" in refused("evict", "--to", "some")
    modelfs("cache", "pin", full, "dir/a")
    assert "has no dir/none" in refused("evict", full, "dir/none")
    assert "smaller than one chunk" in refused("resize", "1K")
    assert "neither in a modelfs mount" in refused("map", tmp_path / "in" / "a")
    assert "neither in a modelfs mount" in refused("map", "s3://bucket/x")
    assert "not a regular file" in refused("map", f"{full}:dir")
    assert "has no none" in refused("map", f"{full}:none")
    assert "not an export" in refused("import", full, tmp_path)
    assert "not a cache directory" in refused("stats", "--cache-dir", tmp_path)
    assert "No such command" in refused("frobnicate")
