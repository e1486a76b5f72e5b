"""One row: its saves and loads on a local disk and on mounts, compared."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from frameworks import calls
from frameworks.environments import TESTS, Built, Environment, RowSpec, UnavailableError, build
from frameworks.place import Place, settle
from frameworks.rowkit import slug

TIMEOUT = 400  # seconds a process of a row may take
CLOSE = 1e-5  # how far predictions may lie apart, relative or absolute: sums of floats in another order

Facts = dict[str, Any]
Say = Callable[[str], None]


@dataclass
class Case:
    """One way of saving, and what came of it. Seconds by where: ``disk save``, ``disk load``, ``mount save`` …"""

    name: str
    calls: str
    verdict: str  # "" when all is well
    seconds: dict[str, float] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0
    stored: int = 0
    operations: str = ""


@dataclass
class Result:
    """A row of the page. ``unavailable`` says why there are no cases."""

    row: str
    framework: str
    version: str = ""
    cases: list[Case] = field(default_factory=list)
    unavailable: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.cases) and not any(case.verdict for case in self.cases)

    def as_json(self) -> Facts:
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Facts) -> Result:
        return cls(**{**facts, "cases": [Case(**case) for case in facts["cases"]]})


class FailedError(Exception):
    """A process of a row that gave no answer."""


def run(spec: RowSpec, environments: dict[str, Environment], cache: Path, place: Place, say: Say) -> Result:
    """Everything of one row, in the environment that it names."""
    if not spec.environment:
        return Result(spec.name, spec.title, unavailable=spec.tried)
    try:
        say("its environment")
        built = build(spec.environment, environments, cache)
    except UnavailableError as error:
        return Result(spec.name, spec.title, unavailable=f"{error}. {spec.tried}".strip())
    try:
        return _compared(Asked(spec, built, say), place)
    except (FailedError, RuntimeError) as error:
        return Result(spec.name, spec.title, cases=[Case("all", "", str(error))])


def run_light(spec: RowSpec, cache: Path, saving: Path, loading: Path, say: Say) -> Result:
    """The light cases of a row, in the environment of the tests and on two mounts that are there."""
    asked = Asked(spec, build(TESTS, {TESTS: Environment(TESTS)}, cache), say, spec.light)
    try:
        asked.ask("mount", "save", saving / spec.name)
        settle(saving)  # what was mapped when its file was closed is on its way after the process has ended
        asked.ask("mount", "load", loading / spec.name)
    except FailedError as error:
        return Result(spec.name, spec.title, cases=[Case("all", "", str(error))])
    return asked.result(asked.answers["mount save"])


class Asked:
    """The answers of a row's processes so far, by where and what: ``disk save``, ``mount load`` …"""

    def __init__(self, spec: RowSpec, built: Built, say: Say, only: Sequence[str] = ()) -> None:
        self.spec = spec
        self.answers: dict[str, Facts] = {}
        self._built = built
        self._say = say
        self._only = only

    def ask(self, where: str, action: str, directory: Path, trace: Path | None = None) -> None:
        """Run the row's script there, under strace when ``trace`` says to which file."""
        self._say(f"{action} on {where}")
        self.answers[f"{where} {action}"] = _ask(self.spec, self._built, action, directory, self._only, trace)

    def result(
        self, said: Facts, stored: Mapping[str, int] | None = None, operations: Mapping[str, Counter[str]] | None = None
    ) -> Result:
        """The verdict on each case that ``said``, one of the answers, has."""
        cases = [_case(facts["name"], self.answers, stored or {}, operations or {}) for facts in said["cases"]]
        return Result(self.spec.name, self.spec.title, said["version"], cases)


def _compared(asked: Asked, place: Place) -> Result:
    name = asked.spec.name
    disk = place.disk(name)
    asked.ask("disk", "save", disk)
    asked.ask("disk", "load", disk)
    shutil.rmtree(disk)
    _on_mounts(asked, place)
    operations: dict[str, Counter[str]] = {}
    if calls.available():
        log, traced = place.directory / f"{name}.strace", place.disk(f"{name}-traced")
        asked.ask("strace", "save", traced, log)
        asked.ask("strace", "load", traced, log)
        operations = calls.of_cases(log, traced)
        log.unlink()
        shutil.rmtree(traced)
    return asked.result(asked.answers["disk save"], place.stored(name), operations)


def _on_mounts(asked: Asked, place: Place) -> None:
    """The first mount is gone, and was elsewhere, when the second one is loaded from: no path leads back to it."""
    with place.mount("saving") as first:
        asked.ask("mount", "save", first / asked.spec.name)
    with place.mount("loading") as second:
        asked.ask("mount", "load", second / asked.spec.name)


def _case(
    name: str, answers: Mapping[str, Facts], stored: Mapping[str, int], operations: Mapping[str, Counter[str]]
) -> Case:
    found = {
        where: next(case for case in answer["cases"] if case["name"] == name)
        for where, answer in answers.items()
        if not where.startswith("strace")
    }
    made = found["mount save"]
    return Case(
        name,
        made["calls"],
        _verdict(found),
        {where: facts["seconds"] for where, facts in found.items() if "seconds" in facts},
        made.get("files", 0),
        made.get("bytes", 0),
        stored.get(slug(name), 0),
        calls.in_words(operations.get(slug(name), Counter())),
    )


def _verdict(found: Mapping[str, Facts]) -> str:
    """What went wrong, or differs from the first save; "" for nothing."""
    (first, expected), *others = found.items()
    for where, facts in found.items():
        if facts["error"]:
            return f"{where}: {facts['error']}"
    for where, facts in others:
        if facts["weights"] != expected["weights"]:
            return f"{where}: the weights differ from those of the {first}"
        if not _close(facts["predictions"], expected["predictions"]):
            return f"{where}: the predictions differ from those of the {first}"
    if found["mount save"]["files"] != found["mount load"]["files"]:
        return "mount load: another number of files than were saved"
    return ""


def _close(found: list[float], expected: list[float]) -> bool:
    return len(found) == len(expected) and all(
        math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE) for a, b in zip(found, expected, strict=True)
    )


def _ask(spec: RowSpec, built: Built, action: str, directory: Path, only: Sequence[str], trace: Path | None) -> Facts:
    """Run the row's script once, and return its answer."""
    command = [str(built.python), str(spec.path), action, str(directory)]
    command += [word for name in only for word in ("--only", name)]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AWS_"))},
        "MODELFS_ROW_SCRATCH": str(built.scratch),
        "HF_HUB_OFFLINE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
        # The same sums in the same order in each process, on a busy machine too.
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        **built.variables,
    }
    if trace:
        command = calls.traced(command, directory, trace)
    # A session of its own: whatever a row has started ends with it.
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise FailedError(f"{action}: no answer within {TIMEOUT} s") from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    try:
        answer: Facts = json.loads(out)
    except ValueError as error:
        last = [line for line in err.splitlines() if line.strip()][-1:]
        raise FailedError(
            f"{action}: ended with code {process.returncode} and no answer: {' '.join(last)[:300]}"
        ) from error
    return answer
