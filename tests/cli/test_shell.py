"""Completion in the shells that are here, and man pages as man reads them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import Run

from modelfs.cli.app import COMMANDS
from modelfs.settings.options import OPTIONS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def in_bash(modelfs: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """What bash offers for the words of a line, the last of which is being typed."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    program = tmp_path / "bin" / "modelfs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m modelfs "$@"\n')
    program.chmod(0o755)
    (tmp_path / "completion").write_text(modelfs("completion", "bash").out)

    def offered(*words: str) -> list[str]:
        listed = " ".join(f"'{word}'" for word in words)
        script = f"""
        . {tmp_path}/completion
        COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}
        _modelfs_completion {program}
        printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True)
        # `compopt` works only while somebody types.
        assert all("compopt" in line for line in done.stderr.splitlines()), done.stderr
        return done.stdout.split()

    return offered


def test_bash_completes_commands_options_choices_and_names(in_bash, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "config" / "modelfs").mkdir(parents=True)
    (tmp_path / "config" / "modelfs" / "team-a.toml").touch()
    assert in_bash("modelfs", "") == list(COMMANDS)
    assert in_bash("modelfs", "um") == ["umount"]
    assert in_bash("modelfs", "--ver") == ["--version"]
    assert in_bash("modelfs", "config", "") == ["check", "show"]
    assert in_bash("modelfs", "mount", "--compression", "") == list(OPTIONS["compression"].choices)
    assert in_bash("modelfs", "mount", "--cache-s") == ["--cache-size"]
    assert in_bash("modelfs", "config", "show", "te") == ["team-a"]
    assert "team-a" in in_bash("modelfs", "mount", "te")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_is_printed_is_a_script_of_the_shell(modelfs: Run, tmp_path: Path, shell: str) -> None:
    script = modelfs("completion", shell).out
    assert f"_MODELFS_COMPLETE={shell}_complete" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script)
    subprocess.run([shell, "-n", str(tmp_path / "script")], timeout=60, check=True)


def test_other_shells_are_refused(modelfs: Run) -> None:
    assert "'tcsh' is not one of" in modelfs("completion", "tcsh", code=2).err


def test_man_pages(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "manpages.py", tmp_path], timeout=60, check=True, cwd=ROOT)
    names = {page.name for page in tmp_path.iterdir()}
    assert {f"modelfs-{name}.1" for name in COMMANDS} | {"modelfs.1", "modelfs.toml.5", "mount.modelfs.8"} <= names
    assert {"modelfs-config-show.1", "modelfs-service-install.1", "modelfs-journal-retry.1"} <= names
    raw = (tmp_path / "modelfs-mount.1").read_text()
    assert all(f".B {option.flag}".replace("-", "\\-") in raw for option in OPTIONS.values() if option.key == "refresh")
    keys = (tmp_path / "modelfs.toml.5").read_text()
    assert all(f".B {option.key}\n".replace("-", "\\-") in keys for option in OPTIONS.values())
    if shutil.which("man") is None:
        pytest.skip("man is not installed, so the pages were not read")
    for page in tmp_path.iterdir():
        done = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", str(page)], capture_output=True, timeout=60, check=True
        )
        assert done.stderr == b"", page
    shown = done.stdout.decode()
    assert "\\" not in shown
