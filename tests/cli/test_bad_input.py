"""What a user can get wrong: one clear line on standard error, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import Machine
from namespaces import unshared
from running import Run, runner

from modelfs.fuse.mountpoint import mount_table


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    """An empty directory."""
    path = tmp_path / "mnt"
    path.mkdir()
    return path


@pytest.fixture
def refused(modelfs: Run, mountpoint: Path):  # type: ignore[no-untyped-def]
    """Run a command that must be refused; returns its one line."""

    def run(*arguments: object) -> str:
        err = modelfs(*arguments, code=2).err
        assert err.startswith("modelfs: ")
        assert err.count("\n") == 1, err
        assert not any(entry.path == str(mountpoint) for entry in mount_table())
        return err

    return run


def test_no_store_there(refused, tmp_path: Path, mountpoint: Path) -> None:  # type: ignore[no-untyped-def]
    assert "no such directory" in refused("mount", tmp_path / "none", mountpoint)
    (tmp_path / "other").mkdir()
    assert "no modelfs store" in refused("mount", tmp_path / "other", mountpoint)
    assert "no modelfs store" in refused("ls", tmp_path / "other")
    (tmp_path / "other" / "format.json").write_text("{}")
    assert "not modelfs's" in refused("mount", tmp_path / "other", mountpoint)


def test_format_from_the_future(refused, local_store: Path, mountpoint: Path) -> None:  # type: ignore[no-untyped-def]
    path = local_store / "format.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    assert "format version 2" in refused("mount", local_store, mountpoint)


def test_mount_points(refused, modelfs: Run, local_store: Path, tmp_path: Path, machine: Machine) -> None:  # type: ignore[no-untyped-def]
    assert "does not exist" in refused("mount", local_store, tmp_path / "missing")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "not empty" in refused("mount", local_store, tmp_path / "full")
    (tmp_path / "plain").touch()
    assert "not a directory" in refused("mount", local_store, tmp_path / "plain")
    mounted = machine.mount(str(local_store))
    assert "mounted already" in refused("mount", local_store, mounted)
    assert "not a modelfs mount" in refused("umount", tmp_path / "full")
    assert "not a modelfs mount" in refused("status", tmp_path / "full")


def test_unknown_refs_and_branches(refused, local_store: Path, mountpoint: Path) -> None:  # type: ignore[no-untyped-def]
    assert "branches main" in refused("mount", local_store, mountpoint, "--at", "v9")
    assert "no branch 'dev'" in refused("mount", local_store, mountpoint, "--branch", "dev")
    assert "v9" in refused("ls", f"{local_store}:v9")
    assert "v9" in refused("tag", local_store, "name", "v9")
    assert "not a branch or tag name" in refused("tag", local_store, "a/b")


@pytest.fixture
def silent() -> Iterator[str]:
    """An endpoint that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_unreachable_endpoints(refused, silent: str, mountpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert "does not answer" in refused("mount", f"s3://b/p?endpoint={silent}&region=x", mountpoint)
    assert "cannot reach" in refused("ls", "s3://b/p?endpoint=http://127.0.0.1:1&region=x")
    assert "cannot reach" in refused("init", "sftp://127.0.0.1:1/x")


def test_wrong_credentials(refused, s3_bucket: str, mountpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    line = refused("mount", s3_bucket, mountpoint)
    assert "refuses these credentials" in line
    assert "hunter2" not in line


def test_credentials_do_not_reach_logs(modelfs: Run, s3_bucket: str, mountpoint: Path, tmp_path: Path) -> None:
    modelfs("init", s3_bucket)
    modelfs("mount", s3_bucket, mountpoint, "--debug", "--log-file", tmp_path / "log")
    try:
        (mountpoint / "f").write_bytes(os.urandom(1 << 20))
    finally:
        modelfs("umount", mountpoint)
    log = (tmp_path / "log").read_text()
    assert "is mounted at" in log
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in log


def test_no_fusermount_no_device(refused, tmp_path: Path, local_store: Path, mountpoint: Path) -> None:  # type: ignore[no-untyped-def]
    """A machine without FUSE: no fusermount3 in PATH, or /dev/fuse hidden by a mount namespace of our own."""
    (tmp_path / "bin").mkdir()
    old = os.environ["PATH"]
    os.environ["PATH"] = str(tmp_path / "bin")
    try:
        assert "fusermount3 is not installed" in refused("mount", local_store, mountpoint)
    finally:
        os.environ["PATH"] = old


@pytest.mark.skipif(os.geteuid() != 0, reason="hiding /dev/fuse takes root")
def test_no_dev_fuse(tmp_path: Path, local_store: Path, mountpoint: Path) -> None:
    import subprocess

    (tmp_path / "dev").mkdir()
    command = f"mount --bind {tmp_path / 'dev'} /dev && {sys.executable} -m modelfs mount {local_store} {mountpoint}"
    done = subprocess.run(unshared("sh", "-c", command), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert "there is no /dev/fuse" in done.stderr
    assert done.stderr.count("\n") == 1


def test_cache_directories(refused, modelfs: Run, local_store: Path, tmp_path: Path, mountpoint: Path) -> None:  # type: ignore[no-untyped-def]
    mount = ("mount", local_store, mountpoint, "--cache-dir")
    (tmp_path / "file").touch()
    assert "not writable" in refused(*mount, tmp_path / "file")
    assert "smaller than one chunk" in refused(*mount, tmp_path / "c", "--cache-size", "1MB")
    assert "not a size" in refused(*mount, tmp_path / "c", "--cache-size", "lots")
    modelfs("init", tmp_path / "other")
    modelfs("mount", tmp_path / "other", mountpoint, "--cache-dir", tmp_path / "other-cache")
    modelfs("umount", mountpoint)
    assert "belongs to another store" in refused(*mount, tmp_path / "other-cache")
    assert "not a cache directory" in refused("cache", "stats", "--cache-dir", tmp_path / "other")


def test_stores_are_not_made_over_something_else(refused, local_store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert "already" in refused("init", local_store)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.tex").touch()
    assert "not empty" in refused("init", tmp_path / "docs")
    assert sorted(os.listdir(tmp_path / "docs")) == ["thesis.tex"]


def test_arguments(refused, modelfs: Run, local_store: Path, mountpoint: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert "no-such" in refused("no-such")
    assert "unknown mount option" in refused("mount", local_store, mountpoint, "-o", "frobnicate")
    assert "octal" in refused("mount", local_store, mountpoint, "--umask", "9")
    assert "history" in refused("mount", local_store, mountpoint, "--at", "main@1", "--write-back")
    assert "-o uid: a whole number is expected" in refused("mount", local_store, mountpoint, "-o", "uid=me")
    assert "no `..`" in refused("get", local_store, "../x", tmp_path)
    assert "No such file" in refused("put", local_store, tmp_path / "none", "x")
    assert "nosuch:// is no kind" in refused("ls", "nosuch://x/y")
    assert "Commands:" in modelfs("--help").out


def test_every_command_has_help_with_an_example(modelfs: Run) -> None:
    from modelfs.cli.app import COMMANDS

    for name in COMMANDS:
        assert f"modelfs {name} " in modelfs(name, "--help").out


def test_wrong_umask_of_the_runner_is_not_our_business(tmp_path: Path) -> None:
    """A closed pipe ends a listing without a word."""
    run = runner(tmp_path)
    run("init", tmp_path / "s")
    import subprocess

    line = f"{sys.executable} -m modelfs --help | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
