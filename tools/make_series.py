#!/usr/bin/env python3
"""Writes series of checkpoints from real training on this machine's CPU, to measure what a store makes of them.

    tools/make_series.py DIRECTORY [--size small|bench] [--only NAME]...

A small transformer (GPT-2's architecture with tied embeddings) learns to predict the words of Python's own standard
library, then is fine-tuned on its modules about networks and files. NAME is one of:

    formats    the model as .safetensors, .pt, .npz, .h5, .gguf and in shards, and with a grown vocabulary
    young      the first training: fp32 with AdamW state, a checkpoint every N steps
    young-bf16 the same weights cast to bf16
    adamw      fine-tuning, lr 5e-5 decaying to 0: fp32 with AdamW state
    bf16       the same weights cast to bf16
    frozen     only the last block trains: whole state dicts
    adapters   low-rank adapters train: whole state dicts with the adapters in them

Each is a directory of its name. Checkpoints of a series lie beside each other as trainers write them:
`checkpoint-40/`, `checkpoint-60/`, …
"""

from __future__ import annotations

import argparse
import math
import re
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import h5py
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Weights = dict[str, Tensor]
NAMES = ("formats", "young", "young-bf16", "adamw", "bf16", "frozen", "adapters")


@dataclass(frozen=True)
class Size:
    """How large a model is and how long it trains. ``every``: steps between checkpoints."""

    width: int
    layers: int
    heads: int
    vocabulary: int
    context: int
    batch: int
    first_steps: int
    every: int
    checkpoints: int
    shard: int  # bytes


SIZES = {
    "small": Size(64, 2, 2, 1024, 64, 4, 12, 3, 4, 200_000),
    "bench": Size(384, 6, 6, 8192, 128, 8, 320, 20, 10, 20_000_000),
}


