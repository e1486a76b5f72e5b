"""The numbers that decide where chunks end. Recorded in format.json: two writers of a store must agree on them."""

from __future__ import annotations

from dataclasses import dataclass

from modelfs import limits


@dataclass(frozen=True, slots=True)
class ChunkParams:
    """Sizes in bytes. ``group_size``: tensors shorter than this are grouped with their neighbours."""

    min_size: int = limits.CHUNK_MIN
    avg_size: int = limits.CHUNK_AVG
    max_size: int = limits.CHUNK_MAX
    group_size: int = limits.TENSOR_GROUP
