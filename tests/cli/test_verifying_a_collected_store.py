"""A signed store, plain and encrypted, before and after collections: what each command says to who verifies."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from mounting import Machine
from running import Run


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_history_that_a_collection_cut(modelfs: Run, machine: Machine, tmp_path: Path, encrypted: bool) -> None:
    """main@1 and @2 are unsigned, and @2 is tagged; @3 and later are signed."""
    store, secret = tmp_path / "a-store", tmp_path / "raw.key"
    secret.write_bytes(os.urandom(32))
    given = ("--key-file", secret) if encrypted else ()
    modelfs("init", store, *(("--encrypt", *given) if encrypted else ()))
    public = modelfs("key", "sign-init", tmp_path / "sign.key").out.split()[-1]
    signing = (*given, "--sign-with", tmp_path / "sign.key")
    verifying = (*given, "--verify-with", public)

    def put(content: bytes, name: str, *options: object) -> None:
        (tmp_path / "source").write_bytes(content)
        modelfs("put", store, tmp_path / "source", name, *options)

    put(b"old" * 10_000, "old", *given)
    modelfs("tag", store, "v2", *given)
    put(b"new" * 10_000, "f", *signing)
    put(b"newer" * 10_000, "f", *signing)
    assert [c["number"] for c in modelfs("log", store, "--json", *verifying).json] == [4, 3, 2, 1]
    for _ in range(2):
        time.sleep(0.02)
        modelfs("gc", store, "--keep-last", 1, "--grace", "0s", "--exclusive", *given)

    log = modelfs("log", store, "--changes", *verifying)
    assert [line.split()[0] for line in log.out.splitlines() if line.startswith("main")] == ["main@4"]
    assert "nothing before this can be verified" in log.err
    assert "main@2" in log.err
    assert [c["number"] for c in modelfs("log", store, "--json", *given).json] == [4, 2]
    assert "is not signed" in modelfs("ls", f"{store}:v2", *verifying, code=2).err
    assert "may have vouched" in modelfs("undelete", store, "gone", *signing, *verifying[-2:], code=2).err
    assert "can be verified" in modelfs("undelete", store, "--list", *verifying).err
    checked = modelfs("fsck", store, "--read-data", "--json", *verifying).json
    assert (checked["clean"], checked["commits"], checked["unvouched"]) == (True, 2, 1)
    assert "not verified" in (shown := modelfs("fsck", store, *verifying).out)
    assert "1 old commit: unsigned" in shown

    mountpoint = machine.directory / "mnt"
    mountpoint.mkdir()
    refused = modelfs("mount", store, mountpoint, "--at", "v2", *verifying, code=2).err
    assert "is not signed" in refused
    modelfs("mount", store, mountpoint, *verifying, *signing[len(given) :])
    machine._mounted[mountpoint] = machine.pid(mountpoint)
    assert (mountpoint / "f").read_bytes() == b"newer" * 10_000
    (mountpoint / "g").write_bytes(b"written")
    modelfs("umount", mountpoint)
    machine._mounted.clear()
    modelfs("undelete", store, "old", "--at", "v2", "--to", "old-again", *signing)
    assert modelfs("ls", store, *verifying).out.split() == ["f", "g", "old", "old-again"]
