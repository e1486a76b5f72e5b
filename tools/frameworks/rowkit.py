"""What every row of the framework matrix is made with. Standard library only, Python 3.7 and newer.

A row is a script that says, for each documented way of saving (a *case*), how a framework makes a model, saves it and
loads it, by the framework's own calls and without a word of modelfs:

    python ROW.py save DIR      makes the models and saves each below DIR/CASE
    python ROW.py load DIR      loads them from there, in a process of its own

Either prints one JSON object on standard output (all else goes to standard error):

    {"framework": "scikit-learn", "version": "1.9.1", "action": "save",
     "cases": [{"name": "pickle", "calls": "pickle.dump, pickle.load", "seconds": 0.01, "weights": "SHA-256",
                "predictions": [0.5, …], "files": 1, "bytes": 4096, "error": null}, …]}

``error`` is one line where a case failed; the cases after it still run. ``seconds`` are those of the framework's call,
and, for a load, of reading all weights (a mapped file is read only then). Options: ``--only CASE`` (may be repeated).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

_took = []  # type: list[float]


class Case(NamedTuple):
    """One way of saving. ``model`` makes one (seeded: the same in every process), ``save`` and ``load`` get a directory
    of the case's own, ``weights`` and ``predict`` look at a model that was made or loaded. ``weights`` returns what
    `digest` takes, ``predict`` what `floats` takes. ``needs`` names modules without which the case is left out."""

    name: str
    calls: str
    model: Callable[[], Any]
    save: Callable[[Any, Path], Any]
    load: Callable[[Path], Any]
    weights: Callable[[Any], Any]
    predict: Callable[[Any], Any]
    needs: Iterable[str] = ()


class Row:
    """A framework and its cases. ``version`` is called once, after the framework was imported."""

    def __init__(self, framework: str, version: Callable[[], str]) -> None:
        self._framework = framework
        self._version = version
        self._cases = []  # type: list[Case]

    def add(
        self,
        name: str,
        calls: str,
        model: Callable[[], Any],
        save: Callable[[Any, Path], Any],
        load: Callable[[Path], Any],
        weights: Callable[[Any], Any],
        predict: Callable[[Any], Any],
        needs: Iterable[str] = (),
    ) -> None:
        """Add a case. ``calls`` says in words which calls of the framework save and load."""
        self._cases.append(Case(name, calls, model, save, load, weights, predict, needs))

    def main(self) -> None:
        """The command line of the row."""
        parser = argparse.ArgumentParser()
        parser.add_argument("action", choices=("save", "load"))
        parser.add_argument("directory", type=Path)
        parser.add_argument("--only", action="append")
        given = parser.parse_args()
        with _quiet() as answer:
            cases = [case for case in self._cases if not given.only or case.name in given.only]
            done = [_run(case, given.action, given.directory) for case in cases if _has(case.needs)]
            answer.write(
                json.dumps(
                    {
                        "framework": self._framework,
                        "version": self._version(),
                        "action": given.action,
                        "cases": done,
                    }
                )
                + "\n"
            )
            answer.flush()


def digest(weights: Any) -> str:
    """SHA-256 of weights: arrays (``tobytes`` or ``numpy``), bytes, numbers, strings, and lists, tuples and
    dictionaries of them (dictionaries in the order of their keys)."""
    hashed = hashlib.sha256()
    _feed(hashed.update, weights)
    return hashed.hexdigest()


def floats(values: Any) -> list[float]:
    """Predictions as a flat list."""
    if hasattr(values, "detach"):
        values = values.detach()
    if hasattr(values, "numpy"):
        values = values.numpy()
    if hasattr(values, "ravel"):
        values = values.ravel().tolist()
    if isinstance(values, (list, tuple)):
        return [number for value in values for number in floats(value)]
    return [float(values)]


def once(make: Callable[[], Any]) -> Callable[[], Any]:
    """A ``model`` that several cases share: made at its first use."""
    return functools.lru_cache(maxsize=None)(make)


def took(seconds: float) -> None:
    """For a save or load that starts processes or trains meanwhile: its own seconds, without those."""
    _took.append(seconds)


def scratch() -> Path:
    """A directory beside the environment that outlives runs: for what a row compiles, never for what it saves."""
    path = Path(os.environ.get("MODELFS_ROW_SCRATCH", Path(sys.prefix) / "scratch"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def slug(name: str) -> str:
    """The directory name of a case."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _run(case: Case, action: str, directory: Path) -> dict[str, Any]:
    place = directory / slug(case.name)
    facts = {"name": case.name, "calls": case.calls, "error": None}  # type: dict[str, Any]
    _took.clear()
    try:
        if action == "save":
            model = case.model()
            place.mkdir(parents=True, exist_ok=True)
            begin = time.perf_counter()
            case.save(model, place)
            facts["seconds"] = sum(_took) if _took else time.perf_counter() - begin
            facts["weights"] = digest(case.weights(model))
        else:
            begin = time.perf_counter()
            model = case.load(place)
            loaded = time.perf_counter()
            facts["weights"] = digest(case.weights(model))
            facts["seconds"] = time.perf_counter() - loaded + (sum(_took) if _took else loaded - begin)
        facts["predictions"] = floats(case.predict(model))
        files = [path for path in place.rglob("*") if path.is_file()]
        facts["files"], facts["bytes"] = len(files), sum(path.stat().st_size for path in files)
    except Exception as error:  # noqa: BLE001  the row goes on with its next case
        traceback.print_exc()
        facts["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
    return facts


def _feed(update: Callable[[bytes], None], value: Any) -> None:
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            update(f"{key}\0".encode())
            _feed(update, value[key])
    elif isinstance(value, (list, tuple)):
        for one in value:
            _feed(update, one)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        update(value)
    elif hasattr(value, "detach"):  # PyTorch: any dtype, bfloat16 too, as its bytes
        import torch

        update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    elif hasattr(value, "tobytes"):
        update(value.tobytes())
    elif hasattr(value, "numpy"):
        _feed(update, value.numpy())
    else:
        update(f"{value!r}\0".encode())


def _has(modules: Iterable[str]) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in modules)


@contextlib.contextmanager
def _quiet() -> Any:
    """Standard output for the answer alone: what libraries print goes to standard error."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        yield answer
    finally:
        answer.close()
