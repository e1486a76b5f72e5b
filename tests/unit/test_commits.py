"""Branches: nobody's commit is lost, and no history passes that does not fit together."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from repository_store import DictStore, directory, inline, puts

from modelfs import limits
from modelfs.errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptError,
    FormatVersionError,
    NotAStoreError,
    NotFoundError,
    TransientError,
    UsageError,
)
from modelfs.ids import TreeId
from modelfs.repository.history import add_collected
from modelfs.repository.objects import EMPTY_TREE, CommitRecord, Entry, TreeDelta
from modelfs.repository.repository import Repository
from modelfs.store.base import Buffer


def head(repo: Repository, branch: str = "main") -> CommitRecord:
    found = repo.head(branch)
    assert found is not None
    return found


def changed(repo: Repository, base: CommitRecord, delta: TreeDelta) -> Entry:
    root = base.commit.root
    return msgspec.structs.replace(root, content=repo.apply(TreeId(root.content), delta))


def add(repo: Repository, name: bytes, base: CommitRecord | None = None, branch: str = "main") -> CommitRecord:
    """Commit one more file over ``base`` (the head)."""
    base = base or head(repo, branch)
    return repo.commit(branch, base, changed(repo, base, puts(inline(name))), "add", files=1, size=0)


def names(repo: Repository, record: CommitRecord) -> list[bytes]:
    return [path for path, _ in repo.walk(TreeId(record.commit.root.content))]


def test_a_new_store_has_an_empty_commit_and_opens() -> None:
    store = DictStore()
    made = Repository.create(store)
    opened = Repository.open(store)
    assert opened.format == made.format
    first = head(opened)
    assert (first.number, first.commit.parent, first.commit.root.content) == (1, b"", EMPTY_TREE)
    assert sorted(store.data) == ["commits/main/00000000000000000001", "format.json"]


def test_format_json_is_written_last_and_a_creation_cut_short_can_be_repeated() -> None:
    store = DictStore()
    Repository.create(store)
    assert [key for operation, key in store.log if operation == "put_if_absent"][-1] == "format.json"
    del store.data["format.json"]
    with pytest.raises(NotAStoreError):
        Repository.open(store)
    repo = Repository.create(store)
    assert head(repo).number == 1
    with pytest.raises(UsageError, match="already"):
        Repository.create(store)


def test_commits_without_format_json_are_not_taken_over() -> None:
    store = DictStore()
    add(Repository.create(store), b"a")
    del store.data["format.json"]
    with pytest.raises(UsageError, match=r"no format\.json"):
        Repository.create(store)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (b"hello", NotAStoreError),
        (b'{"format":"other"}', NotAStoreError),
        (b"[]", NotAStoreError),
        ({"version": 2}, FormatVersionError),
        ({"hash": "sha512"}, FormatVersionError),
        ({"padding": {}}, FormatVersionError),
        ({"encryption": {"cipher": "rot13"}}, FormatVersionError),
        ({"encryption": {}}, CorruptError),
        ({"version": 0}, CorruptError),
        ({"id": "../../etc"}, CorruptError),
        ({"chunking": {"min_size": 1, "avg_size": 1, "max_size": 2**40, "group_size": 1}}, CorruptError),
        ({"chunking": {"min_size": 3, "avg_size": 2, "max_size": 4, "group_size": 1}}, CorruptError),
    ],
)
def test_a_format_that_is_not_ours_is_refused(change: bytes | dict[str, object], error: type[Exception]) -> None:
    store = DictStore()
    Repository.create(store)
    if isinstance(change, dict):
        change = msgspec.json.encode(msgspec.json.decode(store.data["format.json"]) | change)
    store.data["format.json"] = change
    with pytest.raises(error) as caught:
        Repository.open(store)
    assert "\n" not in str(caught.value)


def test_sixteen_threads_commit_to_one_branch_and_all_survive() -> None:
    store = DictStore()
    Repository.create(store)
    rounds = 3
    barrier = threading.Barrier(16)

    def work(i: int) -> None:
        repo = Repository.open(store)
        barrier.wait()
        base = head(repo)
        for k in range(rounds):
            base = add(repo, b"%02d-%d" % (i, k), base)

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(work, i) for i in range(16)]:
            done.result()
    repo = Repository.open(store)
    assert names(repo, head(repo)) == [b"%02d-%d" % (i, k) for i in range(16) for k in range(rounds)]
    history = list(repo.log("main"))
    assert [record.number for record in history] == list(range(1 + 16 * rounds, 0, -1))


def test_a_commit_over_an_old_base_keeps_what_others_did() -> None:
    store = DictStore()
    repo = Repository.create(store)
    base = head(repo)
    add(repo, b"theirs", base)
    other = Repository.open(store)
    merged = other.commit("main", base, changed(other, base, puts(inline(b"ours"))), "m", files=1, size=5)
    assert merged.number == 3
    assert names(other, merged) == [b"ours", b"theirs"]
    assert (merged.commit.files, merged.commit.size, merged.commit.message) == (1, 5, "m")


def test_the_later_commit_of_one_path_wins_and_the_earlier_stays_in_the_history() -> None:
    repo = Repository.create(DictStore())
    base = head(repo)
    repo.commit("main", base, changed(repo, base, puts(inline(b"f", b"first"))), "")
    repo.commit("main", base, changed(repo, base, puts(inline(b"f", b"second"))), "")
    found = [repo.lookup(TreeId(r.commit.root.content), b"f") for r in repo.log("main")]
    assert [e and e.content for e in found] == [b"second", b"first", None]


def test_a_change_of_which_nothing_is_left_is_no_commit() -> None:
    """Others have written the file whose mode we change: their content comes with their time."""
    repo = Repository.create(DictStore())
    base = repo.commit("main", head(repo), changed(repo, head(repo), puts(inline(b"f", b"old"))), "")
    theirs = repo.commit("main", base, changed(repo, base, puts(inline(b"f", b"new"))), "")
    ours = changed(repo, base, puts(msgspec.structs.replace(inline(b"f", b"old"), mtime_ns=5)))
    assert repo.commit("main", base, ours, "") == theirs
    assert head(repo).number == theirs.number


class LostAcknowledgement(DictStore):
    """Writes, and then says that somebody else has written."""

    def put_if_absent(self, key: str, data: Buffer) -> None:
        super().put_if_absent(key, data)
        if key.startswith("commits/main/") and not key.endswith("01"):
            raise AlreadyExistsError(f"{key} exists", key)


def test_our_own_commit_whose_acknowledgement_was_lost_is_not_made_twice() -> None:
    repo = Repository.create(LostAcknowledgement())
    assert add(repo, b"a").number == 2
    assert head(repo).number == 2


class AlwaysLater(DictStore):
    """Somebody else is always first."""

    def __init__(self) -> None:
        super().__init__()
        self.rival: Repository | None = None

    def put_if_absent(self, key: str, data: Buffer) -> None:
        rival, self.rival = self.rival, None
        if rival is not None:
            add(rival, b"rival-%d" % next(counter))
            self.rival = rival
        super().put_if_absent(key, data)


counter = itertools.count()


def test_races_that_are_lost_again_and_again_end_in_a_conflict() -> None:
    store = AlwaysLater()
    repo = Repository.create(store)
    store.rival = Repository.open(store)
    with pytest.raises(ConflictError, match="moved on"):
        add(repo, b"ours")
    assert head(repo).number == 1 + limits.COMMIT_REBASES


def test_head_asks_once_when_nothing_is_new_and_finds_what_is() -> None:
    store = DictStore()
    repo = Repository.create(store)
    for i in range(5):
        add(repo, b"%d" % i)
    number = head(repo).number
    store.reset()
    found = repo.head("main", after=number)
    assert found is not None
    assert found.number == number
    assert (store.calls["get"], store.calls["list"]) == (1, 0)
    other = Repository.open(store)
    add(other, b"x")
    add(other, b"y")
    found = repo.head("main", after=number)
    assert found is not None
    assert found.number == number + 2
    assert repo.head("none") is None
    fresh = Repository.open(store).head("main", after=1)
    assert fresh is not None
    assert fresh.number == number + 2


def test_head_lists_when_it_is_far_behind() -> None:
    store = DictStore()
    repo = Repository.create(store)
    for i in range(3 * limits.COMMIT_PROBES):
        add(repo, b"%d" % i, repo.head("main", after=max(1, i)))
    store.reset()
    found = Repository.open(store).head("main", after=1)
    assert found is not None
    assert found.number == 1 + 3 * limits.COMMIT_PROBES
    assert store.calls["get"] <= limits.COMMIT_PROBES + 5


def test_a_branch_begins_where_another_stands() -> None:
    repo = Repository.create(DictStore())
    base = add(repo, b"a")
    other = repo.commit("other", base, changed(repo, base, puts(inline(b"b"))), "")
    assert (other.branch, other.number, other.commit.parent) == ("other", 1, b"")
    assert names(repo, other) == [b"a", b"b"]
    again = repo.commit("other", base, changed(repo, base, puts(inline(b"c"))), "")
    assert names(repo, again) == [b"a", b"b", b"c"]
    assert repo.branches() == ("main", "other")
    assert names(repo, head(repo)) == [b"a"]


def test_a_branch_without_base_is_all_of_the_root() -> None:
    repo = Repository.create(DictStore())
    root = directory(b"", repo.apply(EMPTY_TREE, puts(inline(b"a"))))
    assert names(repo, repo.commit("fresh", None, root, "")) == [b"a"]


def test_the_log_ends_at_the_oldest_commit_kept_and_refuses_a_gap() -> None:
    store = DictStore()
    repo = Repository.create(store)
    for i in range(5):
        add(repo, b"%d" % i)
    del store.data["commits/main/00000000000000000001"]
    del store.data["commits/main/00000000000000000002"]
    with pytest.raises(CorruptError, match="main@2 is missing"):
        list(Repository.open(store).log("main"))
    add_collected(store, "main", [1, 2])
    assert [r.number for r in Repository.open(store).log("main")] == [6, 5, 4, 3]
    del store.data["commits/main/00000000000000000004"]
    with pytest.raises(CorruptError, match="main@4 is missing"):
        list(Repository.open(store).log("main"))


def test_a_history_that_does_not_fit_together_is_refused() -> None:
    store, foreign = DictStore(), DictStore()
    repo, other = Repository.create(store), Repository.create(foreign)
    for i in range(4):
        add(repo, b"%d" % i)
        add(other, b"other%d" % i)
    key = "commits/main/00000000000000000003"
    store.data[key] = foreign.data[key]
    with pytest.raises(CorruptError, match=r"main@4 .* does not follow 3") as caught:
        list(Repository.open(store).log("main"))
    assert caught.value.key.endswith("4")
    with pytest.raises(CorruptError, match="main@3"):
        repo.read_commit("main", 3)
    store.data[key] = store.data["commits/main/00000000000000000002"]
    with pytest.raises(CorruptError, match="number 2"):
        Repository.open(store).read_commit("main", 3)
    with pytest.raises(NotFoundError):
        repo.read_commit("main", 99)


class FailsOnce(DictStore):
    """Each put fails once, the n-th one."""

    def __init__(self) -> None:
        super().__init__()
        self.left = -1

    def _spend(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise TransientError("the line went down")

    def put(self, key: str, data: Buffer) -> None:
        self._spend()
        super().put(key, data)

    def put_if_absent(self, key: str, data: Buffer) -> None:
        self._spend()
        super().put_if_absent(key, data)


def test_each_write_of_a_commit_may_fail_and_the_branch_stays_whole() -> None:
    delta = TreeDelta(subdirs={b"d": (directory(b"d"), puts(inline(b"f", b"1")))})
    for n in range(1, 10):
        store = FailsOnce()
        repo = Repository.create(store)
        base = head(repo)
        store.left = n
        try:
            repo.commit("main", base, changed(repo, base, delta), "")
        except TransientError:
            assert head(Repository.open(store)).number == 1
            store.left = -1
            repo.commit("main", base, changed(repo, base, delta), "")
        else:
            break
    assert n > 2
    fresh = Repository.open(store)
    assert names(fresh, head(fresh)) == [b"d", b"d/f"]
