"""TensorFlow bundles (tf.train.Checkpoint, tf.compat.v1.train.Saver): an index and the data files that it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from modelfs import limits
from modelfs.convert.files import StoredFile
from modelfs.convert.model import Model, Tensor, apart
from modelfs.errors import UsageError
from modelfs.formats import tfbundle

INDEX: Final = ".index"


def read(index: StoredFile, beside: Callable[[str], StoredFile]) -> Model:
    """Every tensor of numbers, by its key. ``beside``: the file of that name next to the index."""
    found = tfbundle.read_index(index.read(0, index.size)) if index.size <= tfbundle.INDEX_MAX else None
    if found is None or not 0 < found.shards <= limits.MODEL_FILES_MAX:
        raise UsageError(f"{index.path} is no index of a TensorFlow bundle")
    if not found.little:
        raise UsageError(f"{index.path} was written on a big-endian machine")
    prefix = index.path.rpartition("/")[2].removesuffix(INDEX)
    files: dict[int, StoredFile] = {}
    tensors = []
    for shard, sliced, span in found.entries:
        if not 0 <= shard < found.shards:
            raise UsageError(f"{index.path}: tensor {span.name[:200]!r} is in a file that is not there")
        if sliced:
            raise UsageError(f"tensor {span.name[:200]!r} is stored in slices")
        if span.dtype == tfbundle.STRING:
            continue
        if shard not in files:
            files[shard] = beside(f"{prefix}.data-{shard:05}-of-{found.shards:05}")
        tensors.append(Tensor(span.name, span.dtype, span.shape, files[shard], span.offset, span.length))
    apart(tuple(tensors))
    texts = tuple(span.name for _, _, span in found.entries if span.dtype == tfbundle.STRING)
    return Model("TensorFlow", tuple(tensors), left_out=texts)
