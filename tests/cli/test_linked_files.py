"""Linked files seen by commands that need no mount: each name is a file, a copy is not linked with its original."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mounting import Machine
from running import Run


@pytest.fixture
def linked(modelfs: Run, local_store: Path, machine: Machine) -> Path:
    """A store with a file under three names, one of them in another directory."""
    mnt = machine.mount(str(local_store))
    (mnt / "d/deep").mkdir(parents=True)
    (mnt / "d/a").write_bytes(os.urandom(300_000))
    os.link(mnt / "d/a", mnt / "d/deep/b")
    os.link(mnt / "d/a", mnt / "c")
    (mnt / "alone").write_bytes(b"x")
    machine.umount(mnt)
    return local_store


def test_stat_tells_the_names_and_ls_shows_each(modelfs: Run, linked: Path) -> None:
    assert modelfs("stat", linked, "c", "--json").json["names"] == ["c", "d/a", "d/deep/b"]
    assert "names" not in modelfs("stat", linked, "alone", "--json").json
    shown = modelfs("stat", linked, "d/a").out
    assert "d/deep/b" in shown
    assert "linked with" not in modelfs("stat", linked, "alone").out
    sizes = {found["path"]: found["size"] for found in modelfs("ls", linked, "-R", "--json").json}
    assert sizes == {"alone": 1, "c": 300_000, "d": 0, "d/a": 300_000, "d/deep": 0, "d/deep/b": 300_000}


def test_get_writes_each_name_and_put_and_cp_make_files_of_their_own(
    modelfs: Run, linked: Path, machine: Machine, tmp_path: Path
) -> None:
    modelfs("get", linked, "d", tmp_path / "out")
    assert (tmp_path / "out/a").read_bytes() == (tmp_path / "out/deep/b").read_bytes()
    assert (tmp_path / "out/a").stat().st_nlink == 1
    modelfs("cp", linked, "d", "copy")
    modelfs("cp", linked, "c", "single")
    assert modelfs("stat", linked, "copy/a", "--json").json["names"] == ["copy/a", "copy/deep/b"]
    assert modelfs("stat", linked, "c", "--json").json["names"] == ["c", "d/a", "d/deep/b"]
    (tmp_path / "new").write_bytes(b"new")
    modelfs("put", linked, tmp_path / "new", "d/a")  # takes the name, as rename does
    modelfs("put", linked, tmp_path / "new", "d/")  # a directory with links goes on
    assert modelfs("stat", linked, "c", "--json").json["names"] == ["c", "d/deep/b"]
    mnt = machine.mount(str(linked))
    assert [(mnt / name).stat().st_nlink for name in ("c", "d/a", "copy/a", "single")] == [2, 1, 2, 1]
    assert (mnt / "d/a").read_bytes() == b"new"
    assert (mnt / "c").read_bytes() == (tmp_path / "out/a").read_bytes()


def test_diff_shows_every_name_of_a_changed_file(modelfs: Run, linked: Path, machine: Machine) -> None:
    before = modelfs("log", linked, "--json").json[0]["number"]
    mnt = machine.mount(str(linked))
    (mnt / "c").write_bytes(b"changed")
    machine.umount(mnt)
    changes = modelfs("diff", linked, f"main@{before}", "main", "--names", "--json").json
    assert [(found["change"], found["path"]) for found in changes] == [("M", "c"), ("M", "d/a"), ("M", "d/deep/b")]
