"""Named mounts: a file, the environment and flags together, and `@NAME` wherever a store is asked for."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
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


@pytest.fixture
def named(tmp_path: Path, local_store: Path, mountpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a mount that is named team."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "config" / "modelfs" / "team.toml"
    path.parent.mkdir(parents=True)
    path.write_text(
        f'store = "{local_store}"\nmountpoint = "{mountpoint}"\numask = "027"\ncache-dir = "{tmp_path}/c"\nuid = 1\n'
    )
    return path


def test_a_named_mount(
    modelfs: Run, named: Path, mountpoint: Path, local_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELFS_UID", "2")
    monkeypatch.setenv("MODELFS_GID", "2")
    assert str(mountpoint) in modelfs("mount", "team", "--gid", 3).out
    (mountpoint / "f").write_text("x")
    (mountpoint / "f").chmod(0o666)
    facts = (mountpoint / "f").stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o777) == (2, 3, 0o640)
    status = modelfs("status", mountpoint, "--json").json
    assert (status["store"], status["cache_directory"]) == (str(local_store), f"{tmp_path}/c")
    modelfs("umount", mountpoint)
    # The same by the file, and its store at another place, as it was.
    (tmp_path / "other").mkdir()
    modelfs("mount", "--config", named)
    modelfs("umount", mountpoint)
    modelfs("mount", "@team", tmp_path / "other", "--at", "main@1")
    try:
        assert list((tmp_path / "other").iterdir()) == []
    finally:
        modelfs("umount", tmp_path / "other")


def test_what_is_shown_is_where_it_came_from(
    modelfs: Run, named: Path, mountpoint: Path, local_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELFS_CACHE_SIZE", "1GiB")
    monkeypatch.setenv("MODELFS_CACHESIZE", "2GiB")
    found = modelfs("config", "show", "team", "--refresh", "5m", "-o", "ro", "--json")
    rows = {row["option"]: (row["value"], row["source"], row["where"], row["variable"]) for row in found.json}
    assert rows["store"] == (str(local_store), "file", f"{named}:1", None)
    assert rows["umask"] == (0o27, "file", f"{named}:3", "MODELFS_UMASK")
    assert rows["cache-size"] == (2**30, "env", "MODELFS_CACHE_SIZE", "MODELFS_CACHE_SIZE")
    assert rows["refresh"] == (300.0, "flag", "--refresh", "MODELFS_REFRESH")
    assert rows["read-only"] == (True, "flag", "-o read-only", "MODELFS_READ_ONLY")
    assert rows["branch"] == ("main", "default", "", "MODELFS_BRANCH")
    assert found.err == "modelfs: MODELFS_CACHESIZE is in the environment, and no option\n"
    lines = {line.split()[0]: line.split()[1:] for line in modelfs("config", "show", "team").out.splitlines()[1:]}
    assert lines["umask"] == ["027", f"{named}:3"]
    assert lines["cache-size"] == ["1GiB", "MODELFS_CACHE_SIZE"]
    assert lines["at"] == ["-", "default"]


def test_a_store_is_named_by_its_mount(modelfs: Run, named: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    modelfs("put", "@team", "f", "f")
    modelfs("tag", "@team", "v1")
    assert modelfs("ls", "@team:v1").out.split() == ["f"]
    assert modelfs("gc", "@team", "--dry-run", "--json").json["dry_run"] is True
    assert modelfs("fsck", "@team", "--json").json["store"].endswith("a-store")
    assert modelfs("journal", "ls", "@team", "--json").json == []


def test_what_opens_an_encrypted_store_comes_from_its_file(
    modelfs: Run, named: Path, mountpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "pass phrase").write_text("correct horse\n")
    store = tmp_path / "sealed"
    named.write_text(
        f'store = "{store}"\nmountpoint = "{mountpoint}"\npassphrase-command = "cat \'{tmp_path}/pass phrase\'"\n'
    )
    modelfs("init", "@team", "--encrypt")
    modelfs("mount", "team")
    (mountpoint / "f").write_text("x")
    modelfs("umount", mountpoint)
    assert modelfs("ls", "@team").out.split() == ["f"]
    assert "passphrase" in modelfs("ls", store, code=2).err
    (tmp_path / "wrong").write_text("wrong\n")
    assert "opens" in modelfs("ls", "@team", "--passphrase-file", tmp_path / "wrong", code=2).err


def test_files_are_checked(modelfs: Run, named: Path, tmp_path: Path) -> None:
    assert modelfs("config", "check", named).out == f"{named}: right\n"
    named.write_text("refresh = 1\n")
    assert "no store and no mountpoint" in modelfs("config", "check", named).out
    assert modelfs("config", "check", named, "--json").json == {
        "file": str(named),
        "options": ["refresh"],
        "missing": ["store", "mountpoint"],
    }
    named.write_text("\nrefresh = 'x'\n")
    for words in (("config", "check", named), ("config", "show", "team"), ("mount", "team"), ("ls", "@team")):
        err = modelfs(*words, code=2).err
        assert err.startswith(f"modelfs: {named}:2: refresh: not a duration")
        assert err.count("\n") == 1
    named.write_text('at = "v1"\nwrite-back = true\n')
    assert "history" in modelfs("config", "check", named, code=2).err


def test_names_that_are_none(modelfs: Run, named: Path, mountpoint: Path, local_store: Path) -> None:
    assert "no mount is named other" in modelfs("mount", "other", code=2).err
    assert "A directory is expected" in modelfs("mount", local_store, code=2).err
    assert "are expected" in modelfs("mount", code=2).err
    assert "are expected" in modelfs("mount", "a", "b", "c", code=2).err
    assert "no argument" in modelfs("mount", "team", "--config", named, code=2).err
    named.write_text(f'store = "{local_store}"\n')
    assert "it has no mountpoint" in modelfs("mount", "team", code=2).err
    (named.parent / "b.toml").write_text(f'store = "{local_store}"\n')
    assert "one file for a command" in modelfs("fsck", "@team", "--repair", "--from", "@b", code=2).err
