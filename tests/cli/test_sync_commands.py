"""sync as people run it: stores beside each other and on an S3 server, mirrors, deaths, and what can be wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from running import Run

# `modelfs` in a process that kills itself at the Nth chunk that it stores.
DYING = """
import os, signal, sys, threading
from modelfs.cli.app import main
from modelfs.store.local import LocalStore
put, left, lock = LocalStore.put, int(sys.argv.pop(1)), threading.Lock()
def dying(self, key, data):
    global left
    with lock:
        left -= key.startswith("data/")
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, key, data)
LocalStore.put = dying
main()
"""


@pytest.fixture
def run(in_process: Run) -> Run:
    return in_process


@pytest.fixture
def source(run: Run, tmp_path: Path) -> Path:
    """A store with two commits and a tag: `a` and `b`, which share all but their ends."""
    shared = os.urandom(20 << 20)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(shared + os.urandom(1 << 20))
    run("init", tmp_path / "source")
    run("put", tmp_path / "source", "a", "runs/a", "-m", "first")
    run("tag", tmp_path / "source", "v1")
    run("put", tmp_path / "source", "b", "runs/b", "-m", "second")
    return tmp_path / "source"


def objects(store: Path, *areas: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for area in areas
        for path in (store / area).rglob("*")
        if path.is_file()
    }


def history(run: Run, store: object) -> list[tuple[str, int, str]]:
    return [(c["message"], c["time_ns"], c["host"]) for c in run("log", store, "--json").json[:-1]]


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_to_another_store(run: Run, source: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    target = tmp_path / "target" if kind == "local" else request.getfixturevalue("s3_bucket") + "/some/where"
    run("init", target)
    shown = run("sync", source, target, "--dry-run", "--json").json
    done = run("sync", source, target, "--json").json
    assert (shown["dry_run"], shown["chunks"], shown["bytes"]) == (True, done["chunks"], done["bytes"])
    assert 20 << 20 < done["bytes"] < 40 << 20, "what both files have moves once"
    assert history(run, target) == history(run, source)
    assert run("tag", target, "--json").json[0]["name"] == "v1"
    run("get", f"{target}:v1", "runs/a", "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "a").read_bytes()
    (tmp_path / "b").write_bytes((tmp_path / "b").read_bytes()[:-1000] + os.urandom(1000))
    run("put", source, "b", "runs/b")
    again = run("sync", source, target, "--json").json
    assert 1 <= again["chunks"] <= 3
    assert run("sync", source, target).out == "nothing to copy\n"
    run("sync", target, source)
    run("fsck", target, "--read-data")
    if kind == "s3":  # and from there
        run("sync", target, tmp_path / "mirror", "--create")
        run("fsck", tmp_path / "mirror", "--read-data")


def test_a_mirror(run: Run, source: Path, tmp_path: Path) -> None:
    run("sync", source, "mirror", "--create")
    mirror = tmp_path / "mirror"
    areas = ("data", "meta", "commits", "tags")
    assert objects(mirror, *areas) == objects(source, *areas)
    assert (mirror / "format.json").read_bytes() == (source / "format.json").read_bytes()
    run("put", source, "a", "again")
    run("sync", source, "mirror")
    assert objects(mirror, *areas) == objects(source, *areas)
    run("sync", source, "late", "--create", "--since", "main@3", "--ref", "main")
    assert [c["number"] for c in run("log", "late", "--json").json] == [4, 3]
    run("fsck", "late", "--read-data")
    assert run("sync", source, "late", "--ref", "main").out == "nothing to copy\n"


def test_stores_with_keys(run: Run, source: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"the passphrase of {name}")
        run("init", f"store-{name}", "--encrypt", "--passphrase-file", name)
    one = ("--passphrase-file", "one")
    assert "--rewrite" in run("sync", source, "store-one", *one, code=2).err
    run("sync", source, "store-one", "--rewrite", *one)
    assert (
        "other keys"
        in run(
            "sync", "store-one", "store-two", "--from-passphrase-file", "one", "--passphrase-file", "two", code=2
        ).err
    )
    both = ("--from-passphrase-file", "one", "--passphrase-file", "two", "--rewrite")
    run("sync", "store-one", "store-two", *both)
    run("get", "store-two", "runs/b", "back", "--passphrase-file", "two")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "b").read_bytes()
    run("sync", "store-one", "sealed-mirror", "--create", *one)
    assert objects(tmp_path / "sealed-mirror", "data").keys() == objects(tmp_path / "store-one", "data").keys()
    run("fsck", "sealed-mirror", "--read-data", *one)
    run("init", "plain")
    assert "is not encrypted" in run("sync", "store-one", "plain", *one, "--rewrite", code=2).err
    run("sync", "store-one", "plain", "--from-passphrase-file", "one", "--rewrite")
    run("fsck", "plain", "--read-data")


def test_another_compression(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"the same words over and over " * 200_000)
    run("init", "loose", "--compression", "none")
    run("init", "tight", "--compression", "small")
    run("put", "loose", "text", "text")
    copied = run("sync", "loose", "tight", "--rewrite", "--json").json
    assert copied["sent"] * 100 < copied["bytes"]
    run("fsck", "tight", "--read-data")
    assert run("sync", "loose", "tight").out == "nothing to copy\n", "the ids are the same"


def test_killed_and_run_again(run: Run, source: Path, tmp_path: Path) -> None:
    run("init", "target")
    for number in (0, 1, 1):  # there are four chunks at least, wherever they end
        died = subprocess.run(
            [sys.executable, "-c", DYING, str(number), "sync", source, "target"], cwd=tmp_path, check=False
        )
        assert died.returncode == -signal.SIGKILL
        assert len(history(run, "target")) == 0
        run("fsck", "target", "--read-data")
    there = len(objects(tmp_path / "target", "data"))
    total = len(objects(source, "data"))
    assert there == 2
    assert run("sync", source, "target", "--json").json["chunks"] == total - there
    assert history(run, "target") == history(run, source)


def test_what_can_be_wrong(run: Run, source: Path, tmp_path: Path) -> None:
    def refused(*arguments: object) -> str:
        err = run("sync", *arguments, code=2).err
        assert err.startswith("modelfs: ")
        assert err.count("\n") == 1, err
        return err

    run("init", "target")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    assert "no modelfs store" in refused("empty", "target")
    refused("empty", "none", "--create")
    assert "no such directory" in refused(source, "none")
    assert not (tmp_path / "none").exists()
    hint = refused(source, "empty")
    assert "modelfs init" in hint
    assert "--create" in hint
    assert "thesis.tex" in refused(source, "full", "--create")
    assert "another store" in refused(source, "target", "--create")
    assert "to itself" in refused(source, source)
    assert "v9" in refused(source, "target", "--ref", "v9")
    assert "tomorrow" in refused(source, "target", "--since", "tomorrow")
    run("sync", source, "target")
    run("put", source, "a", "ours")
    run("put", "target", "a", "theirs")
    assert "has gone another way" in refused(source, "target")
    assert not list((tmp_path / "empty").iterdir())
