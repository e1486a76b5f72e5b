"""Whole series of checkpoints from real training, every format, through a mount and back."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from mounting import Machine
from running import runner

TOOL = Path(__file__).parents[2] / "tools" / "make_series.py"


def test_every_series_comes_back_and_costs_less_than_its_files(machine: Machine, tmp_path: Path) -> None:
    source = tmp_path / "series"
    subprocess.run([sys.executable, TOOL, source, "--size", "small"], check=True, timeout=100)
    store = machine.new_store()
    mnt = machine.mount(store)
    shutil.copytree(source, mnt, dirs_exist_ok=True)
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    files = [path for path in source.rglob("*") if path.is_file()]
    assert len(files) > 30
    for path in files:
        assert (again / path.relative_to(source)).read_bytes() == path.read_bytes(), path
    machine.umount(again)
    report = runner(tmp_path)("du", store, "--by", "codec", "--json").json
    assert report["logical"] == sum(path.stat().st_size for path in files)
    assert report["unique"] < 0.9 * report["logical"]
    assert report["stored"] < 0.85 * report["unique"]
    assert report["codecs"]["delta"]["chunks"] > 10
