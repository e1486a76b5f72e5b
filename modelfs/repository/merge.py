"""Three-way merge of directory trees: our changes since ``base``, laid over ``theirs``.

The rule, for every name: where ours differs from base, ours; else theirs. Two directories are merged inside. A
directory that meets something that is not one is merged as if that were an empty directory, and stays if entries
remain; so what they changed under a path that we did not change is not lost with the directory around it, and
neither is what we changed. (A file of ours does replace a directory of theirs: one path cannot hold both.)
Content and each attribute are merged by themselves: who only changed a mode or a time does not bring back the content
that he saw. Only parts that both sides changed are read.
Files with several names are brought into line first (`linkmerge`).
"""

from __future__ import annotations

import msgspec

from modelfs import limits
from modelfs.errors import CorruptError
from modelfs.ids import TreeId
from modelfs.repository.filemerge import attributes_of, merge_files
from modelfs.repository.linkmerge import align
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind, TreeDelta
from modelfs.repository.trees import Trees


class Merge:
    """Merges trees of one store."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees

    def roots(self, base: Entry, ours: Entry, theirs: Entry) -> Entry:
        """The merged root of a commit."""
        base, ours, theirs = align(self._trees, base, ours, theirs)
        tree = self.trees(TreeId(base.content), TreeId(ours.content), TreeId(theirs.content))
        return self._attributes(base, ours, theirs, tree)

    def trees(self, base: TreeId, ours: TreeId, theirs: TreeId, depth: int = 0) -> TreeId:
        """The merged directory; its pages are in the store on return."""
        if ours in (base, theirs):
            return theirs
        if base == theirs:
            return ours
        if depth > limits.TREE_DEPTH_MAX:
            raise CorruptError(f"directories nested deeper than {limits.TREE_DEPTH_MAX} in the store")
        delta = TreeDelta()
        for name, b, o in self._trees.diff(base, ours):
            t = self._trees.lookup(theirs, name)
            merged = self._name(b, o, t, depth + 1)
            if merged is None:
                delta.deletes.add(name)
            else:
                delta.puts[name] = merged
        return self._trees.apply(theirs, delta)

    def _name(self, b: Entry | None, o: Entry | None, t: Entry | None, depth: int) -> Entry | None:
        """What becomes of a name that we changed, from ``b`` to ``o``, and that is ``t`` with them."""
        if t in (b, o):
            return o
        if b is not None and o is not None and _tree(b) is None and _tree(o) is None:
            return merge_files(b, o, t)
        if _tree(o) is None and (o is not None or _tree(t) is None):
            return o  # no directory is left to look into: ours
        inside = self.trees(_tree(b) or EMPTY_TREE, _tree(o) or EMPTY_TREE, _tree(t) or EMPTY_TREE, depth)
        if o is None:  # we removed the directory; what they put into it meanwhile keeps it
            return self._with(t, inside) if inside != EMPTY_TREE else None
        if _tree(t) is not None:
            return self._attributes(b if _tree(b) is not None else None, o, t, inside)
        # They removed or replaced the directory; what we changed in it, or that we made it, keeps it.
        return self._with(o, inside) if inside != EMPTY_TREE or _tree(b) is None else t

    def _with(self, entry: Entry | None, tree: TreeId) -> Entry:
        assert entry is not None
        return self._trees.directory(entry, tree)

    def _attributes(self, base: Entry | None, ours: Entry, theirs: Entry | None, tree: TreeId) -> Entry:
        """Our directory entry, with the attributes that only they changed."""
        if base is None or theirs is None:
            return self._with(ours, tree)
        made = self._with(theirs if theirs.content == tree else ours, tree)
        return msgspec.structs.replace(
            attributes_of(base, ours, theirs, made),
            mtime_ns=theirs.mtime_ns if ours.mtime_ns == base.mtime_ns else ours.mtime_ns,
            size=theirs.size if ours.size == base.size else ours.size,
        )


def _tree(entry: Entry | None) -> TreeId | None:
    """Tree of a directory; None for everything else."""
    return TreeId(entry.content) if entry is not None and entry.kind is Kind.DIRECTORY else None
