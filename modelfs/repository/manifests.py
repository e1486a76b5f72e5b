"""Manifests and tensor tables: what a file consists of. Written once, verified on arrival, kept decoded."""

from __future__ import annotations

from typing import Final

from modelfs import limits
from modelfs.formats.layout import Layout, Span
from modelfs.ids import ManifestId
from modelfs.repository.meta import MetaObjects
from modelfs.repository.objects import Manifest, TensorSpan, TensorTable
from modelfs.repository.packing import pack_manifest, pack_tensors, unpack_manifest, unpack_tensors

_WHAT: Final = "manifest"
_TENSORS: Final = "tensor table"


class Manifests:
    """Reads and writes manifests."""

    def __init__(self, meta: MetaObjects) -> None:
        self._meta = meta

    def read(self, manifest_id: ManifestId) -> Manifest:
        """The manifest, or CorruptError / NotFoundError naming it."""
        return self._meta.load(_WHAT, manifest_id, unpack_manifest)

    def recall(self, manifest_id: ManifestId) -> Manifest | None:
        """The manifest if it is in memory."""
        found = self._meta.recall(_WHAT, manifest_id)
        return found if isinstance(found, Manifest) else None

    def write(self, manifest: Manifest) -> ManifestId:
        """Store a manifest whose chunks and tensor table are in the store already."""
        plain = pack_manifest(manifest)
        manifest_id = ManifestId(self._meta.ids.digest(plain))
        self._meta.save(manifest_id, plain)
        self._meta.remember(_WHAT, manifest_id, manifest, len(plain))
        return manifest_id

    def read_layout(self, manifest: Manifest) -> Layout | None:
        """Where the tensors of the file lie, if its format was known to who wrote it. Errors as `read`."""
        if not manifest.tensors:
            return None
        table = self.read_table(manifest.tensors)
        spans = tuple(Span(t.offset, t.length, t.dtype, t.shape, t.name) for t in table.tensors)
        return Layout(table.format, spans, manifest.size)

    def read_table(self, table: bytes) -> TensorTable:
        """A tensor table. Errors as `read`."""
        return self._meta.load(_TENSORS, table, unpack_tensors)

    def write_layout(self, layout: Layout) -> bytes:
        """Store the tensor table of a layout: its id; b"" for one that the format has no room for."""
        spans = layout.spans
        if not spans or len(spans) > limits.TENSOR_TABLE_MAX or any(not _fits(span) for span in spans):
            return b""
        tensors = tuple(TensorSpan(s.offset, s.length, s.dtype, s.shape, s.name) for s in spans)
        plain = pack_tensors(TensorTable(layout.format, tensors))
        table_id = self._meta.ids.digest(plain)
        self._meta.save(table_id, plain)
        return table_id


def _fits(span: Span) -> bool:
    shape_fits = len(span.shape) <= 64 and all(0 <= n <= limits.FILE_SIZE_MAX for n in span.shape)
    # A lone surrogate is a name in Python but not in msgpack.
    return len(span.dtype) <= 16 and len(span.name) <= limits.PATH_MAX and span.name.isprintable() and shape_fits
