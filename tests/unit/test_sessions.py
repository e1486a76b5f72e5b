"""Which session a mount gets, and why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelfs.errors import UsageError
from modelfs.fuse import device
from modelfs.fuse.session import choose


@pytest.mark.parametrize("wanted", ["auto", "native", "pyfuse3"])
@pytest.mark.parametrize("obstacle", ["", "Linux 6.1 has no passthrough"])
@pytest.mark.parametrize("read_only", [False, True])
def test_who_may_mount(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: str, obstacle: str, read_only: bool
) -> None:
    monkeypatch.setattr(device, "may_mount", lambda: "")
    monkeypatch.setattr(device, "probe", lambda directory: obstacle)
    found = choose(wanted, tmp_path, read_only=read_only)
    by_itself = read_only and not obstacle  # what is written goes faster through libfuse's session
    assert found.name == {"auto": "native" if by_itself else "pyfuse3"}.get(wanted, wanted)
    assert found.passthrough == (found.name == "native" and not obstacle)
    assert obstacle in found.why or wanted == "pyfuse3"


def test_who_may_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "may_mount", lambda: "it takes root")
    for wanted in ("auto", "pyfuse3"):
        found = choose(wanted, tmp_path, read_only=True)
        assert (found.name, found.passthrough) == ("pyfuse3", False)
    with pytest.raises(UsageError, match="--session native: it takes root"):
        choose("native", tmp_path, read_only=False)


def test_a_probe_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    assert device.probe(tmp_path / "missing")
    assert device.probe(tmp_path) == device.probe(tmp_path)
    assert set(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []


def test_an_old_kernel_is_known_by_its_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "may_mount", lambda: "")
    facts = list(os.uname())
    facts[2] = "6.8.0-45-generic"
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(facts))
    assert device.probe(tmp_path) == "Linux 6.8.0-45-generic has no passthrough, which came with 6.9"
