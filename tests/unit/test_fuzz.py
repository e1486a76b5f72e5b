"""Every decoder over some thousand inputs (`make fuzz` runs a million), and over those that once failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz import mutate, runner
from fuzz.bombs import BOMBS
from fuzz.mutate import Inputs
from fuzz.runner import fuzz, replay
from fuzz.targets import CORPUS, Target, table

from modelfs.formats import detect
from modelfs.formats.layout import Growing

TARGETS = table()
KEPT = sorted(path for path in CORPUS.glob("*/*") if path.parent.name != "formats")


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_does_harm(name: str) -> None:
    assert not [found.what for found in fuzz(TARGETS[name], 250, seed=5)]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_inputs_that_once_failed(path: Path) -> None:
    found = replay(TARGETS[path.parent.name], path.read_bytes())
    assert found is None, found.what


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_that_ask_for_much(name: str) -> None:
    target, make = BOMBS[name]
    found = replay(TARGETS[target], make())
    assert found is None, found.what


def test_a_growing_file_that_leads_in_circles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    data = (CORPUS / "formats" / "zip-torch").read_bytes()
    for steps, understood in ((1000, True), (3, False)):
        monkeypatch.setattr("modelfs.limits.LAYOUT_STEPS_MAX", steps)
        growing = Growing(detect.parse(None))
        while (want := growing.want) is not None and want.offset < len(data):
            growing.feed(data[want.offset : want.offset + want.length])
        assert (growing.want is not None) is understood  # the archive may go on
        assert growing.told is not understood or growing.layout is not None


def test_every_decoder_takes_its_own_seeds() -> None:
    """A target whose seeds are all refused tests nothing behind the first check."""
    for target in TARGETS.values():
        taken = 0
        for seed in target.all_seeds():
            try:
                target.run(seed)
                taken += 1
            except target.allowed:
                continue
        assert taken, target.name


def test_inputs_are_the_same_for_a_number_and_differ_between_numbers() -> None:
    def some(number: int) -> list[bytes]:
        inputs = Inputs([b"seed", b"\x92\x00\x90"], (mutate.blind, mutate.msgpack, mutate.pickle), number, "x")
        return [inputs.take() for _ in range(200)]

    assert some(1) == some(1)
    assert some(1) != some(2)
    assert len(set(some(1))) > 100


def test_what_a_target_does_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "HANG", 0.05)

    def wrong(data: bytes) -> None:
        if data == b"raise":
            raise KeyError("x")
        if data == b"hang":
            while True:
                pass
        if data == b"grow":
            bytearray(2 << 20)
        if data == b"refuse":
            raise ValueError("as it should")

    target = Target("wrong", wrong, (b"raise", b"hang", b"grow", b"refuse", b"fine"), memory=1 << 20)
    found = [replay(target, data) for data in target.seeds]
    assert [f.what.split()[0] if f else None for f in found] == ["KeyError:", "takes", "takes", None, None]
    assert {f.data for f in fuzz(target, 5, 0)} >= {b"raise", b"hang"}
