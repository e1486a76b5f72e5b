"""Which paths of which commits need a damaged object: asked only when there is damage.

`trace` goes over the trees of all commits once more. What lies below a directory is worked out once for each tree id,
however many commits share it, so a long history costs little more than its newest commit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from modelfs import limits
from modelfs.errors import CorruptError, NotFoundError
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.repository.damage import Damages, Sort
from modelfs.repository.keys import meta_key, parse_commit_key
from modelfs.repository.objects import EMPTY_TREE, CommitRecord, Entry, Kind, PageRef
from modelfs.repository.pages import Page
from modelfs.repository.repository import Repository

_Below = dict[bytes, frozenset[str]]  # path -> keys of the damaged objects that it needs
_CLEAN: _Below = {}


def trace(
    repo: Repository,
    commits: Iterable[CommitRecord],
    damages: Damages,
    dependents: Mapping[ChunkId, set[ChunkId]],
) -> None:
    """Note at each damage whom it hurts. ``commits`` in order of branch and number; ``dependents``: of each damaged
    base, the chunks that build on it. A damaged commit hurts everything in it, a tag or a note no path."""
    traced = _Trace(repo, damages, dependents)
    for damage in damages:
        if damage.sort is Sort.COMMIT and (place := parse_commit_key(damage.key)) is not None:
            damage.hurt(b"", *place)
    if not traced.wanted:
        return
    for record in commits:
        for path, keys in sorted(traced.directory(TreeId(record.commit.root.content), 0).items()):
            for key in keys:
                damage = traced.wanted[key]
                damage.hurt(path, record.branch, record.number)


class _Trace:
    """What is known of each tree."""

    def __init__(self, repo: Repository, damages: Damages, dependents: Mapping[ChunkId, set[ChunkId]]) -> None:
        self._repo = repo
        sorts = (Sort.CHUNK, Sort.MANIFEST, Sort.TABLE, Sort.PAGE)
        self.wanted = {damage.key: damage for damage in damages if damage.sort in sorts}
        self._chunks: dict[bytes, set[str]] = {}
        for damage in self.wanted.values():
            if damage.sort is Sort.CHUNK:
                for chunk in (damage.id, *dependents.get(ChunkId(damage.id), ())):
                    self._chunks.setdefault(chunk, set()).add(damage.key)
        self._trees: dict[bytes, _Below] = {}
        self._manifests: dict[bytes, frozenset[str]] = {}

    def directory(self, tree: TreeId, depth: int) -> _Below:
        """What is hurt in and below a directory, by path relative to it; b"" is the directory itself."""
        if tree == EMPTY_TREE or depth > limits.TREE_DEPTH_MAX:
            return _CLEAN
        if (known := self._trees.get(tree)) is not None:
            return known
        below: _Below = {}
        self._note(below, b"", self._about(tree))
        with contextlib.suppress(NotFoundError, CorruptError):  # it is damaged, which is noted
            self._page(self._repo.read_page(tree), None, below, depth)
        self._trees[tree] = below or _CLEAN
        return self._trees[tree]

    def _page(self, page: Page, upper: bytes | None, below: _Below, depth: int) -> None:
        for i, item in enumerate(page.items):
            if isinstance(item, PageRef):
                following = page.items[i + 1].name if i + 1 < len(page.items) else upper
                self._note(below, b"", self._about(item.id))
                with contextlib.suppress(NotFoundError, CorruptError):
                    self._page(self._repo.page_below(item, page.level - 1, following), following, below, depth)
            elif item.kind is Kind.DIRECTORY:
                for path, keys in self.directory(TreeId(item.content), depth + 1).items():
                    self._note(below, item.name + b"/" + path if path else item.name, keys)
            elif item.kind is Kind.FILE:
                self._note(below, item.name, self._file(item))

    def _file(self, entry: Entry) -> frozenset[str]:
        known = self._manifests.get(entry.content)
        if known is not None:
            return known
        keys = set(self._about(entry.content))
        with contextlib.suppress(NotFoundError, CorruptError):
            manifest = self._repo.read_manifest(ManifestId(entry.content))
            keys |= self._about(manifest.tensors)
            for extent in manifest.chunks:
                keys |= self._chunks.get(extent.id, set())
        self._manifests[entry.content] = frozenset(keys)
        return self._manifests[entry.content]

    def _about(self, object_id: bytes) -> frozenset[str]:
        key = meta_key(object_id)
        return frozenset((key,)) if key in self.wanted else frozenset()

    @staticmethod
    def _note(below: _Below, path: bytes, keys: frozenset[str]) -> None:
        if keys:
            below[path] = below.get(path, frozenset()) | keys
