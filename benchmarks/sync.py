"""`modelfs sync` to an empty store, and obstore copying the same objects, in turns. ``python -m benchmarks.sync``

The source is a local store that holds one model of bf16 weights; the targets are prefixes of a Ceph gateway on this
machine, or with ``--local`` directories. Each side is a process of its own, measured from start to end. obstore checks
nothing on the way and, in a directory, leaves it to the kernel when bytes reach the disk; modelfs verifies each object
and syncs each file. Then one tensor in ten is changed and the second sync is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import obstore
from obstore.store import LocalStore, from_url
from safetensors.numpy import save_file

TENSORS = 100
IN_FLIGHT = 16
BUCKET = "bench"


def write_model(path: Path, size: int, *, changed: int = 0) -> None:
    """A safetensors file of ``size`` bytes of weights; the first ``changed`` tensors are other ones."""
    tensors = {}
    for i in range(TENSORS):
        values = np.random.default_rng([i, i < changed]).standard_normal(size // TENSORS // 2, np.float32) * 0.02
        tensors[f"layer.{i:03d}"] = (values.view(np.uint32) >> 16).astype(np.uint16)
    save_file(tensors, path)


def copy(source: str, target: str) -> None:
    """All objects of a local store, with obstore."""
    ours = LocalStore(source)
    options: dict[str, Any] = {"client_options": {"allow_http": True}} if "://" in target else {}
    theirs = from_url(target, **options) if "://" in target else LocalStore(target, mkdir=True)
    keys = [str(p.relative_to(source)) for p in Path(source).rglob("*") if p.is_file() and ".tmp" not in p.parts]
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(lambda key: obstore.put(theirs, key, obstore.get(ours, key).bytes(), use_multipart=False), keys))


def timed(*command: str) -> tuple[float, str]:
    """Seconds of a command, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - began, done.stdout


@contextlib.contextmanager
def gateway(directory: Path) -> Iterator[str]:
    """URL of a bucket on this machine; credentials are in the environment."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
    import ceph_rgw

    endpoint = ceph_rgw.start(directory, ceph_rgw.free_port(), 60_000_000_000, on_disk=True)
    try:
        ceph_rgw.make_bucket(endpoint, BUCKET)
        os.environ |= {"AWS_ACCESS_KEY_ID": ceph_rgw.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": ceph_rgw.SECRET_KEY}
        os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"}
        yield f"s3://{BUCKET}"
    finally:
        ceph_rgw.stop(directory)


def main() -> None:
    """Print seconds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2_000_000_000, help="bytes of the model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compression", default="balanced")
    parser.add_argument("--local", action="store_true", help="directories instead of a gateway")
    parser.add_argument("--copy", nargs=2, metavar=("SRC", "DST"), help="only copy, as the other side does")
    given = parser.parse_args()
    if given.copy:
        copy(*given.copy)
        return
    with tempfile.TemporaryDirectory(prefix="modelfs-bench-") as name, contextlib.ExitStack() as stack:
        work = Path(name)
        os.environ["XDG_STATE_HOME"] = str(work / "state")
        source, model = str(work / "source"), work / "model.safetensors"
        place = str(work / "targets") if given.local else stack.enter_context(gateway(work / "ceph"))
        write_model(model, given.size)
        timed("modelfs", "init", source, "--compression", given.compression)
        timed("modelfs", "put", source, str(model), "step-1/")
        seconds: dict[str, list[float]] = {"modelfs sync": [], "obstore": []}
        target = ""
        for number in range(given.rounds):
            for side in sorted(seconds, reverse=bool(number % 2)):
                at = f"{place}/{side.split()[-1]}-{number}"
                if side == "obstore":
                    took, _ = timed("benchmarks.sync", "--copy", source, at)
                else:
                    target = at
                    timed("modelfs", "init", at)
                    took, _ = timed("modelfs", "sync", source, at)
                seconds[side].append(took)
                print(f"{side}: {took:.2f} s", flush=True)
                if given.local and at != target:
                    shutil.rmtree(at)
        for side, all_ in seconds.items():
            median = statistics.median(all_)
            print(f"{side:13} median {median:.2f} s, {given.size / median / 1e6:.0f} MB/s")
        ratios = [a / b for a, b in zip(seconds["modelfs sync"], seconds["obstore"], strict=True)]
        print(f"ratio         median {statistics.median(ratios):.2f} ({', '.join(f'{r:.2f}' for r in ratios)})")
        write_model(model, given.size, changed=TENSORS // 10)
        timed("modelfs", "put", source, str(model), "step-2/")
        took, out = timed("modelfs", "sync", source, target, "--json")
        facts = json.loads(out)
        print(f"second sync   {took:.2f} s, {facts['chunks']} chunks, {facts['sent'] / 1e6:.1f} MB sent")


if __name__ == "__main__":
    main()
