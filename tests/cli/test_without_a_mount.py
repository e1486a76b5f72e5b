"""init, put, get, ls, cp, log, tag, du, stat: a store from the command line alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from running import Run


def _tree(root: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(p.relative_to(root)): (
            stat.S_IMODE(p.lstat().st_mode),
            p.lstat().st_mtime_ns if not p.is_symlink() else 0,
            os.fsencode(p.readlink()) if p.is_symlink() else p.read_bytes() if p.is_file() else b"",
        )
        for p in sorted(root.rglob("*"))
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with a bit of everything."""
    root = tmp_path / "run"
    (root / "deep/er").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "model.bin").write_bytes(os.urandom(11_000_000))
    (root / "deep/er/zeros").write_bytes(bytes(9_000_000))
    (root / "deep/small").write_bytes(b"small")
    (root / "deep/nothing").touch()
    (root / "link").symlink_to("deep/small")
    (root / "model.bin").chmod(0o640)
    os.utime(root / "deep/small", ns=(1, 1_600_000_000_123_456_789))
    return root


def test_put_and_get_a_directory(modelfs: Run, local_store: Path, source: Path, tmp_path: Path) -> None:
    facts = modelfs("put", local_store, source, "runs/7", "--json").json
    assert (facts["files"], facts["bytes"]) == (4, 20_000_005)
    assert 10_000_000 < facts["sent"] < 11_100_000, "zeros cost nothing"
    modelfs("get", local_store, "runs/7", tmp_path / "back")
    assert _tree(tmp_path / "back") == _tree(source)
    again = modelfs("put", local_store, source, "runs/8", "--json").json
    assert again["sent"] == 0


def test_destinations_work_as_with_cp(modelfs: Run, local_store: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    modelfs("put", local_store, "a", "x")
    modelfs("put", local_store, "a", "dir/")
    modelfs("put", local_store, "b", "dir")
    modelfs("put", local_store, "a", "b", "both")
    assert modelfs("ls", local_store, "-R").out.split() == ["both/", "both/a", "both/b", "dir/", "dir/a", "dir/b", "x"]
    assert "is a file in the store" in modelfs("put", local_store, "a", "x/y", code=2).err
    (tmp_path / "out").mkdir()
    modelfs("get", local_store, "dir/a", "out")
    assert (tmp_path / "out/a").read_text() == "a"


def test_putting_into_a_directory_keeps_what_is_in_it(modelfs: Run, local_store: Path, tmp_path: Path) -> None:
    for i in range(2):
        (tmp_path / f"run{i}" / "sub").mkdir(parents=True)
        (tmp_path / f"run{i}" / "sub" / f"f{i}").write_text(str(i))
        (tmp_path / "same").unlink(missing_ok=True)
        (tmp_path / "same").symlink_to(tmp_path / f"run{i}")
        modelfs("put", local_store, tmp_path / f"run{i}" / "sub", "all/")
    assert modelfs("ls", local_store, "all", "-R").out.split() == ["sub/", "sub/f0", "sub/f1"]


def test_history(modelfs: Run, local_store: Path, source: Path, tmp_path: Path) -> None:
    modelfs("put", local_store, source / "model.bin", "model.bin", "-m", "first")
    modelfs("tag", local_store, "v1")
    (source / "model.bin").write_bytes(b"new")
    modelfs("put", local_store, source / "model.bin", "model.bin", "-m", "second")
    modelfs("put", local_store, source / "deep/small", "other")
    log = modelfs("log", local_store, "--json").json
    assert [c["number"] for c in log] == [4, 3, 2, 1]
    assert [c["message"] for c in log][1:3] == ["second", "first"]
    assert [log[i]["parent"] for i in range(3)] == [log[i + 1]["id"] for i in range(3)]
    assert [c["number"] for c in modelfs("log", local_store, "model.bin", "--json").json] == [3, 2]
    assert "~ model.bin" in modelfs("log", local_store, "--changes", "-n", 2).out
    refs = [f"{local_store}:v1", f"{local_store}:main@2", f"{local_store}:{log[2]['id'][:10]}"]
    for i, ref in enumerate(refs):
        modelfs("get", ref, "model.bin", tmp_path / f"old{i}")
        assert (tmp_path / f"old{i}").stat().st_size == 11_000_000
    assert modelfs("tag", local_store, "--json").json[0]["number"] == 2
    assert "v1" in modelfs("tag", local_store, "v1", code=2).err, "a tag never moves"


def test_copies_move_no_bytes(modelfs: Run, local_store: Path, source: Path) -> None:
    modelfs("put", local_store, source, "run")
    before = modelfs("du", local_store, "--json").json
    copied = modelfs("cp", local_store, "run", "best", "--json").json
    assert (copied["number"], copied["bytes"]) == (3, before["logical"])
    modelfs("cp", f"{local_store}:main@2", "run/model.bin", "restored/")
    after = modelfs("du", local_store, "--json").json
    assert after["logical"] == 2 * before["logical"] + 11_000_000
    assert (after["unique"], after["store_data"]) == (before["unique"], before["store_data"])
    assert modelfs("ls", local_store, "best").out == modelfs("ls", local_store, "run").out
    assert modelfs("ls", local_store, "restored").out.split() == ["model.bin"]


def test_du_counts_what_is_shared_once(modelfs: Run, local_store: Path, tmp_path: Path) -> None:
    data = os.urandom(30_000_000)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data + b"tail")
    (tmp_path / "text").write_bytes(b"the same words over and over " * 200_000)
    modelfs("put", local_store, "a", "b", "text", "all")
    facts = modelfs("du", local_store, "all", "--json").json
    assert facts["files"] == 3
    assert facts["logical"] == 60_000_004 + 5_800_000
    assert facts["unique"] < 30_000_000 + 9_000_000 + 5_800_000
    assert facts["stored"] < facts["unique"] - 5_000_000
    assert "after deduplication" in modelfs("du", local_store).out


