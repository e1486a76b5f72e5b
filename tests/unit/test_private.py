"""Directories of this user alone, and processes that hold a key."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from modelfs.crypto.signing import SigningKey
from modelfs.private import private_directory


def modes(top: Path, below: Path) -> list[int]:
    """Of every directory between."""
    return [stat.S_IMODE(p.stat().st_mode) for p in (below, *below.parents) if top in p.parents]


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_all_that_is_made_is_private(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        private_directory(tmp_path / "a" / "b" / "c")
        private_directory(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert modes(tmp_path, tmp_path / "a" / "b" / "c") == [0o700] * 3


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o755)
    private_directory(tmp_path / "shared" / "mine")
    assert modes(tmp_path, tmp_path / "shared" / "mine") == [0o700, 0o755]


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        private_directory(tmp_path / "file" / "below")


_DIE = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
from pathlib import Path
from modelfs.repository import keyfiles
{what}
os.abort()
"""
_KEYS = {
    "passphrase": "keyfiles.read_passphrase(Path('words'))",
    "printed": "keyfiles.passphrase(b'canary', 'a command')",
    "key": "keyfiles.read_key(Path('raw'))",
    "signing": "keyfiles.read_signing_key(Path('sign'))",
}


def dies(directory: Path, what: str) -> bool:
    """True when a process that did this and aborted left a core."""

    def unlimited() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    child = subprocess.Popen([sys.executable, "-c", _DIE.format(what=what)], cwd=directory, preexec_fn=unlimited)
    _, status = os.waitpid(child.pid, 0)
    child.returncode = 0
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGABRT
    return os.WCOREDUMP(status)


def test_a_process_that_has_read_a_key_leaves_no_core(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("canary of a passphrase\n")
    (tmp_path / "raw").write_bytes(bytes(32))
    (tmp_path / "sign").write_text(SigningKey.new().text())
    (tmp_path / "sign").chmod(0o600)
    if os.geteuid() != 0 or not dies(tmp_path, "pass"):
        pytest.skip("this machine writes no core files to begin with")
    for name, what in _KEYS.items():
        assert not dies(tmp_path, what), name
