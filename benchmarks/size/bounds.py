"""What must hold: how small each series has to become, and why that much."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open

from modelfs.ids import TreeId
from modelfs.repository.repository import Repository
from modelfs.repository.usage import Usage
from modelfs.store.open import open_store

TIMES_SMALLER = {"adamw": 1.2, "bf16": 2.0, "young-bf16": 1.4}
WITHIN = {"frozen": 1.05, "adapters": 1.05}
ONE_COPY = 1.03


@dataclass(frozen=True)
class Verdict:
    """What was asked of a series and what was found."""

    asked: str
    found: str
    holds: bool | None  # None: nothing is asked


def judge(series: str, root: Path, store: Path, stored: int, peers: dict[str, int]) -> Verdict:
    """The verdict on one series that lies at ``root``."""
    best = min(peers.values()) if peers else 0
    times = best / stored if stored else 0.0
    if series in TIMES_SMALLER:
        asked = TIMES_SMALLER[series]
        return Verdict(f"{asked} times smaller than the best", f"{times:.2f}", times >= asked)
    if series in WITHIN:
        new = new_bytes(root)
        return Verdict(
            "stored within 5 % of the bytes that changed", f"{stored / new:.3f}", stored <= WITHIN[series] * new
        )
    if series == "formats":
        unique, ideal = unique_bytes(store), one_copy(root)
        holds = unique <= ONE_COPY * ideal and stored <= best
        return Verdict("unique within 3 % of one copy, smallest", f"{unique / ideal:.3f}, {times:.2f}", holds)
    return Verdict("", f"{times:.2f}", None)


def new_bytes(root: Path) -> int:
    """Bytes of a series of safetensors files that no earlier file of it has: headers, and tensors that differ from
    every earlier version of themselves."""
    seen: dict[str, set[bytes]] = {}
    total = 0
    for path in sorted(root.rglob("*.safetensors"), key=lambda p: int(p.parent.name.rpartition("-")[2])):
        total += path.stat().st_size
        with safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                data = file.get_tensor(name).tobytes()
                if data in seen.setdefault(name, set()):
                    total -= len(data)
                seen[name].add(data)
    return total


def one_copy(root: Path) -> int:
    """Bytes of the model once, and of the rows by which one file has grown."""
    whole = root / "model.safetensors"
    shapes = []
    for path in (whole, root / "grown" / "model.safetensors"):
        with safe_open(path, "np") as file:
            shapes.append(file.get_tensor("wte.weight"))
    old, new = shapes
    return whole.stat().st_size + int(np.prod(new.shape[1:])) * new.itemsize * (len(new) - len(old))


def unique_bytes(store: Path) -> int:
    """Bytes of a store after deduplication and before compression."""
    opened = open_store(str(store))
    try:
        repo = Repository.open(opened)
        used = Usage()
        used.add(repo, (entry for _, entry in repo.walk(TreeId(repo.resolve(None).commit.root.content))))
        return used.unique
    finally:
        opened.close()