def test_stat(modelfs: Run, local_store: Path, source: Path) -> None:
    modelfs("put", local_store, source, "run")
    facts = modelfs("stat", local_store, "run/model.bin", "--chunks", "--json").json
    assert (facts["kind"], facts["size"], facts["mode"], facts["cached"]) == ("file", 11_000_000, "0640", 0)
    assert sum(piece["length"] for piece in facts["chunk_list"]) == 11_000_000
    assert facts["stored"] == sum(piece["stored"] for piece in facts["chunk_list"])
    assert modelfs("stat", local_store, "run/deep/er/zeros", "--json").json["holes"] == 9_000_000
    text = modelfs("stat", local_store, "run/deep", "--chunks").out
    assert "directory" in text
    assert "has no run/none" in modelfs("stat", local_store, "run/none", code=2).err


def test_listing_shows_what_a_terminal_can_take(modelfs: Run, local_store: Path, tmp_path: Path) -> None:
    name = b"evil\x1b[31m\xff"
    (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    modelfs("put", local_store, tmp_path / os.fsdecode(name), "f/")
    out = modelfs("ls", local_store, "f", "-l").out
    assert "\x1b" not in out
    assert "evil\\x1b[31m\\xff" in out


def test_missing_chunks_fail_loudly_and_leave_no_file(
    modelfs: Run, local_store: Path, source: Path, tmp_path: Path
) -> None:
    modelfs("put", local_store, source / "model.bin", "m")
    victim = next(p for p in (local_store / "data").rglob("*") if p.is_file())
    victim.unlink()
    target = tmp_path / "out"
    assert victim.parent.name + victim.name in modelfs("get", local_store, "m", target, code=1).err
    assert not target.exists()
    assert not list(tmp_path.glob(".out*"))
    assert modelfs("stat", local_store, "m", "--json").json["missing"] == 1


@pytest.mark.parametrize("kind", ["s3", "sftp", "postgresql"])
def test_on_real_servers(modelfs: Run, source: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("s3_bucket") + "/p" if kind == "s3" else request.getfixturevalue(f"{kind}_url")
    modelfs("init", url)
    modelfs("put", url, source, "run")
    modelfs("tag", url, "v1")
    modelfs("get", f"{url}:v1", "run", tmp_path / "back")
    assert _tree(tmp_path / "back") == _tree(source)
    assert modelfs("du", url, "--json").json["logical"] == 20_000_005
    assert modelfs("ls", f"{url}:v1", "run/deep").out.split() == ["er/", "nothing", "small"]
