"""README has what a newcomer needs, and the script that walks his path takes it from there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import newcomer
import pytest
from docshell import blocks, lines

README = Path(__file__).parents[2] / "README.md"


def test_readme_has_the_two_commands() -> None:
    [block] = [block for block in blocks(README) if block.section == "Two commands"]
    assert [line.split()[:2] for line in lines(block.shell)] == [["make", "demo"], ["make", "test"]]


def test_the_quick_start_goes_from_nothing_to_an_unmounted_store() -> None:
    stages = [
        "install-deps.sh",
        "pip install",
        "modelfs init",
        "modelfs mount",
        ".savez(",
        ".load(",
        "modelfs cache warm",
        "modelfs status",
        "modelfs umount",
    ]
    commands = iter(newcomer.steps(README))
    for stage in stages:
        assert any(stage in command for command in commands), stage


def test_a_readme_without_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A project\n")
    with pytest.raises(ValueError, match="no commands"):
        newcomer.steps(tmp_path / "README.md")


def test_steps_are_timed_in_one_shell_until_one_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    commands = ["kept=1", 'test "$kept" = 1 && echo "$HOME"', "exit 3", "touch after"]
    code, took = newcomer.walk(commands, tmp_path, tmp_path / "home")
    assert (code, len(took)) == (3, 2)
    assert f"{tmp_path}/home\n" in capfd.readouterr().out
    assert not (tmp_path / "after").exists()


def test_the_clone_is_what_git_has(tmp_path: Path) -> None:
    newcomer.clone(tmp_path / "clone", tree=True)
    assert (tmp_path / "clone" / "README.md").read_text() == README.read_text()
    listed = subprocess.run(
        ["git", "-C", str(tmp_path / "clone"), "status", "--porcelain", "--ignored"], stdout=subprocess.PIPE, check=True
    )
    assert b"!!" not in listed.stdout
