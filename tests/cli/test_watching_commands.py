"""status, top and what a mount says of itself, as people ask for it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mounting import Machine
from running import Run

MIB = 1 << 20


@pytest.fixture
def modelfs(in_process: Run) -> Run:
    return in_process


@pytest.fixture
def mounted(machine: Machine, local_store: Path) -> Path:
    mnt = machine.mount(str(local_store))
    (mnt / "f").write_bytes(os.urandom(2 * MIB))
    return mnt


def test_status_tells_freshness_and_traffic(modelfs: Run, mounted: Path) -> None:
    facts = modelfs("status", mounted, "--json").json
    assert facts == facts | {"commit": 2, "written_bytes": 2 * MIB, "pending_files": 0, "pending_oldest": None}
    assert facts["asked"] >= 0
    assert facts["away"] is None
    assert facts["store_sent_bytes"] > 2 * MIB
    assert set(facts["store_requests"]["put"]["results"]) | {"ok"} == {"ok"}
    with (mounted / "g").open("wb") as file:
        file.write(b"x" * MIB)
        file.flush()
        os.fsync(file.fileno())
        file.write(b"y" * MIB)
        file.flush()
        text = modelfs("status", mounted).out
    assert "the store was asked" in text
    assert "written" in text


def test_status_of_a_dead_mount_fails_as_a_probe_wants_it(modelfs: Run, machine: Machine, mounted: Path) -> None:
    machine.kill(mounted)
    assert "dead" in modelfs("status", mounted, code=1).out
    assert modelfs("status", mounted, "--json", code=1).json["state"] == "dead"
    assert "dead" in modelfs("status").out


def test_top_once(modelfs: Run, mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = modelfs("top", "--once").out
    assert str(mounted) in text
    assert "main@2" in text
    assert "WRITE" in text
    assert "\x1b" not in text
    assert "no terminal" in modelfs("top", code=2).err


def test_top_without_mounts(modelfs: Run) -> None:
    assert modelfs("top", "--once").out.strip() == "nothing is mounted"
    assert "--interval" in modelfs("top", "--interval", "0", code=2).err


@pytest.mark.parametrize("colours", [True, False])
def test_top_lives_on_a_terminal(mounted: Path, monkeypatch: pytest.MonkeyPatch, colours: bool) -> None:
    """A pseudo-terminal: frames follow each other until Ctrl-C; no colours with NO_COLOR."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    if not colours:
        monkeypatch.setenv("NO_COLOR", "1")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "modelfs", "top", "--interval", "0.1"], stdout=theirs, stderr=theirs, stdin=theirs
    )
    os.close(theirs)
    seen = b""
    try:
        while seen.count(b"MOUNTPOINT") < 2:
            seen += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        try:
            while more := os.read(ours, 65536):
                seen += more
        except OSError:
            pass  # a terminal nobody holds any more
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"main@2" in seen
    assert b"Traceback" not in seen
    assert (b"\x1b[1m" in seen) is True  # bold is no colour
    assert not any(b"\x1b[%dm" % code in seen for code in range(30, 38))


def test_metrics_addresses_that_cannot_be(modelfs: Run, local_store: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    err = modelfs("mount", local_store, tmp_path / "empty", "--metrics", "nowhere", code=2).err
    assert "not HOST:PORT" in err
    assert err.count("\n") == 1
    err = modelfs("mount", local_store, tmp_path / "empty", "--metrics", "192.0.2.1:80", code=2).err
    assert "cannot listen there" in err


def test_the_name_of_the_status_directory_is_not_stored(modelfs: Run, local_store: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    assert "shows its own state" in modelfs("put", local_store, tmp_path / "f", ".modelfs", code=2).err
    assert "shows its own state" in modelfs("put", local_store, tmp_path / "f", ".modelfs/f", code=2).err
    modelfs("put", local_store, tmp_path / "f", "dir/.modelfs")
    assert "shows its own state" in modelfs("cp", local_store, "dir", ".modelfs", code=2).err


def test_status_json_is_what_the_file_says(modelfs: Run, mounted: Path) -> None:
    said = json.loads((mounted / ".modelfs" / "status.json").read_text())
    assert said.keys() == modelfs("status", mounted, "--json").json.keys()
