"""Models in several files, as Hugging Face lays them out: ``model-00001-of-00003.safetensors``, … and
``model.safetensors.index.json``, which says which tensor is in which file.

Tensors go into files by the rule of huggingface_hub's ``split_torch_state_dict_into_shards``: in their order, a new
file when the next tensor would make the one before too large; a tensor is never split, so one that is larger than the
limit has a file of its own. As there, the limit is for tensors, without headers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from modelfs.convert.model import Model, Tensor
from modelfs.convert.opening import SHARDS
from modelfs.convert.plan import Plan
from modelfs.convert.targets import torch

Planner = Callable[[Model, str, Callable[[int], None]], list[tuple[str, Plan]]]


def spread(model: Model, limit: int, *, share: bool) -> list[Model]:
    """The model in parts of at most ``limit`` bytes each. ``share``: tensors that are the same bytes cost nothing in
    one file, so they stay together."""
    parts: list[list[Tensor]] = [[]]
    home: dict[tuple[int, int, int], int] = {}
    size = 0
    for tensor in model.tensors:
        if share and tensor.length and tensor.place in home:
            parts[home[tensor.place]].append(tensor)
            continue
        if parts[-1] and size + tensor.length > limit:
            parts.append([])
            size = 0
        parts[-1].append(tensor)
        home[tensor.place] = len(parts) - 1
        size += tensor.length
    return [replace(model, tensors=tuple(part)) for part in parts]


def plan(
    model: Model, name: str, limit: int, planner: Planner, progress: Callable[[int], None], *, index: bool
) -> list[tuple[str, Plan]]:
    """Files for a model that is called ``name`` ("model.safetensors"): that file if all fits in it, else parts and
    their index. ``index``: parts and index in any case."""
    parts = spread(model, limit, share=planner is torch.plan)
    if len(parts) == 1 and not index:
        return planner(model, name, progress)
    stem, _, suffix = name.rpartition(".")
    plans: list[tuple[str, Plan]] = []
    places: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        shard = f"{stem}-{number:05}-of-{len(parts):05}.{suffix}"
        plans += planner(part, shard, progress)
        places |= {tensor.name: shard for tensor in part.tensors}
    text = json.dumps({"metadata": {"total_size": model.size}, "weight_map": places}, indent=2, sort_keys=True)
    made = Plan()
    made.literal(text.encode() + b"\n")
    return [*plans, (name + SHARDS, made)]
