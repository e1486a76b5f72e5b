"""A model of one commit becomes files of the next one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from modelfs.convert import shards
from modelfs.convert.compose import Composed, compose
from modelfs.convert.opening import SHARDS, Opened, open_model
from modelfs.convert.plan import Plan
from modelfs.convert.shards import Planner
from modelfs.convert.targets import gguf, hdf5, npz, safetensors, tfbundle, torch
from modelfs.errors import UsageError
from modelfs.ids import TreeId
from modelfs.repository.graft import graft
from modelfs.repository.objects import CommitRecord, Kind
from modelfs.repository.repository import Repository

TARGETS: Final[Mapping[str, Planner]] = MappingProxyType(
    {
        "safetensors": safetensors.plan,
        "pt": torch.plan,
        "npz": npz.plan,
        "gguf": gguf.plan,
        "h5": hdf5.plan,
        "tf": tfbundle.plan,
    }
)
_SUFFIXES: Final = {"pth": "pt", "bin": "pt", "ckpt": "pt", "hdf5": "h5", "index": "tf"} | {
    name: name for name in TARGETS
}
_IN_PARTS: Final = {safetensors.FORMAT: "safetensors", torch.FORMAT: "pt"}

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion made. ``files``: by path; ``record``: the commit."""

    record: CommitRecord
    opened: Opened
    files: Mapping[str, Composed] = field(default_factory=dict)

    @property
    def sent(self) -> int:
        """Bytes that went to the store for the files, beside metadata."""
        return sum(made.sent for made in self.files.values())

    @property
    def shared(self) -> int:
        """Bytes of the files in chunks that the store had of the source."""
        return sum(made.shared for made in self.files.values())


def format_of(name: str) -> str | None:
    """The format that a file name says, a key of `TARGETS`."""
    return _SUFFIXES.get(name.removesuffix(SHARDS).rpartition(".")[2])


class Conversion:
    """Reads from the commit ``source`` and commits to ``branch``."""

    def __init__(self, repo: Repository, source: CommitRecord, branch: str, message: str) -> None:
        self._repo = repo
        self._source = source
        self._branch = branch
        self._message = message
        self._base = repo.resolve(branch)

    def open(self, path: str) -> Opened:
        """The model at ``path``, that will stay while it is converted."""
        found = open_model(self._repo, self._source.commit.root, path)
        for file in found.files:
            self._repo.adopt(self._source, file.entry)
            self._repo.known(file.chunks())
        return found

    def convert(self, found: Opened, target: str, format: str | None, limit: int, progress: Progress) -> Converted:
        """Write the model as ``target``; ``format`` None: as its name says. ``limit``: bytes of a part if that is the
        name of an index. UsageError."""
        directory, slash, name = target.strip("/").rpartition("/")
        format = format or format_of(name)
        if format is None:
            raise UsageError(f"{target}: no name of a known format ({', '.join(sorted(_SUFFIXES))}): give one, or --to")
        if not name.endswith(SHARDS):
            return self._write(found, directory + slash, TARGETS[format](found.model, name, progress))
        if format not in _IN_PARTS.values():
            raise UsageError(f"{target}: only {' and '.join(_IN_PARTS)} come in several files")
        name = name.removesuffix(SHARDS)
        name = name if "." in name else f"{name}.{format}"
        plans = shards.plan(found.model, name, limit, TARGETS[format], progress, index=True)
        return self._write(found, directory + slash, plans)

    def split(self, found: Opened, directory: str, limit: int, progress: Progress) -> Converted:
        """Spread the model over files of at most ``limit`` bytes of tensors, in a directory without others."""
        format, suffix = self._kept(found)
        there = self._repo.find(self._base.commit.root, os.fsencode(directory))
        if there is not None and (there.kind is not Kind.DIRECTORY or any(self._repo.list(TreeId(there.content)))):
            raise UsageError(f"{directory} is there already, and not an empty directory")
        name = f"{found.stem}.{suffix}"
        plans = shards.plan(found.model, name, limit, TARGETS[format], progress, index=False)
        return self._write(found, f"{directory}/" if directory else "", plans)

    def merge(self, found: Opened, target: str, progress: Progress) -> Converted:
        """Put the model into one file of its own format."""
        format, suffix = self._kept(found)
        if format_of(target.rpartition("/")[2]) != format or target.endswith(SHARDS):
            raise UsageError(f"{target}: the name of a .{suffix} file is expected; `modelfs convert` changes formats")
        return self.convert(found, target, format, 0, progress)

    def _kept(self, found: Opened) -> tuple[str, str]:
        """Format and suffix of a model that keeps its format."""
        format = _IN_PARTS.get(found.model.format)
        if format is None:
            raise UsageError(
                f"{found.files[0].path} is {found.model.format}; {' and '.join(_IN_PARTS)} come in several files"
            )
        return format, found.suffix if format_of(f"x.{found.suffix}") == format else format

    def _write(self, found: Opened, where: str, plans: list[tuple[str, Plan]]) -> Converted:
        root = self._base.commit.root
        for name, _ in plans:
            there = self._repo.find(root, os.fsencode(where + name))
            if there is not None and there.kind is Kind.DIRECTORY:
                raise UsageError(f"{where}{name} is a directory")
        mode = found.files[0].entry.mode
        files = {where + name: compose(self._repo, plan, mode) for name, plan in plans}
        puts = {os.fsencode(path): made.entry for path, made in files.items()}
        size = sum(made.entry.size for made in files.values())
        made = graft(self._repo, root, puts)
        record = self._repo.commit(self._branch, self._base, made, self._message, len(files), size)
        return Converted(record, found, files)