class Block(nn.Module):
    """Attention and a feed-forward layer, normalised before each."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.attn = nn.Linear(size.width, 3 * size.width)
        self.proj = nn.Linear(size.width, size.width)
        self.fc, self.out = nn.Linear(size.width, 4 * size.width), nn.Linear(4 * size.width, size.width)
        self.heads = size.heads

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.attn(self.ln_1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.out(F.gelu(self.fc(self.ln_2(x))))


class Model(nn.Module):
    """Predicts the next word of each position."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(size.vocabulary, size.width), nn.Embedding(size.context, size.width)
        self.h = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.ln_f = nn.LayerNorm(size.width)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                deep = name.endswith(("proj.weight", "out.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * size.layers) if deep else 0.02)

    def forward(self, words: Tensor) -> Tensor:
        x = self.wte(words) + self.wpe.weight[: words.shape[1]]
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)


class Adapter(nn.Module):
    """A linear layer that stays as it is, plus a product of two thin matrices that trains."""

    def __init__(self, base: nn.Linear, rank: int = 8) -> None:
        super().__init__()
        self.base = base
        self.lora_a = nn.Parameter(torch.randn(rank, base.in_features) / math.sqrt(base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + F.linear(F.linear(x, self.lora_a), self.lora_b)


def corpus(*patterns: str) -> list[str]:
    """Words of modules of the standard library, in a stable order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(path for pattern in patterns for path in root.glob(pattern) if path.is_file())
    return [word for f in files for word in re.findall(r"\w+|[^\w\s]|\n", f.read_text("utf-8", "ignore"))]


class Training:
    """A model, its optimizer and the text it learns from."""

    def __init__(self, model: nn.Module, size: Size, words: Tensor, rate: float, decay_to: int | None) -> None:
        self.model, self._size, self._words = model, size, words
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: 1.0 if decay_to is None else max(0.0, 1 - step / decay_to)
        )
        self.steps = 0
        self.loss = math.nan

    def run(self, steps: int) -> None:
        """Train that many steps."""
        size = self._size
        for _ in range(steps):
            starts = torch.randint(len(self._words) - size.context - 1, (size.batch,))
            rows = torch.stack([self._words[s : s + size.context + 1] for s in starts])
            loss = F.cross_entropy(self.model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self._schedule.step()
            self.steps += 1
            self.loss = loss.item()

    def checkpoints(self) -> Iterator[Path]:
        """After each stretch of steps, the relative directory of its checkpoint."""
        for _ in range(self._size.checkpoints):
            self.run(self._size.every)
            yield Path(f"checkpoint-{self.steps}")


def weights(model: nn.Module) -> Weights:
    """A copy of the state dict."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def cast(tensors: Weights) -> Weights:
    """To bf16."""
    return {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}


def save_safetensors(path: Path, tensors: Weights) -> None:
    """A safetensors file, its directory made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"format": "pt"})


def save_training(path: Path, training: Training) -> None:
    """Model and optimizer in one .pt file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"model": training.model.state_dict(), "optimizer": training.optimizer.state_dict()}
    torch.save({**state, "step": training.steps}, path)


def save_hdf5(path: Path, tensors: Weights) -> None:
    """A data set for each tensor, groups for the dots, as Keras lays its weights out."""
    with h5py.File(path, "w") as file:
        for name, tensor in tensors.items():
            file.create_dataset(name.replace(".", "/"), data=tensor.numpy())


def save_gguf(path: Path, tensors: Weights) -> None:
    """fp32 GGUF."""
    writer = gguf.GGUFWriter(path, "gpt2")
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def save_shards(directory: Path, tensors: Weights, limit: int) -> None:
    """safetensors files of about ``limit`` bytes each."""
    shards: list[Weights] = [{}]
    for name, tensor in tensors.items():
        if shards[-1] and sum(t.nbytes for t in shards[-1].values()) + tensor.nbytes > limit:
            shards.append({})
        shards[-1][name] = tensor
    for i, shard in enumerate(shards, 1):
        save_safetensors(directory / f"model-{i:05}-of-{len(shards):05}.safetensors", shard)


def grown(tensors: Weights, rows: int) -> Weights:
    """The same model with ``rows`` more words in its vocabulary."""
    old = tensors["wte.weight"]
    return {**tensors, "wte.weight": torch.cat([old, old.mean(0) + 0.02 * torch.randn(rows, old.shape[1])])}


def make_formats(out: Path, tensors: Weights, size: Size) -> None:
    """One model, every format."""
    save_safetensors(out / "model.safetensors", tensors)
    torch.save(tensors, out / "model.pt")
    np.savez(out / "model.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    save_hdf5(out / "model.h5", tensors)
    save_gguf(out / "model.gguf", tensors)
    save_shards(out / "sharded", tensors, size.shard)
    save_safetensors(out / "grown" / "model.safetensors", grown(tensors, size.vocabulary // 64))


def frozen(model: Model, size: Size) -> Model:
    """All but the last block and the last norm stay as they are."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for module in (model.h[-1], model.ln_f):
        for parameter in module.parameters():
            parameter.requires_grad_(True)
    return model


def adapted(model: Model, size: Size) -> Model:
    """Adapters on every attention; nothing else trains."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for block in model.h:
        block.attn = Adapter(block.attn)  # type: ignore[assignment,arg-type]
    return model


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--size", choices=SIZES, default="bench")
    parser.add_argument("--only", choices=NAMES, action="append", metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    wanted = args.only or NAMES
    size: Size = SIZES[args.size]
    out: Path = args.directory
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)

    words, tuning_words = (
        corpus("[a-z]*.py", "json/*.py", "email/*.py"),
        corpus("asyncio/*.py", "http/*.py", "urllib/*.py"),
    )
    rank = {word: i for i, (word, _) in enumerate(Counter(words).most_common(size.vocabulary - 1), 1)}
    first_text, tuning_text = (torch.tensor([rank.get(w, 0) for w in text]) for text in (words, tuning_words))

    model = Model(size)
    first = Training(model, size, first_text, 1e-3, None)
    before = max(size.first_steps - size.every * size.checkpoints, 0)
    first.run(before)
    for place in first.checkpoints():
        if "young" in wanted:
            save_training(out / "young" / place / "checkpoint.pt", first)
        if "young-bf16" in wanted:
            save_safetensors(out / "young-bf16" / place / "model.safetensors", cast(weights(model)))
    trained = weights(model)
    print(
        f"{sum(t.numel() for t in trained.values()) / 1e6:.1f} M parameters, loss {first.loss:.2f} after {first.steps}"
    )
    if "formats" in wanted:
        (out / "formats").mkdir(exist_ok=True)
        make_formats(out / "formats", trained, size)

    total = size.every * size.checkpoints
    if {"adamw", "bf16"} & set(wanted):
        tuning = Training(model, size, tuning_text, 5e-5, total)
        for place in tuning.checkpoints():
            if "adamw" in wanted:
                save_training(out / "adamw" / place / "checkpoint.pt", tuning)
            if "bf16" in wanted:
                save_safetensors(out / "bf16" / place / "model.safetensors", cast(weights(model)))
        print(f"fine-tuned: loss {tuning.loss:.2f} after {tuning.steps}")
    variants: dict[str, Callable[[Model, Size], Model]] = {"frozen": frozen, "adapters": adapted}
    for name, change in variants.items():
        if name not in wanted:
            continue
        model = Model(size)
        model.load_state_dict(trained)
        part = Training(change(model, size), size, tuning_text, 5e-5 if name == "frozen" else 1e-3, total)
        part_steps = max(size.every // 4, 1)
        for _ in range(size.checkpoints):
            part.run(part_steps)
            save_safetensors(out / name / f"checkpoint-{part.steps}" / "model.safetensors", weights(model))
        print(f"{name}: loss {part.loss:.2f} after {part.steps}")


if __name__ == "__main__":
    main()
