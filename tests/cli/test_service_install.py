"""modelfs service install: what it writes, keeps and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import Run


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Installed scripts."""
    (tmp_path / "bin").mkdir()
    for name in ("modelfs", "mount.modelfs"):
        (tmp_path / "bin" / name).touch(mode=0o755)
    return tmp_path / "bin" / "modelfs"


def test_units_follow_and_what_is_the_operators_stays(modelfs: Run, tmp_path: Path, program: Path) -> None:
    words = (
        "service",
        "install",
        "team",
        "--root",
        tmp_path / "root",
        "--program",
        program,
        "--mount-helper",
        "--json",
    )
    first = modelfs(*words).json
    assert {one["done"] for one in first} == {"written"}
    unit = tmp_path / "root/etc/systemd/system/modelfs@.service"
    assert f"\nExecStart={program} mount --foreground" in unit.read_text()
    assert (tmp_path / "root/sbin/mount.modelfs").readlink() == program.with_name("mount.modelfs")
    described = tmp_path / "root/etc/modelfs/team.toml"
    described.write_text("# mine\n")
    unit.write_text("old")
    again = {Path(one["file"]).name: one["done"] for one in modelfs(*words).json}
    assert (again["team.toml"], again["modelfs@.service"], again["mount.modelfs"]) == ("kept", "written", "unchanged")
    assert described.read_text() == "# mine\n"
    assert not list((tmp_path / "root").rglob(".*"))


def test_what_is_refused(modelfs: Run, tmp_path: Path, program: Path) -> None:
    root = ("--root", tmp_path / "root", "--program", program)
    assert "no name of a mount" in modelfs("service", "install", "a/b", *root, code=2).err
    assert "whole machine" in modelfs("service", "install", "a", "--user", "--mount-helper", *root, code=2).err
    (tmp_path / "root" / "sbin").mkdir(parents=True)
    (tmp_path / "root" / "sbin" / "mount.modelfs").touch()
    assert "not a link of ours" in modelfs("service", "install", "a", "--mount-helper", *root, code=2).err
    program.with_name("mount.modelfs").unlink()
    assert "there is no" in modelfs("service", "install", "a", "--mount-helper", *root, code=2).err
