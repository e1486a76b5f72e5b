"""Hugging Face transformers: save_pretrained in shards, and a Trainer that keeps its last two checkpoints."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import rowkit
import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

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


def trainer(made: LlamaForCausalLM, directory: Path, **options: object) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(directory),
        max_steps=8,
        save_total_limit=2,
        per_device_train_batch_size=4,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        seed=7,
        **options,
    )
    return Trainer(made, arguments, train_dataset=Sentences())


def train(made: LlamaForCausalLM, directory: Path) -> None:
    trainer(made, directory, save_steps=2).train()
    kept = sorted(path.name for path in directory.glob("checkpoint-*"))
    assert kept == ["checkpoint-6", "checkpoint-8"], kept


def load_last(directory: Path) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(get_last_checkpoint(directory))


def resume(directory: Path) -> LlamaForCausalLM:
    """From the checkpoint before the last one: only with its optimiser, schedule and random state do two more steps
    give what training without a break gave."""
    with tempfile.TemporaryDirectory() as elsewhere:
        again = trainer(model(), Path(elsewhere), save_strategy="no")
        again.train(resume_from_checkpoint=str(directory / "checkpoint-6"))
    return again.model


row = rowkit.Row("Hugging Face transformers", lambda: transformers.__version__)
row.add("save_pretrained", "in shards of 2 MB; `from_pretrained`", model, save, load, weights, predict)
CALLS = "8 steps of training timed with them, `save_steps=2`, `save_total_limit=2`"
more = {"needs": ["accelerate"]}
row.add("Trainer", f"{CALLS}; `from_pretrained` of the last", model, train, load_last, weights, predict, **more)
row.add("Trainer, resumed", f"{CALLS}; `resume_from_checkpoint`", model, train, resume, weights, predict, **more)

if __name__ == "__main__":
    row.main()
