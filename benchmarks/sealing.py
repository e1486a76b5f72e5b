"""What encryption costs: CPU seconds for a GiB of 4 MiB objects, best of five. ``python -m benchmarks.sealing``

Chunks are written to and read from a store in memory, so that nothing but the work of this machine is counted. What
is written is let go of: to keep it would copy it once more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

from modelfs.codecs import Element
from modelfs.config import Secret
from modelfs.crypto.keyring import Keyring
from modelfs.crypto.objects import Sealer
from modelfs.ids import PLAIN, Ids
from modelfs.memory import keep_heap
from modelfs.repository.access import Access
from modelfs.repository.keyslots import encrypted
from modelfs.repository.repository import Format, Repository, Tensor
from modelfs.store.base import Buffer
from modelfs.store.memory import MemoryStore

SIZE = 4 << 20
COUNT = 16
SECRET = Secret("key-file", bytes(32))


class Sink(MemoryStore):
    """Takes chunks and keeps none."""

    def put(self, key: str, data: Buffer) -> None:
        if not key.startswith("data/"):
            super().put(key, data)


def cost(work: Callable[[], object], count: int = 1) -> float:
    """CPU seconds for a GiB; ``work`` handles ``count`` objects."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best / count * (1 << 30) / SIZE


def weights(seed: int) -> bytes:
    """bf16 words as a model has them."""
    values = (np.random.default_rng(seed).standard_normal(SIZE // 2) * 0.02).astype(np.float32)
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def opened(store: MemoryStore, *, sealed: bool) -> Repository:
    """A fresh view of a store, which is made when it is not there."""
    if store.size("format.json") is None:
        return Repository.create(store, *encrypted(Format(), SECRET, "first")) if sealed else Repository.create(store)
    return Repository.open(store, Access(secret=SECRET if sealed else None))


def main() -> None:
    """Print a table."""
    keep_heap()
    plain, key = os.urandom(SIZE), "data/ab/" + "cd" * 31
    sealer, keyed = Sealer("ab" * 16, Keyring.new()), Ids(os.urandom(32))
    stored = sealer.seal(key, plain)
    print(f"seal   {cost(lambda: [sealer.seal(key, plain) for _ in range(COUNT)], COUNT):.2f}")
    print(f"open   {cost(lambda: [sealer.open(key, stored) for _ in range(COUNT)], COUNT):.2f}")
    for name, ids in (("plain", PLAIN), ("keyed", keyed)):
        print(f"hash   {cost(lambda ids=ids: [ids.digest(plain) for _ in range(COUNT)], COUNT):.2f}  {name}")
    kinds: tuple[tuple[str, list[bytes], Tensor | None], ...] = (
        ("raw", [os.urandom(SIZE) for _ in range(COUNT)], None),
        ("bf16", [weights(i) for i in range(COUNT)], Tensor(Element.BF16)),
    )
    for kind, chunks, tensor in kinds:
        for sealed in (False, True):
            name = f"{kind}, {'encrypted' if sealed else 'plain'}"
            sink, store = Sink(f"sink {name}"), MemoryStore(name)
            opened(sink, sealed=sealed)
            writing = cost(lambda: [opened(sink, sealed=sealed).write_chunk(c, tensor) for c in chunks], COUNT)  # noqa: B023
            repo = opened(store, sealed=sealed)
            ids_ = [repo.write_chunk(chunk, tensor)[0] for chunk in chunks]
            reading = cost(lambda: [repo.read_chunk(chunk, SIZE) for chunk in ids_], COUNT)  # noqa: B023
            print(f"write  {writing:.2f}  {name}\nread   {reading:.2f}  {name}")


if __name__ == "__main__":
    main()
