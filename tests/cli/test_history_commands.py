"""gc, branch, undelete, tag -d, and what log and others say of a history that was collected."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from running import Result, Run

from modelfs.cli.app import main


@pytest.fixture
def modelfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run commands in this process: there are many, and starting one takes longer than what it does."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))

    def run(*arguments: object, code: int = 0) -> Result:
        monkeypatch.setattr(sys, "argv", ["modelfs", *map(str, arguments)])
        capsys.readouterr()
        got = 0
        try:
            main()
        except SystemExit as end:
            got = int(end.code or 0)
        out, err = capsys.readouterr()
        assert got == code, f"{arguments}: {out}{err}"
        return Result(got, out, err)

    return run


def put(modelfs: Run, store: Path, content: bytes, name: str, *more: object) -> int:
    """Save a file; number of the commit."""
    source = store.parent / "source"
    source.write_bytes(content)
    number: int = modelfs("put", store, source, name, "--json", *more).json["number"]
    return number


def chunks(store: Path) -> int:
    return sum(1 for path in (store / "data").rglob("*") if path.is_file())


def big(byte: int) -> bytes:
    return os.urandom(16) + bytes((byte,)) * 20_000


def gc(modelfs: Run, store: Path, *options: object) -> dict[str, int]:
    """A run that does not wait: nobody else writes."""
    time.sleep(0.01)  # times of files are finer than that, and what is older than no time at all is old
    report: dict[str, int] = modelfs("gc", store, "--grace", "0s", "--exclusive", "--json", *options).json
    return report


def test_gc_from_the_command_line(modelfs: Run, local_store: Path, tmp_path: Path) -> None:
    for i in range(4):
        put(modelfs, local_store, big(i), "f")
    assert chunks(local_store) == 4
    out = modelfs("gc", local_store, "--keep-last", "1", "--dry-run").out
    assert "dropped" in out
    assert "would be condemned" in out
    assert gc(modelfs, local_store)["unreached"] == 0, "all history is kept"
    assert gc(modelfs, local_store, "--keep-last", "2")["condemned"] > 0
    report = gc(modelfs, local_store, "--keep-last", "2")
    assert report["commits_deleted"] == 3
    assert chunks(local_store) == 2
    log = modelfs("log", local_store)
    assert [line.split()[0] for line in log.out.splitlines()[1:]] == ["main@5", "main@4"]
    assert "history before commit main@4 was collected" in log.err
    assert "collected" not in modelfs("log", local_store, "-n", "1").err
    assert "main@2" in (line := modelfs("ls", f"{local_store}:main@2", code=2).err)
    assert "was collected: the retention dropped it" in line
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    assert "was collected" in modelfs("mount", local_store, mountpoint, "--at", "main@2", code=2).err
    assert put(modelfs, local_store, big(9), "g") == 6
    out = modelfs("gc", local_store).out
    assert "0 dropped" in out
    changes = modelfs("log", local_store, "--changes").out
    assert "+ f" in changes.split("main@4")[1], "the oldest commit that is kept shows all that it holds"
    assert len(modelfs("log", local_store, "f", "--json").json) == 2


def test_commits_in_between_are_counted(modelfs: Run, local_store: Path) -> None:
    for i in range(4):
        put(modelfs, local_store, big(i), "f")
    modelfs("tag", local_store, "second", "main@2")
    for _ in range(2):
        gc(modelfs, local_store, "--keep-last", "1")
    err = modelfs("log", local_store).err
    assert "history before commit main@2 was collected; 2 commits of main in between were collected" in err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--keep-last", "0"], "--keep-last"),
        (["--keep-daily", "x"], "--keep-daily"),
        (["--keep-within", "soon"], "not a duration: 'soon'"),
        (["--grace", "-1h"], "not a duration"),
        (["--grace", "1m"], "600 s at least, or --exclusive"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_gc_with_wrong_arguments(modelfs: Run, local_store: Path, options: list[str], line: str) -> None:
    err = modelfs("gc", local_store, *options, code=2).err
    assert line in err
    assert err.count("\n") == 1
    assert not (local_store / "gc").exists()


def test_gc_of_no_store_and_of_a_damaged_one(modelfs: Run, local_store: Path, tmp_path: Path) -> None:
    assert "no such directory" in modelfs("gc", tmp_path / "none", code=2).err
    put(modelfs, local_store, big(1), "f")
    for path in (local_store / "meta").rglob("*"):
        if path.is_file():
            path.write_bytes(b"\0damaged")
    err = modelfs("gc", local_store, code=1).err
    assert "nothing was condemned or deleted, main@2 cannot be read" in err
    assert err.count("\n") == 1


def test_a_second_gc_is_refused_while_one_runs(modelfs: Run, local_store: Path) -> None:
    from modelfs.repository.gcowner import Ownership
    from modelfs.store.clock import Clock, store_time
    from modelfs.store.open import open_store

    store = open_store(str(local_store))
    owner = Ownership.take(store, 86400, store_time(store), exclusive=False, clock=Clock())
    assert "is being collected by" in modelfs("gc", local_store, code=2).err
    owner.end()
    modelfs("gc", local_store)


def test_branches(modelfs: Run, local_store: Path) -> None:
    put(modelfs, local_store, big(1), "f")
    assert "begins at main@2" in modelfs("branch", "create", local_store, "dev").out
    assert put(modelfs, local_store, big(2), "g", "--branch", "dev") == 2
    assert "already" in modelfs("branch", "create", local_store, "dev", code=2).err
    assert "not a branch or tag name" in modelfs("branch", "create", local_store, "a/b", code=2).err
    assert "v9" in modelfs("branch", "create", local_store, "x", "v9", code=2).err
    modelfs("tag", local_store, "t")
    assert "name of a tag" in modelfs("branch", "create", local_store, "t", code=2).err
    rows = modelfs("branch", "ls", local_store, "--json").json
    assert [(row["name"], row["number"]) for row in rows] == [("dev", 2), ("main", 2)]
    assert modelfs("branch", "ls", local_store).out.split()[4:6] == ["dev", "2"]
    assert "newest state is dev@2" in modelfs("branch", "rm", local_store, "dev").out
    assert "no branch 'dev'" in modelfs("branch", "rm", local_store, "dev", code=2).err
    assert "was deleted" in modelfs("ls", f"{local_store}:dev", code=2).err
    assert (
        "was deleted" in modelfs("put", local_store, local_store.parent / "source", "x", "--branch", "dev", code=2).err
    )
    assert modelfs("ls", f"{local_store}:dev@2").out.split() == ["f", "g"]
    assert modelfs("branch", "create", local_store, "dev", "dev@2", "--json").json["number"] == 4
    assert modelfs("ls", f"{local_store}:dev").out.split() == ["f", "g"]
    modelfs("branch", "rm", local_store, "dev")
    assert "--force" in modelfs("branch", "rm", local_store, "main", code=2).err
    assert modelfs("branch", "rm", local_store, "main", "--force", "--json").json == {"name": "main", "last": 2}
    assert "was deleted" in modelfs("ls", local_store, code=2).err
    for _ in range(2):
        gc(modelfs, local_store)
    assert chunks(local_store) == 1, "the tag keeps its commit"
    modelfs("tag", "-d", local_store, "t")
    for _ in range(2):
        gc(modelfs, local_store)
    assert chunks(local_store) == 0


def test_the_only_branch_is_not_deleted_by_mistake(modelfs: Run, local_store: Path) -> None:
    modelfs("branch", "create", local_store, "dev")
    modelfs("branch", "rm", local_store, "main", "--force")
    assert "only branch" in modelfs("branch", "rm", local_store, "dev", code=2).err


def test_tags_are_deleted(modelfs: Run, local_store: Path) -> None:
    modelfs("tag", local_store, "v1")
    assert "no tag 'v2'" in modelfs("tag", "-d", local_store, "v2", code=2).err
    assert "one NAME" in modelfs("tag", "-d", local_store, code=2).err
    assert modelfs("tag", "-d", local_store, "v1").out == "v1 was main@1\n"
    put(modelfs, local_store, big(1), "f")
    assert modelfs("tag", local_store, "v1", "--json").json["number"] == 2


def test_undelete(modelfs: Run, local_store: Path, tmp_path: Path) -> None:
    first, second = big(1), big(2)
    put(modelfs, local_store, first, "runs/7/model")
    put(modelfs, local_store, second, "runs/7/model")
    put(modelfs, local_store, b"small", "runs/8/note")
    empty = tmp_path / "empty"
    empty.mkdir()
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    modelfs("mount", local_store, mountpoint)
    try:
        (mountpoint / "runs/7/model").unlink()
        os.rmdir(mountpoint / "runs/7")
        (mountpoint / "runs/8/note").unlink()
    finally:
        modelfs("umount", mountpoint)
    listed = modelfs("undelete", local_store, "--list", "--json").json
    assert {(d["path"], d["kind"], d["last_in"]) for d in listed} >= {("runs/8/note", "file", "main@4")}
    assert any(d["path"].startswith("runs/7") for d in listed)
    assert "runs/8/note" in modelfs("undelete", local_store, "--list", "runs/8").out
    assert "runs/7" not in modelfs("undelete", local_store, "--list", "runs/8").out
    before = chunks(local_store)
    out = modelfs("undelete", local_store, "runs/7").out
    assert "runs/7 is back as of main@" in out
    modelfs("get", local_store, "runs/7/model", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == second
    modelfs("undelete", local_store, "runs/7/model", "--at", "main@2")
    modelfs("get", local_store, "runs/7/model", tmp_path / "older")
    assert (tmp_path / "older").read_bytes() == first
    facts = modelfs("undelete", local_store, "runs/8/note", "--to", "kept/note", "--json").json
    assert (facts["files"], facts["bytes"]) == (1, 5)
    assert modelfs("ls", local_store, "kept").out.split() == ["note"]
    assert chunks(local_store) == before, "no bytes move"
    assert "is there; --at REF" in modelfs("undelete", local_store, "runs/7", code=2).err
    assert "no commit of main that is kept has nothing" in modelfs("undelete", local_store, "nothing", code=2).err
    assert "say which PATH" in modelfs("undelete", local_store, code=2).err
    assert "--list goes with" in modelfs("undelete", local_store, "--list", "--at", "main@1", code=2).err
    assert "has no runs/9" in modelfs("undelete", local_store, "runs/9", "--at", "main@2", code=2).err
    assert "exists in main" in modelfs("undelete", local_store, "runs/8/note", "--to", "kept/note", code=2).err
    assert "needs a name" in modelfs("undelete", local_store, "runs/8/note", "--to", "/", code=2).err


def test_what_a_dropped_commit_holds_is_brought_back_before_it_goes(
    modelfs: Run, local_store: Path, tmp_path: Path
) -> None:
    old = big(1)
    put(modelfs, local_store, old, "f")
    put(modelfs, local_store, big(2), "f")
    gc(modelfs, local_store, "--keep-last", "1")
    modelfs("undelete", local_store, "f", "--at", "main@2", "--to", "old")
    modelfs("cp", f"{local_store}:main@2", "f", "copy")
    for _ in range(2):
        gc(modelfs, local_store, "--keep-last", "1")
    modelfs("get", local_store, "old", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == old
    assert "was collected" in modelfs("undelete", local_store, "f", "--at", "main@2", code=2).err


def test_an_encrypted_store_is_collected_and_found_whole(modelfs: Run, tmp_path: Path) -> None:
    passphrase, store = tmp_path / "passphrase", tmp_path / "sealed"
    passphrase.write_text("of no use elsewhere\n")
    passphrase.chmod(0o600)
    key = ("--passphrase-file", passphrase)
    modelfs("init", "--encrypt", *key, store)
    for _ in range(2):
        (tmp_path / "file").write_bytes(os.urandom(300_000))
        modelfs("put", *key, store, tmp_path / "file", "file")
    ended = ("--keep-last", 1, "--grace", "1s", "--exclusive", "--json")
    deleted = []
    for _ in range(2):  # one run condemns what is older than the grace period, the next deletes it after another
        time.sleep(1.5)
        deleted.append(modelfs("gc", *key, store, *ended).json["deleted"])
    assert deleted[0] == 0 < deleted[1]
    found = modelfs("fsck", *key, store, "--read-data", "--json").json
    assert (found["clean"], found["chunks"]) == (True, 1)
    modelfs("get", *key, store, "file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()
