"""From a path in a store to a model: which files it is made of, and in which format."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from modelfs import limits
from modelfs.convert.files import StoredFile
from modelfs.convert.model import Model, Tensor, checked
from modelfs.convert.sources import gguf, hdf5, npz, safetensors, tfbundle, torch, ziparchive
from modelfs.errors import UsageError
from modelfs.ids import TreeId
from modelfs.repository.objects import Entry, Kind
from modelfs.repository.repository import Repository

SHARDS: Final = ".index.json"  # of a checkpoint in several files, as Hugging Face lays them out
_MODEL: Final = re.compile(r".*\.(safetensors|pt|pth|bin|ckpt|npz|h5|hdf5|gguf)")
_SHARD: Final = re.compile(r".*-\d{5}-of-\d{5}\.[a-z]+")

Read = Callable[[StoredFile], Model]
_READERS: Final[tuple[tuple[Callable[[bytes], bool], Read], ...]] = (
    (gguf.looks_like, gguf.read),
    (hdf5.looks_like, hdf5.read),
    (safetensors.looks_like, safetensors.read),
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A model and where it was found. ``stem``: its name without suffixes; ``files``: all that it was read from."""

    model: Model
    stem: str
    suffix: str
    files: tuple[StoredFile, ...]


def open_model(repo: Repository, root: Entry, path: str) -> Opened:
    """The model at ``path``: a file, the index of a sharded one, a TensorFlow bundle's prefix or index, or a directory
    that holds one model. UsageError for everything else, hostile files included."""
    return _Opening(repo, root).open(path.strip("/"))


def read_file(file: StoredFile) -> Model:
    """The model in one file, as it says itself. UsageError when it makes no sense; see `checked` too."""
    head = file.read(0, 64)
    if head.startswith(b"PK"):
        members = list(ziparchive.members(file))
        if any(map(torch.is_program, members)):
            return torch.read(file, members)
        if any(member.name.endswith(".npy") for member in members):
            return npz.read(file, members)
    for looks_like, read in _READERS:
        if looks_like(head):
            return read(file)
    raise UsageError(f"{file.path} is of no format that can be converted (PyTorch before 1.6 is none either)")


class _Opening:
    def __init__(self, repo: Repository, root: Entry) -> None:
        self._repo = repo
        self._root = root
        self._files: list[StoredFile] = []

    def open(self, path: str) -> Opened:
        entry = self._repo.find(self._root, os.fsencode(path))
        if entry is not None and entry.kind is Kind.DIRECTORY:
            path = self._in_directory(path, entry)
            entry = self._repo.find(self._root, os.fsencode(path))
        if entry is None and self._repo.find(self._root, os.fsencode(path + tfbundle.INDEX)) is not None:
            path += tfbundle.INDEX
        elif entry is None:
            raise UsageError(f"{self._repo.store.url} has no {path}")
        name = path.rpartition("/")[2]
        if name.endswith(SHARDS):
            model, name = self._sharded(path), name.removesuffix(SHARDS)
        elif name.endswith(tfbundle.INDEX):
            model = tfbundle.read(self._file(path), lambda beside: self._file(_beside(path, beside)))
        else:
            model = read_file(self._file(path))
        stem, dot, suffix = name.rpartition(".")
        return Opened(checked(model), stem if dot else name, suffix if dot else "", tuple(self._files))

    def _file(self, path: str) -> StoredFile:
        entry = self._repo.find(self._root, os.fsencode(path))
        if entry is None:
            raise UsageError(f"{self._repo.store.url} has no {path}")
        file = StoredFile(self._repo, entry, path)
        self._files.append(file)
        return file

    def _in_directory(self, path: str, directory: Entry) -> str:
        names = [os.fsdecode(entry.name) for entry in self._repo.list(TreeId(directory.content))]
        found = [name for name in names if name.endswith(SHARDS)]
        found = found or [name for name in names if _MODEL.fullmatch(name) and not _SHARD.fullmatch(name)]
        found = found or [name for name in names if name.endswith(tfbundle.INDEX)]
        if len(found) != 1:
            many = "no model" if not found else f"several models ({', '.join(sorted(found)[:5])})"
            raise UsageError(f"{path or 'the root of the store'} holds {many}: name one file")
        return f"{path}/{found[0]}" if path else found[0]

    def _sharded(self, path: str) -> Model:
        """Several files, and an index that says which tensor is in which."""
        places = _weight_map(self._file(path))
        names = sorted(set(places.values()))
        if len(names) > limits.MODEL_FILES_MAX or any("/" in name or name in ("", ".", "..") for name in names):
            raise UsageError(f"{path}: names of shards make no sense")
        models = {name: read_file(self._file(_beside(path, name))) for name in names}
        here = {(tensor.name, name) for name, model in models.items() for tensor in model.tensors}
        missing = next((pair for pair in places.items() if pair not in here), None)
        if missing is not None:
            raise UsageError(f"{path}: tensor {missing[0][:200]!r} is not in {missing[1][:200]}")
        tensors: list[Tensor] = []
        left_out: list[str] = []
        for name, model in models.items():
            left_out += model.left_out
            for tensor in model.tensors:
                if places.get(tensor.name) == name:
                    tensors.append(tensor)
                else:
                    left_out.append(tensor.name)
        first = models[names[0]] if names else Model("safetensors", ())
        return Model(first.format, tuple(tensors), first.metadata, tuple(left_out))


def _beside(path: str, name: str) -> str:
    directory = path.rpartition("/")[0]
    return f"{directory}/{name}" if directory else name


def _weight_map(file: StoredFile) -> dict[str, str]:
    try:
        if file.size > limits.MODEL_INDEX_MAX:
            raise ValueError("it is too long")
        index: dict[str, Any] = msgspec.json.decode(file.read(0, file.size), type=dict[str, Any])
        return msgspec.convert(index.get("weight_map"), dict[str, str])
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file.path} is no index of a sharded model: {error}") from error
