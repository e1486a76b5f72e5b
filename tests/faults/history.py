"""What a store's history says, for tests that compare it with what was acknowledged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from modelfs.ids import ManifestId, TreeId
from modelfs.repository.objects import CommitRecord, Entry, Kind
from modelfs.repository.repository import EMPTY_TREE, Repository
from modelfs.store.open import open_store

ABSENT = "-"


def fingerprint(data: bytes) -> str:
    """A short name for a file's content."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


class History:
    """All commits of a branch, oldest first, and what each of them changed."""

    def __init__(self, store: str, branch: str = "main") -> None:
        self._repo = Repository.open(open_store(store))
        self._prints: dict[bytes, str] = {}
        self.commits: list[CommitRecord] = list(reversed(list(self._repo.log(branch))))
        self.changes: list[dict[str, str]] = []  # for each commit: path -> fingerprint or ABSENT, of files
        before = EMPTY_TREE
        for record in self.commits:
            tree = TreeId(record.commit.root.content)
            self.changes.append(dict(self._differences(before, tree, "")))
            before = tree

    def versions(self, path: str) -> list[tuple[int, str]]:
        """(index of the commit, fingerprint or ABSENT) for each commit that gave ``path`` another content."""
        found: list[tuple[int, str]] = []
        for index, changes in enumerate(self.changes):
            value = changes.get(path)
            if value is not None and value != (found[-1][1] if found else ABSENT):
                found.append((index, value))
        return found

    def paths(self) -> set[str]:
        """Every path that ever held a file."""
        return set().union(*self.changes)

    def final(self) -> dict[str, str]:
        """Path -> fingerprint at the head."""
        files: dict[str, str] = {}
        for changes in self.changes:
            files.update(changes)
        return {path: value for path, value in files.items() if value != ABSENT}

    def doubled(self) -> list[int]:
        """Numbers of commits that repeat the tree before them."""
        pairs = zip(self.commits, self.commits[1:], strict=False)
        return [after.number for before, after in pairs if before.commit.root == after.commit.root]

    def _differences(self, before: TreeId, after: TreeId, above: str) -> Iterator[tuple[str, str]]:
        if before == after:
            return
        for name, old, new in self._repo.diff(before, after):
            path = above + name.decode()
            was, now = _tree(old), _tree(new)
            yield from self._differences(was, now, path + "/")
            if _is_file(old) or _is_file(new):
                yield path, self._print(new) if new is not None and _is_file(new) else ABSENT

    def _print(self, entry: Entry) -> str:
        if entry.kind is Kind.INLINE:
            return fingerprint(entry.content)
        if entry.content not in self._prints:
            manifest = self._repo.read_manifest(ManifestId(entry.content))
            parts = [
                bytes(self._repo.read_chunk(extent.id, extent.length)) if extent.id else bytes(extent.length)
                for extent in manifest.chunks
            ]
            self._prints[entry.content] = fingerprint(b"".join(parts))
        return self._prints[entry.content]


def _tree(entry: Entry | None) -> TreeId:
    return TreeId(entry.content) if entry is not None and entry.kind is Kind.DIRECTORY else EMPTY_TREE


def _is_file(entry: Entry | None) -> bool:
    return entry is not None and entry.kind in (Kind.FILE, Kind.INLINE)
