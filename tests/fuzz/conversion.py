"""Sources of `modelfs convert`: whatever a model's file says, it is read as it is, or refused in one line."""

from __future__ import annotations

from fuzz import mutate
from fuzz.target import CORPUS, Target
from modelfs import limits
from modelfs.convert.conversion import TARGETS
from modelfs.convert.files import StoredFile
from modelfs.convert.model import Model, checked
from modelfs.convert.opening import read_file
from modelfs.convert.plan import Plan
from modelfs.convert.sources import tfbundle
from modelfs.errors import UsageError
from modelfs.repository.objects import Entry, Kind
from modelfs.repository.repository import Repository

_FORMATS = ("safetensors", "npz", "pt", "gguf")  # h5 makes a file for each, tf is the same for whoever reads it


def conversion() -> list[Target]:
    """One target a format."""
    files = {path.name: path.read_bytes() for path in sorted((CORPUS / "formats").glob("*"))}
    found = []
    for name in ("safetensors", "zip", "gguf", "hdf5"):
        seeds = tuple(data for file, data in files.items() if file.startswith(f"{name}-"))
        mutations = (mutate.blind, mutate.pickle) if name == "zip" else (mutate.blind,)
        found.append(Target(f"convert-{name}", _run, seeds, (UsageError,), mutations, 64 * limits.MiB))
    bundle = files["tensorflow-index"]
    return [*found, Target("convert-tensorflow", _bundle, (bundle,), (UsageError,), memory=48 * limits.MiB)]


def stored(data: bytes, repo: Repository | None = None) -> StoredFile:
    """A file in memory."""
    return StoredFile(repo, Entry(b"f", Kind.INLINE, 0o644, 0, 0, 0, len(data), data), "f")  # type: ignore[arg-type]


def _run(data: bytes) -> None:
    _convert(checked(read_file(stored(data))))


def _bundle(data: bytes) -> None:
    _convert(checked(tfbundle.read(stored(data), lambda name: stored(bytes(256)))))


def _convert(model: Model) -> None:
    assert sum(tensor.length for tensor in model.tensors) == model.size
    refused = 0
    for format in _FORMATS:
        try:
            planned = TARGETS[format](model, "f", lambda count: None)
        except UsageError:
            refused += 1
            continue
        for _, plan in planned:
            _same(model, checked(read_file(stored(plan.read(0, plan.size)))), plan)
    assert refused < len(_FORMATS), "safetensors or PyTorch takes anything"


def _same(before: Model, after: Model, plan: Plan) -> None:
    assert plan.size < 10 * before.size + 1000 * len(before.tensors) + 10_000
    assert _contents(before) == _contents(after)


def _contents(model: Model) -> dict[str, object]:
    return {t.name: (t.dtype, t.shape, t.file.read(t.offset, t.length)) for t in model.tensors}
