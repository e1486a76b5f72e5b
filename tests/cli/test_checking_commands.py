"""fsck, scrub and cache verify as people run them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from running import Run
from spoiling import spoil


def chunks(store: Path) -> list[Path]:
    return sorted(path for path in (store / "data").rglob("*") if path.is_file())


@pytest.fixture
def full(modelfs: Run, local_store: Path, tmp_path: Path) -> Path:
    """A store with two files."""
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(os.urandom(300_000))
    modelfs("put", local_store, tmp_path / "one", tmp_path / "two", "dir/")
    return local_store


def test_fsck_reports_and_repairs(modelfs: Run, full: Path, tmp_path: Path) -> None:
    assert "no damage found" in modelfs("fsck", full).out
    mirror = tmp_path / "mirror"
    shutil.copytree(full, mirror)
    victim = chunks(full)[0]
    spoil(victim)
    assert modelfs("fsck", full).code == 0  # a listing does not show it
    text = modelfs("fsck", full, "--read-data", code=1).out
    key = f"{victim.parent.parent.name}/{victim.parent.name}/{victim.name}"
    assert f"chunk {key}: damaged" in text
    assert "hurts dir/" in text
    assert "1 damaged object, 0 repaired, 1 left" in text
    found = modelfs("fsck", full, "--read-data", "--json", code=1).json
    assert (found["clean"], found["damaged"], found["repaired"], found["chunks"]) == (False, 1, 0, 2)
    (row,) = found["damage"]
    assert (row["object"], row["key"], row["problem"], row["repaired_from"]) == ("chunk", key, "damaged", None)
    assert [(h["path"][:4], h["commits"]) for h in row["hurts"]] == [("dir/", ["main@2"])]
    assert "1 left" in modelfs("fsck", full, "--read-data", "--repair", code=1).out
    out = modelfs("fsck", full, "--read-data", "--repair", "--from", mirror).out
    assert f"repaired from {mirror}" in out
    assert modelfs("fsck", full, "--read-data", "--json").json["clean"] is True
    for name in ("one", "two"):
        modelfs("get", full, f"dir/{name}", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == (tmp_path / name).read_bytes()
        (tmp_path / "back").unlink()


def test_much_damage_is_told_in_few_lines(modelfs: Run, local_store: Path, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(60):
        (tmp_path / "many" / f"{number:03}").write_bytes(os.urandom(5000))
        (tmp_path / "many" / f"{number:03}-copy").write_bytes(b"the same" * 1000)
    modelfs("put", local_store, tmp_path / "many", "many")
    for path in chunks(local_store):
        path.unlink()
    text = modelfs("fsck", local_store, code=1).out
    assert len(text.splitlines()) < 100
    assert "more damaged objects (--json shows all)" in text
    assert "and 40 more paths" in text
    assert len(modelfs("fsck", local_store, "--json", code=1).json["damage"]) == 61


def test_fsck_repairs_from_the_local_cache(modelfs: Run, full: Path, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    modelfs("mount", full, tmp_path / "mnt", "--cache-dir", tmp_path / "named")
    try:
        assert (tmp_path / "mnt/dir/one").read_bytes() == (tmp_path / "one").read_bytes()
    finally:
        modelfs("umount", tmp_path / "mnt")
    for path in chunks(full):
        path.unlink()
    found = modelfs("fsck", full, "--repair", "--cache-dir", tmp_path / "named", "--json", code=1).json
    assert (found["damaged"], found["repaired"]) == (2, 1)
    modelfs("get", full, "dir/one", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "one").read_bytes()


def test_format_json_is_restored_from_a_copy_only(modelfs: Run, full: Path, tmp_path: Path) -> None:
    shutil.copytree(full, tmp_path / "mirror")
    modelfs("init", tmp_path / "strange")
    (full / "format.json").unlink()
    assert "format format.json: missing" in modelfs("fsck", full, code=1).out
    assert modelfs("fsck", full, "--json", code=1).json["store_id"] is None
    modelfs("fsck", full, "--repair", "--from", tmp_path / "strange", code=1)
    assert "format.json: repaired" in modelfs("fsck", full, "--repair", "--from", tmp_path / "mirror").out
    assert "dir" in modelfs("ls", full).out


def test_scrub_goes_on_where_it_stopped(modelfs: Run, full: Path, tmp_path: Path) -> None:
    first = modelfs("scrub", full, "--rate", "0", "--stop-after", "1K", "--json").json
    assert (first["read_chunks"], first["round"]["checked"], first["round"]["rounds"]) == (1, 1, 0)
    assert "the next run begins anew" in modelfs("scrub", full, "--rate", "1G").out
    assert "1 chunk of 2" in modelfs("scrub", full, "--stop-after", "1", "--state", tmp_path / "own.json").out
    assert (tmp_path / "own.json").exists()
    spoil(chunks(full)[0])
    assert "hurts dir/" in modelfs("scrub", full, "--rate", "0", code=1).out


def test_cache_verify(modelfs: Run, full: Path, tmp_path: Path) -> None:
    assert modelfs("cache", "verify", "--json").json == []
    (tmp_path / "mnt").mkdir()
    modelfs("mount", full, tmp_path / "mnt")
    try:
        (tmp_path / "mnt/dir/one").read_bytes()
        (row,) = modelfs("cache", "verify", full, "--json").json
        assert row["damaged_chunks"] == 0
    finally:
        modelfs("umount", tmp_path / "mnt")
    assert ": sound" in modelfs("cache", "verify").out
    (file,) = [p for p in (tmp_path / "xdg-cache").rglob("files/*/*") if p.is_file()]
    spoil(file)
    assert "1 damaged chunk forgotten" in modelfs("cache", "verify", full, code=1).out
    assert ": sound" in modelfs("cache", "verify", full).out


def test_what_cannot_be_met(modelfs: Run, full: Path, tmp_path: Path) -> None:
    def refused(*arguments: object) -> str:
        err = modelfs(*arguments, code=2).err
        assert err.startswith("modelfs: ")
        assert err.count("\n") == 1, err
        return err

    modelfs("init", tmp_path / "other")
    (tmp_path / "empty").mkdir()
    assert "no modelfs store" in refused("fsck", tmp_path / "empty")
    assert "no such directory" in refused("fsck", tmp_path / "none")
    assert "v9" in refused("fsck", full, "--ref", "v9")
    assert "add --repair" in refused("fsck", full, "--from", tmp_path / "other")
    assert "names the store itself" in refused("fsck", full, "--repair", "--from", full)
    assert "no modelfs store" in refused("fsck", full, "--repair", "--from", tmp_path / "empty")
    assert "not a cache directory" in refused("fsck", full, "--repair", "--cache-dir", tmp_path / "empty")
    (tmp_path / "strange").write_text("{}")
    assert "not the state of a scrub" in refused("scrub", full, "--state", tmp_path / "strange")
    assert "not a size" in refused("scrub", full, "--rate", "fast")
    assert "not a cache directory" in refused("cache", "verify", full)
    modelfs("scrub", full, "--state", tmp_path / "ours", "--rate", "0")
    assert "another store's scrub" in refused("scrub", tmp_path / "other", "--state", tmp_path / "ours")
    (tmp_path / "mnt").mkdir()
    modelfs("mount", tmp_path / "other", tmp_path / "mnt", "--cache-dir", tmp_path / "others-cache")
    modelfs("umount", tmp_path / "mnt")
    assert "belongs to another store" in refused("cache", "verify", full, "--cache-dir", tmp_path / "others-cache")
