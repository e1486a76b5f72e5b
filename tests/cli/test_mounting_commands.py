"""mount, status, umount, cache: the life of a mount from the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import eventually
from running import Run

from modelfs.fuse.mountpoint import mount_table


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    """An empty directory; whatever is mounted there is gone afterwards."""
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    if any(entry.path == str(path) for entry in mount_table()):
        subprocess.run(["fusermount3", "-u", "-z", "--", str(path)], check=True)


def test_the_life_of_a_mount(modelfs: Run, local_store: Path, mountpoint: Path, tmp_path: Path) -> None:
    assert modelfs("status").out == "nothing is mounted\n"
    assert modelfs("status", "--json").json == []
    assert str(mountpoint) in modelfs("mount", local_store, mountpoint, "--cache-dir", tmp_path / "c").out
    data = os.urandom(9_000_000)
    (mountpoint / "f").write_bytes(data)
    facts = modelfs("status", mountpoint, "--json").json
    assert (facts["state"], facts["store"], facts["commit"]) == ("mounted", str(local_store), 2)
    assert [found["mountpoint"] for found in modelfs("status", "--json").json] == [str(mountpoint)]
    assert "main@2" in modelfs("status").out
    assert "nothing" in modelfs("status", mountpoint).out
    # The cache can be looked at and cleared while the mount runs; what is open stays.
    with (mountpoint / "f").open("rb") as held:
        held.read(1)
        assert modelfs("cache", "stats", "--cache-dir", tmp_path / "c", "--json").json[0]["bytes"] == len(data)
        assert modelfs("cache", "clear", "--cache-dir", tmp_path / "c", "--json").json["left"] == len(data)
    assert modelfs("stat", local_store, "f", "--cache-dir", tmp_path / "c", "--json").json["cached"] == len(data)
    assert "100 %" in modelfs("cache", "ls", "--cache-dir", tmp_path / "c").out
    modelfs("umount", mountpoint)
    assert modelfs("cache", "clear", "--cache-dir", tmp_path / "c", "--json").json == {"freed": len(data), "left": 0}
    assert modelfs("status", "--json").json == []
    assert os.listdir(mountpoint) == []


def test_history_is_read_only(modelfs: Run, local_store: Path, mountpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    modelfs("put", local_store, "f", "f")
    modelfs("tag", local_store, "v1")
    (tmp_path / "f").write_text("new")
    modelfs("put", local_store, "f", "f")
    modelfs("mount", local_store, mountpoint, "--at", "v1")
    assert (mountpoint / "f").read_text() == "old"
    with pytest.raises(OSError, match="Read-only"):
        (mountpoint / "f").write_text("x")
    assert "read-only" in modelfs("status", mountpoint).out
    modelfs("umount", mountpoint)
    modelfs("mount", local_store, mountpoint, "-o", "ro,noatime")
    assert (mountpoint / "f").read_text() == "new"
    with pytest.raises(OSError, match="Read-only"):
        (mountpoint / "g").touch()
    modelfs("umount", mountpoint)


def test_owner_and_mode_as_the_mount_says(modelfs: Run, local_store: Path, mountpoint: Path) -> None:
    modelfs("mount", local_store, mountpoint, "--uid", 1234, "-o", "gid=4321,umask=027")
    (mountpoint / "f").write_text("x")
    (mountpoint / "f").chmod(0o666)
    facts = (mountpoint / "f").stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o777) == (1234, 4321, 0o640)
    modelfs("umount", mountpoint)


def test_foreground_ends_with_a_signal_and_loses_nothing(modelfs: Run, local_store: Path, mountpoint: Path) -> None:
    command = [sys.executable, "-m", "modelfs", "mount", str(local_store), str(mountpoint), "--foreground"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: any(entry.path == str(mountpoint) for entry in mount_table()), "mounted")
        (mountpoint / "f").write_text("kept")
        (mountpoint / "d").mkdir()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert "is mounted at" in err
    assert modelfs("ls", local_store).out.split() == ["d/", "f"]


def test_single_writer_on_a_store_without_exclusive_creation(modelfs: Run, tmp_path: Path, mountpoint: Path) -> None:
    """fsspec's own local file system races, so it is refused for writing unless the one writer says so."""
    store = f"local://{tmp_path / 'plain'}"
    assert "--single-writer" in modelfs("init", store, code=2).err
    modelfs("init", store, "--single-writer")
    assert "not safe to write to" in modelfs("mount", store, mountpoint, code=2).err
    modelfs("mount", store, mountpoint, "--single-writer")
    (mountpoint / "f").write_text("x")
    assert "is being written by" in modelfs("cp", store, "f", "g", "--single-writer", code=2).err
    modelfs("umount", mountpoint)
    modelfs("cp", store, "f", "g", "--single-writer")
    modelfs("mount", store, mountpoint, "--read-only")
    assert (mountpoint / "g").read_text() == "x"
    modelfs("umount", mountpoint)
    assert not (tmp_path / "plain" / "lease.json").exists()


@pytest.mark.parametrize("kind", ["s3", "sftp", "sqlite", "postgresql", "mariadb", "webdav"])
def test_mounts_of_real_servers(
    modelfs: Run, mountpoint: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("s3_bucket") + "/p" if kind == "s3" else request.getfixturevalue(f"{kind}_url")
    modelfs("init", url)
    modelfs("mount", url, mountpoint, "--cache-dir", tmp_path / "c1")
    data = os.urandom(30_000_000)
    (mountpoint / "dir").mkdir()
    (mountpoint / "dir/f").write_bytes(data)
    (mountpoint / "dir/f").rename(mountpoint / "dir/g")
    modelfs("umount", mountpoint)
    modelfs("mount", url, mountpoint, "--cache-dir", tmp_path / "c2")
    assert (mountpoint / "dir/g").read_bytes() == data
    assert os.listdir(mountpoint / "dir") == ["g"]
    modelfs("umount", mountpoint)
