"""``python -m benchmarks.codecs``: chunks to stored bytes and back to verified ones, in GB of plain bytes.

One 4 MiB chunk at a time, as the mount's worker threads do. Per core: plain bytes over the CPU seconds of the thread.
Two threads: what they do together in wall time over what one does alone; below 2 something is shared, above 1.6 it is
not the interpreter's lock.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from modelfs.codecs import Compression, DeltaHead, Element, codec_name, decode, encode, encode_delta
from modelfs.ids import digest
from modelfs.memory import keep_heap

CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True)
class Case:
    """A chunk, what it is stored as, and both directions."""

    name: str
    stored: bytes
    encode: Callable[[], object]
    decode: Callable[[], object]


def cases() -> list[Case]:
    """Weights of a normal distribution, and the same a few steps of training later."""
    random = np.random.default_rng(1)
    found = []
    for element, width in ((Element.BF16, 2), (Element.F32, 4)):
        old = (random.standard_normal(CHUNK // width) * 0.02).astype(np.float32)
        new = old + (random.standard_normal(len(old)) * 2e-5).astype(np.float32)
        base, plain = (bf16(a) if element is Element.BF16 else a.tobytes() for a in (old, new))
        for compression in (Compression.NONE, Compression.BALANCED):
            stored = encode(plain, element, compression)
            found.append(
                Case(
                    f"{element.name.lower()}, {compression.value} ({codec_name(stored)})",
                    stored,
                    lambda p=plain, e=element, c=compression: encode(p, e, c),  # type: ignore[misc]
                    lambda s=stored: digest(decode(s, CHUNK)),  # type: ignore[misc]
                )
            )
        before = DeltaHead(bytes(32), element, 1, 0)
        stored = encode_delta(plain, base, before)
        found.append(
            Case(
                f"{element.name.lower()}, delta",
                stored,
                lambda p=plain, b=base, h=before: encode_delta(p, b, h),  # type: ignore[misc]
                lambda s=stored, b=base: digest(decode(s, CHUNK, lambda _: b)),  # type: ignore[misc]
            )
        )
    return found


def bf16(values: np.ndarray) -> bytes:
    """The upper halves of fp32 numbers."""
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def per_core(work: Callable[[], object], rounds: int) -> float:
    """GB of plain bytes for a CPU second."""
    work()
    times = []
    for _ in range(rounds):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return CHUNK / 1e9 / statistics.median(times)


def together(work: Callable[[], object], rounds: int) -> float:
    """How many times as much two threads do as one."""

    def many() -> None:
        for _ in range(rounds):
            work()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: many(), range(2)))
        ratios = []
        for _ in range(3):
            start = time.perf_counter()
            pool.submit(many).result()
            middle = time.perf_counter()
            list(pool.map(lambda _: many(), range(2)))
            ratios.append(2 * (middle - start) / (time.perf_counter() - middle))
    return statistics.median(ratios)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codecs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    keep_heap()  # as the daemon does
    table = Table(title="GB of plain bytes per CPU second; decode includes verifying", title_justify="left")
    for column in ("chunk", "stored/plain", "encode", "two threads", "decode", "two threads"):
        table.add_column(column, justify="left" if column == "chunk" else "right")
    for case in cases():
        table.add_row(
            case.name,
            f"{len(case.stored) / CHUNK:.3f}",
            f"{per_core(case.encode, rounds):.2f}",
            f"{together(case.encode, rounds):.2f}x",
            f"{per_core(case.decode, rounds):.2f}",
            f"{together(case.decode, rounds):.2f}x",
        )
    Console(width=None if Console().is_terminal else 110).print(table)


if __name__ == "__main__":
    main()
