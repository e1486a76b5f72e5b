"""Manifests: what a file consists of. Written once, verified on arrival, kept decoded."""

from __future__ import annotations

from typing import Final

from modelfs.ids import ManifestId, digest
from modelfs.repository.meta import MetaObjects
from modelfs.repository.objects import Manifest
from modelfs.repository.packing import pack_manifest, unpack_manifest

_WHAT: Final = "manifest"


class Manifests:
    """Reads and writes manifests."""

    def __init__(self, meta: MetaObjects) -> None:
        self._meta = meta

    def read(self, manifest_id: ManifestId) -> Manifest:
        """The manifest, or CorruptError / NotFoundError naming it."""
        return self._meta.load(_WHAT, manifest_id, unpack_manifest)

    def write(self, manifest: Manifest) -> ManifestId:
        """Store a manifest whose chunks are in the store already."""
        plain = pack_manifest(manifest)
        manifest_id = ManifestId(digest(plain))
        self._meta.save(manifest_id, plain)
        self._meta.remember(_WHAT, manifest_id, manifest, len(plain))
        return manifest_id
