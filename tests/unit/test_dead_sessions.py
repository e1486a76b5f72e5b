"""Whose journal is taken over: that of a daemon which is gone or ending, never that of one which lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelfs import limits
from modelfs.journal.session import Session, dead_sessions
from modelfs.process import alive, ending

# a daemon whose descriptors outlive it: the child stands for the thread that a disk keeps in the kernel
HOLDER = """
import os, sys, time
from pathlib import Path
from modelfs.journal.session import Session
session = Session.begin(Path(sys.argv[1]), "main")
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print("ready", flush=True)
time.sleep(600)
"""


@contextmanager
def holder(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def test_a_live_holder_is_left_alone(tmp_path: Path) -> None:
    own = Session.begin(tmp_path, "main")
    with holder(tmp_path) as process:
        assert alive(process.pid)
        assert not ending(process.pid)
        assert dead_sessions(tmp_path, "main") == []
    own.close(discard_log=True)


def test_a_killed_holder_is_waited_for(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        while alive(process.pid):
            time.sleep(0.005)
        assert ending(process.pid)
        # closes the child's standard input half a second from now, whatever this process waits for
        assert process.stdin is not None
        releaser = subprocess.Popen(["sleep", "0.5"], stdout=process.stdin)
        process.stdin.close()
        [session] = dead_sessions(tmp_path, "main")
        assert releaser.wait() == 0
        session.close(discard_log=True)
    assert dead_sessions(tmp_path, "main") == []


def test_the_wait_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(limits, "DEAD_SESSION_WAIT", 0.1)
    with holder(tmp_path) as process:
        process.kill()
        assert dead_sessions(tmp_path, "main") == []
        assert "is still held" in caplog.text
        assert f"process {process.pid}" in caplog.text


def test_ending() -> None:
    process = subprocess.Popen(["sleep", "600"])
    assert alive(process.pid)
    assert not ending(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    assert ending(process.pid)
    process.wait()
    assert not alive(process.pid)
    assert ending(process.pid)
