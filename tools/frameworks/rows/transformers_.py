"""Hugging Face transformers: save_pretrained in shards, and a Trainer that keeps its last two checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import rowkit
import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

WORDS = torch.arange(32).reshape(2, 16)


def model() -> LlamaForCausalLM:
    """A Llama of two million parameters, from a configuration alone."""
    transformers.set_seed(7)
    shape = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=1000, max_position_embeddings=128, **shape)).eval()


def weights(found: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    return dict(found.state_dict())


def predict(found: LlamaForCausalLM) -> torch.Tensor:
    with torch.no_grad():
        return found.eval()(WORDS).logits[:, -1]


def save(made: LlamaForCausalLM, directory: Path) -> None:
    made.save_pretrained(directory, max_shard_size="2MB")


def load(directory: Path) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(directory)


class Sentences(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        words = (torch.arange(16) * 7 + index) % 1000
        return {"input_ids": words, "labels": words}


def trainer(made: LlamaForCausalLM, directory: Path) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(directory),
        max_steps=6,
        save_steps=2,
        save_total_limit=2,
        per_device_train_batch_size=4,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        seed=7,
    )
    return Trainer(made, arguments, train_dataset=Sentences())


def train(made: LlamaForCausalLM, directory: Path) -> None:
    trainer(made, directory).train()
    kept = sorted(path.name for path in directory.glob("checkpoint-*"))
    assert kept == ["checkpoint-4", "checkpoint-6"], kept


def resume(directory: Path) -> LlamaForCausalLM:
    """All steps are done, so that what comes back is the last checkpoint: model, optimiser, schedule, random state."""
    again = trainer(model(), directory)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 6
    return again.model


row = rowkit.Row("Hugging Face transformers", lambda: transformers.__version__)
row.add("save_pretrained", "in shards of 2 MB; `from_pretrained`", model, save, load, weights, predict)
row.add(
    "Trainer",
    "`save_steps=2`, `save_total_limit=2`, 6 steps of training timed with them; `train(resume_from_checkpoint=True)`",
    model,
    train,
    resume,
    weights,
    predict,
    needs=["accelerate"],
)

if __name__ == "__main__":
    row.main()
