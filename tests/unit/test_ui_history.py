"""Pages of histories: nothing is walked to, what is known is not asked for again, and what commits saved is right."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from repository_store import DictStore, inline, puts, root

from modelfs import limits
from modelfs.errors import LockedError, UnknownRefError, UsageError
from modelfs.ids import TreeId
from modelfs.repository.access import Access
from modelfs.repository.objects import EMPTY_TREE, Entry, Extent, Kind, Manifest, TreeDelta
from modelfs.repository.repository import Repository
from modelfs.ui import browse
from modelfs.ui.history import History
from modelfs.ui.savings import Savings
from modelfs.ui.stores import OpenStore, Stores


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def repo(store: DictStore) -> Repository:
    return Repository.create(store)


def commit(repo: Repository, *entries: Entry, deletes: frozenset[bytes] = frozenset()) -> None:
    head = repo.head()
    assert head is not None
    delta = TreeDelta(puts={entry.name: entry for entry in entries}, deletes=set(deletes))
    repo.commit("main", head, root(repo.apply(TreeId(head.commit.root.content), delta)), "")


def file(repo: Repository, name: bytes, *pieces: bytes, at: int = 0) -> Entry:
    """A file of chunks with these contents."""
    extents = tuple(Extent(repo.write_chunk(piece)[0], len(piece)) for piece in pieces)
    size = sum(map(len, pieces))
    return Entry(name, Kind.FILE, 0o644, 0, 0, at, size, repo.write_manifest(Manifest(size, extents)))


def piece(number: int) -> bytes:
    return bytes([number]) * 300_000


def test_a_page_reads_its_own_commits_and_a_second_look_only_the_head(repo: Repository, store: DictStore) -> None:
    for i in range(60):
        commit(repo, inline(b"f", b"%d" % i))
    fresh = Repository.open(store)
    history = History(fresh)
    history.page("main")
    store.reset()
    page = history.page("main", start=30, count=10)
    assert [record.number for record, _ in page.rows] == list(range(30, 20, -1))
    assert (page.head, page.newer, page.older) == (61, 40, 20)
    assert store.calls["list"] == 0
    assert store.calls["get"] < 25  # ten, and each with its neighbour, and the head
    store.reset()
    assert history.page("main", start=30, count=10) == page
    assert store.calls["get"] <= 2
    assert store.calls["list"] == 0


def test_pages_lead_to_each_other_until_the_end(repo: Repository) -> None:
    for i in range(12):
        commit(repo, inline(b"f", b"%d" % i))
    history = History(repo)
    numbers, start = [], None
    while True:
        page = history.page("main", start, count=5)
        numbers += [record.number for record, _ in page.rows]
        if page.older is None:
            break
        start = page.older
    assert numbers == list(range(13, 0, -1))
    assert page.rows[-1][1] is None
    assert history.page("main", 0).rows[0][0].number == 1
    assert history.page("main", 10**18).rows[0][0].number == 13
    with pytest.raises(UnknownRefError):
        history.page("none")
    with pytest.raises(UsageError):
        history.page("../x")


def test_branches_are_listed_once_a_minute(repo: Repository, store: DictStore) -> None:
    history, now = History(repo), [0.0]
    names = history.names(lambda: now[0])
    assert (names.branches, names.tags) == (("main",), ())
    store.reset()
    now[0] = limits.UI_NAMES_FRESH - 1
    history.names(lambda: now[0])
    assert not store.calls
    now[0] += 2
    history.names(lambda: now[0])
    assert store.calls["list"]


@pytest.fixture
def brought(repo: Repository) -> Callable[[], Savings]:
    """What the newest commit brought."""

    def ask() -> Savings:
        async def main() -> Savings:
            opened = OpenStore(repo.format.id, "dict://test", Access(), repo)
            record = repo.head()
            assert record is not None
            return await opened.brought(record, History(repo).before(record))

        return trio.run(main)

    return ask


def stored(repo: Repository, store: DictStore, *pieces: bytes) -> int:
    keys = {key for key in store.data if key.startswith("data/")}
    ids = {repo.ids.digest(one).hex() for one in pieces}
    return sum(len(store.data[key]) for key in keys if "".join(key.split("/")[1:]) in ids)


def test_savings(repo: Repository, store: DictStore, brought: Callable[[], Savings]) -> None:
    commit(repo, file(repo, b"a", piece(1), piece(2)), inline(b"note", b"xyz"))
    first = brought()
    assert (first.paths, first.logical, first.new) == (2, 600_003, 600_003)
    assert first.stored == stored(repo, store, piece(1), piece(2)) + 3
    assert first.exact
    # The same beginning, under another name: only the rest is new, and the name before does not matter.
    commit(repo, file(repo, b"b", piece(1), piece(3)))
    second = brought()
    assert (second.paths, second.logical, second.new) == (1, 600_000, 300_000)
    assert second.stored == stored(repo, store, piece(3))
    assert second.saved is not None
    assert second.saved > 0.5
    # A rename brings nothing.
    commit(repo, file(repo, b"c", piece(1), piece(3)), deletes=frozenset((b"b",)))
    assert (brought().paths, brought().logical, brought().new, brought().stored) == (2, 600_000, 0, 0)
    # What a commit only deletes has no share.
    commit(repo, deletes=frozenset((b"c",)))
    assert brought().saved is None


def test_what_is_too_much_is_said_to_be_at_least(
    repo: Repository, brought: Callable[[], Savings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UI_COMPARED", 1)
    commit(repo, *(file(repo, b"f%d" % i, piece(i), at=i) for i in range(5)))
    commit(repo, file(repo, b"again", piece(4), piece(0)))
    found = brought()
    assert (found.new, found.exact) == (300_000, False)
    monkeypatch.setattr(limits, "UI_CHANGES", 3)
    commit(repo, *(inline(b"g%d" % i, b"1") for i in range(5)))
    found = brought()
    assert (found.paths, found.logical, found.exact) == (3, 3, False)


def test_known_savings_ask_nobody(repo: Repository, store: DictStore) -> None:
    commit(repo, file(repo, b"a", piece(1)))

    async def main() -> None:
        opened = OpenStore(repo.format.id, "dict://test", Access(), repo)
        record = repo.head()
        assert record is not None
        first = await opened.brought(record, None)
        store.reset()
        assert await opened.brought(record, None) == first
        assert not store.calls

    trio.run(main)


def test_a_page_of_a_large_directory_does_not_read_the_pages_before(repo: Repository, store: DictStore) -> None:
    names = [b"%06d" % i for i in range(12_000)]
    entry = root(repo.apply(EMPTY_TREE, puts(*map(inline, names))))
    fresh = Repository.open(store)
    store.reset()
    found = browse.directory(fresh, entry, b"010000", count=50)
    assert [e.name for e in found.entries] == names[10_000:10_050]
    assert (found.count, found.following) == (12_000, b"010050")
    assert store.calls["get"] <= 4
    last = browse.directory(fresh, entry, b"011990", count=50)
    assert (len(last.entries), last.following) == (10, None)
    assert browse.directory(fresh, entry, b"zzz").entries == ()


def test_a_store_that_cannot_be_opened_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def opener(url: str, access: Access) -> Any:
        tried.append(url)
        raise LockedError("it is encrypted")

    monkeypatch.setattr("modelfs.ui.stores.open_repository", opener)

    async def main() -> None:
        opened = OpenStore("ab" * 8, "dict://test", Access())
        for _ in range(3):
            with pytest.raises(LockedError):
                await opened.ask(lambda repo, history: None)

    trio.run(main)
    assert tried == ["dict://test"]


def test_a_slow_store_holds_its_own_threads_only(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(limits, "UI_TIMEOUT", 0.2)

    async def main() -> None:
        slow = OpenStore("ab" * 8, "dict://slow", Access(), repo)
        other = OpenStore("cd" * 8, "dict://other", Access(), repo)
        for _ in range(limits.UI_STORE_THREADS + 2):
            with pytest.raises(trio.TooSlowError):
                await slow.ask(lambda repo, history: gate.wait(30))
        assert slow.threads.borrowed_tokens == limits.UI_STORE_THREADS
        head = await other.ask(lambda repo, history: repo.head())
        assert head is not None
        gate.set()

    try:
        trio.run(main)
    finally:
        gate.set()


def test_no_more_stores_than_there_is_room_for(repo: Repository, tmp_path: Any) -> None:
    stores = Stores(Access())

    async def main() -> None:
        stores.add(repo)
        for i in range(100):
            stores.mounted(f"{i:016x}", f"dict://{i}", tmp_path)
        assert len(stores.all()) == limits.UI_STORES
        assert stores.get(repo.format.id).url == "dict://test"
        with pytest.raises(UnknownRefError):
            stores.get("ff" * 8)

    trio.run(main)
