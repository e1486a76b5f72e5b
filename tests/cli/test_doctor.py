"""modelfs doctor on this machine, made ill in a mount namespace of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from namespaces import unshared
from running import Run

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes root")
COLOUR = re.compile(rb"\x1b\[[0-9;]*\b(3[0-7]|38|9[0-7])[0-9;]*m")


def by_check(found: Any) -> dict[str, list[str]]:
    said: dict[str, list[str]] = {}
    for finding in found:
        said.setdefault(finding["check"], []).append(finding["level"])
    return said


def test_a_sound_machine_and_store(modelfs: Run, local_store: Path) -> None:
    found = modelfs("doctor", local_store, "--json").json
    assert {finding["level"] for finding in found} <= {"ok", "warn"}
    assert all(bool(finding["advice"]) == (finding["level"] == "warn") for finding in found)
    assert {"kernel", "fuse", "memory", "cache", "journal", "latency", "put-if-absent"} <= by_check(found).keys()
    assert [path for path in (local_store / "probe").rglob("*") if path.is_file()] == []
    before = sorted(local_store.rglob("*"))
    assert modelfs("doctor", local_store, "--read-only").out.count("\n") > 10
    assert sorted(local_store.rglob("*")) == before


def test_stores_that_are_none(modelfs: Run, tmp_path: Path) -> None:
    said = by_check(modelfs("doctor", tmp_path / "none", "--json", code=1).json)
    assert said["store"] == ["fail"]
    (tmp_path / "empty").mkdir()
    assert by_check(modelfs("doctor", tmp_path / "empty", "--json").json)["store"] == ["warn"]
    done = modelfs("doctor", f"local://{tmp_path}/empty", code=1)
    assert "--single-writer" in done.out
    assert "1 failure" in done.err
    assert "no mount is named x" in modelfs("doctor", "@x", code=2).err


def test_little_is_allowed(tmp_path: Path) -> None:
    script = f"ulimit -n 256; exec {sys.executable} -m modelfs doctor --json"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert by_check(json.loads(done.stdout))["open files"] == ["warn"]


@needs_root
def test_an_ill_machine(tmp_path: Path) -> None:
    """No /dev/fuse, state and cache on small disks in memory, /sys that cannot be written."""
    for name in ("dev", "state", "cache", "sys"):
        (tmp_path / name).mkdir()
    script = f"""
    mount -t tmpfs -o size=200M tmpfs {tmp_path}/state && mount -t tmpfs -o size=2G tmpfs {tmp_path}/cache
    mount --bind {tmp_path}/sys /sys/class && mount --bind {tmp_path}/dev /dev
    exec {sys.executable} -m modelfs doctor --json --cache-dir {tmp_path}/cache/deep/below
    """
    environment = {**os.environ, "XDG_STATE_HOME": f"{tmp_path}/state", "PATH": os.environ["PATH"]}
    command = unshared("sh", "-c", script)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 1, done.stderr
    said = by_check(json.loads(done.stdout))
    assert (said["fuse"], said["read-ahead"]) == (["fail"], ["warn"])
    assert said["journal"][:2] == ["fail", "warn"]  # hardly any room, and in memory
    assert said["cache"] == ["ok"] * 4
    assert list((tmp_path / "cache").iterdir()) == []


def on_a_terminal(**environment: str) -> bytes:
    """What the doctor prints to a terminal of a store that is not there, whatever else ails the machine."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "modelfs", "doctor", "/nowhere/at/all"]
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    with subprocess.Popen(
        command, stdout=theirs, stderr=theirs, env={**clean, "TERM": "xterm", **environment}
    ) as running:
        os.close(theirs)
        said = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # EIO: the other end is closed
                break
            if not more:
                break
            said += more
        running.wait(60)
    os.close(ours)
    return said


def test_colours_stay_away_when_nobody_wants_them() -> None:
    assert COLOUR.search(on_a_terminal())
    assert not COLOUR.search(on_a_terminal(NO_COLOR="1"))
    assert b"\x1b" not in on_a_terminal(TERM="dumb")
