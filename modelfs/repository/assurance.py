"""Before a commit: is everything that it will be the first to refer to really there, and will it stay?

What the head reaches is safe, because the new commit follows it; so is what any commit reaches that is not condemned.
The rest (new pages, manifests, chunks, and what was moved in from elsewhere) must be known to be in the store under a
list of condemned objects that is not stale. What is not known is asked for; what is condemned or gone is written
again, from this machine's copy if the store has none, and the sentence is seen to be lifted. docs/store-format.md,
"Collection", has the argument. `Repository.commit` calls it, and whoever takes objects over from an old commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from modelfs import limits
from modelfs.errors import ConflictError, CorruptError, NotFoundError
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.repository import gcformat as gc
from modelfs.repository.chunks import Chunks
from modelfs.repository.condemned import Condemned
from modelfs.repository.manifests import Manifests
from modelfs.repository.meta import MetaObjects
from modelfs.repository.objects import EMPTY_TREE, Entry, Kind, Manifest, PageRef
from modelfs.repository.packing import pack_manifest, pack_page, pack_tensors
from modelfs.repository.pages import Page
from modelfs.repository.presence import Presence
from modelfs.repository.reachable import Reachable, Reached, What
from modelfs.repository.trees import Trees


class Assurance:
    """Sees to it that what a commit refers to is there. Safe to use from many threads."""

    def __init__(
        self,
        condemned: Condemned,
        chunks: Chunks,
        meta: MetaObjects,
        manifests: Manifests,
        trees: Trees,
    ) -> None:
        self._condemned = condemned
        self._chunks = chunks
        self._meta = meta
        self._manifests = manifests
        self._trees = trees

    # -- what the walk asks -------------------------------------------------------------------------------------

    def read_page(self, tree: TreeId) -> Page:
        """One page."""
        return self._trees.page(tree)

    def read_manifest(self, manifest: ManifestId) -> Manifest:
        """One manifest."""
        return self._manifests.read(manifest)

    # -- a commit -----------------------------------------------------------------------------------------------

    def commit(self, before: bytes, root: Entry, reached: Collection[bytes]) -> None:
        """Everything that ``root`` reaches is in the store and stays there if the commit is written at once.
        ``before``: tree of the head that it will follow; ``reached``: as `Commits.commit` has it.

        NotFoundError, CorruptError for what is gone for good; ConflictError when a collection leaves no chance.
        """
        self._condemned.keep_fresh()
        self._hold(list(self.first_to_refer(TreeId(before), TreeId(root.content), reached)))

    def adopt(self, entry: Entry) -> None:
        """Everything that ``entry`` of a condemned commit reaches is in the store and its sentences are lifted."""
        self._condemned.keep_fresh()
        self._hold([found for found in Reachable(self).walk(entry) if self._presence(found).condemned(found.id)])

    def first_to_refer(self, before: TreeId, after: TreeId, reached: Collection[bytes]) -> Iterator[Reached]:
        """Objects below ``after`` that the tree ``before`` does not reach, as far as comparing the two tells."""
        left: set[bytes] = set(reached)  # what the head reaches, or has at another place
        whole: list[tuple[bytes, Entry]] = []
        work = [(b"", before, after)] if after not in left else []
        while work:
            path, old, new = work.pop()
            if old == new:
                continue
            yield from self._new_pages(old, new, path)
            for name, a, b in self._trees.diff(old, new):
                below = path + b"/" + name if path else name
                if a is not None and a.kind in (Kind.FILE, Kind.DIRECTORY):
                    left.add(a.content)
                if b is None or b.kind not in (Kind.FILE, Kind.DIRECTORY) or (a and a.content == b.content):
                    continue
                if a is not None and a.kind is b.kind is Kind.DIRECTORY:
                    work.append((below, TreeId(a.content), TreeId(b.content)))
                else:
                    whole.append((below, b))
        reach = Reachable(self)
        yield from reach.walk_all((path, entry) for path, entry in whole if entry.content not in left)

    def _new_pages(self, old: TreeId, new: TreeId, path: bytes) -> Iterator[Reached]:
        had = set(self._pages(old))
        for page in self._pages(new):
            if page not in had:
                yield Reached(What.PAGE, page, path)

    def _pages(self, tree: TreeId) -> Iterator[bytes]:
        """Ids of all pages of one directory. Its leaves are not read."""
        work: list[tuple[bytes, bool]] = [] if tree == EMPTY_TREE else [(tree, True)]
        while work:
            page_id, index = work.pop()
            yield page_id
            if index:
                page = self._trees.page(TreeId(page_id))
                work += [(item.id, page.level > 1) for item in page.items if isinstance(item, PageRef)]

    # -- what is there and stays --------------------------------------------------------------------------------

    def _hold(self, needed: list[Reached]) -> None:
        with ThreadPoolExecutor(limits.STORE_CONCURRENCY, "assure") as pool:
            for _ in range(limits.GC_ROUNDS):
                doubted = [found for found in needed if not self._known(found)]
                for done in [pool.submit(self._bring, found) for found in doubted]:
                    done.result()
                if self._lifted(needed) and not self._condemned.stale():
                    return
                self._condemned.refresh()
        raise ConflictError("a collection condemns what this commit needs again and again: try again later")

    def _lifted(self, needed: Iterable[Reached]) -> bool:
        """True when no object that was written again can be deleted any more. Waits for runs that are at work."""
        areas: dict[str, set[bytes]] = {gc.DATA: set(), gc.META: set()}
        for found in needed:
            if self._presence(found).pardoned(found.id):
                areas[gc.DATA if found.what is What.CHUNK else gc.META].add(found.id)
        return all(not ids or self._condemned.lifted(area, ids) for area, ids in areas.items())

    def _presence(self, found: Reached) -> Presence:
        return self._chunks.presence if found.what is What.CHUNK else self._meta.presence

    def _known(self, found: Reached) -> bool:
        presence = self._presence(found)
        return presence.known(found.id) and not presence.doubtful(found.id)

    def _bring(self, found: Reached) -> None:
        """The object is in the store and not condemned; else it is written again."""
        try:
            if found.what is What.CHUNK:
                chunk = ChunkId(found.id)
                if self._chunks.presence.doubtful(chunk) or not self._chunks.stored(chunk):
                    self._chunks.restore(chunk, found.length)
            elif self._meta.presence.doubtful(found.id) or not self._meta.stored(found.id):
                self._write_meta(found)
        except (NotFoundError, CorruptError) as error:
            place = repr(found.path)[1:]
            raise type(error)(f"{place} cannot be committed: {error}", found.key) from error

    def _write_meta(self, found: Reached) -> None:
        if found.what is What.MANIFEST:
            plain = pack_manifest(self._manifests.read(ManifestId(found.id)))
        elif found.what is What.PAGE:
            page = self._trees.page(TreeId(found.id))
            plain = pack_page(page.level, page.items)
        else:
            plain = pack_tensors(self._manifests.read_table(found.id))
        if self._meta.ids.digest(plain) != found.id:
            raise CorruptError(f"{found.what.value} {found.id.hex()} is not in its shortest form", found.key)
        self._meta.save(found.id, plain)
