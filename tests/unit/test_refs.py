"""What people type where a commit is wanted."""

from __future__ import annotations

import pytest
from repository_store import DictStore, root

from modelfs.errors import CorruptError, NotFoundError, UnknownRefError, UsageError
from modelfs.repository.objects import CommitRecord
from modelfs.repository.repository import Repository


@pytest.fixture
def repo() -> Repository:
    made = Repository.create(DictStore())
    for number in range(2, 5):
        made.commit("main", made.resolve(None), root(), f"commit {number}")
    made.commit("exp", None, root(), "")
    return made


def number(record: CommitRecord) -> tuple[str, int]:
    return record.branch, record.number


def test_every_way_to_name_a_commit(repo: Repository) -> None:
    third = repo.read_commit("main", 3)
    repo.tag("v1.0", third)
    assert number(repo.resolve(None)) == ("main", 4)
    assert number(repo.resolve(None, "exp")) == ("exp", 1)
    assert number(repo.resolve("main")) == ("main", 4)
    assert number(repo.resolve("exp")) == ("exp", 1)
    assert number(repo.resolve("main@2")) == ("main", 2)
    assert number(repo.resolve("v1.0")) == ("main", 3)
    assert number(repo.resolve(third.id.hex())) == ("main", 3)
    assert number(repo.resolve(third.id.hex()[:8])) == ("main", 3)
    assert [r.number for r in repo.log("v1.0")] == [3, 2, 1]


@pytest.mark.parametrize(
    "ref", ["nosuch", "main@99", "nosuch@1", "main@", "@1", "0123456", "ffffffffff", "../x", "a b", "", "main@0", "é"]
)
def test_what_is_not_there_is_said_in_one_line_with_what_is(repo: Repository, ref: str) -> None:
    repo.tag("v1", repo.resolve(None))
    with pytest.raises(UnknownRefError) as caught:
        repo.resolve(ref)
    assert "branches exp, main; tags v1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_some_names_are_listed(repo: Repository) -> None:
    for i in range(12):
        repo.tag(f"t{i:02d}", repo.resolve(None))
    with pytest.raises(UnknownRefError, match="t07 and 4 more"):
        repo.resolve("nosuch")


def test_a_tag_is_given_once(repo: Repository) -> None:
    third, fourth = repo.read_commit("main", 3), repo.read_commit("main", 4)
    repo.tag("v1", third)
    repo.tag("v1", third)
    with pytest.raises(UsageError, match="names main@3"):
        repo.tag("v1", fourth)
    assert repo.tags() == ("v1",)
    found = repo.read_tag("v1")
    assert (found.branch, found.number, found.commit) == ("main", 3, third.id)
    with pytest.raises(NotFoundError):
        repo.read_tag("v2")


def test_a_name_is_a_branch_or_a_tag(repo: Repository) -> None:
    head = repo.resolve(None)
    with pytest.raises(UsageError, match="name of a branch"):
        repo.tag("exp", head)
    repo.tag("v1", head)
    with pytest.raises(UsageError, match="name of a tag"):
        repo.commit("v1", None, root(), "")


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "-x", "a b", "x" * 65, "ü", "a\n", "a@1"])
def test_names_that_do_not_fit_a_key_are_refused(repo: Repository, name: str) -> None:
    head = repo.resolve(None)
    with pytest.raises(UsageError):
        repo.tag(name, head)
    with pytest.raises(UsageError):
        repo.commit(name, None, root(), "")
    with pytest.raises(UsageError):
        repo.head(name)


def test_a_tag_whose_commit_was_exchanged_is_refused(repo: Repository) -> None:
    repo.tag("v1", repo.read_commit("main", 3))
    store = repo.store
    assert isinstance(store, DictStore)
    other = Repository.create(DictStore())
    assert isinstance(other.store, DictStore)
    for _ in range(3):
        other.commit("main", other.resolve(None), root(), "another history")
    key = "commits/main/00000000000000000003"
    store.data[key] = other.store.data[key]
    with pytest.raises(CorruptError, match="tag v1"):
        Repository.open(store).resolve("v1")


def test_keys_that_are_not_ours_are_passed_over(repo: Repository) -> None:
    store = repo.store
    assert isinstance(store, DictStore)
    for key in ("commits/main/.tmp", "commits/a/b/c", "commits/main/99999999999999999999", "commits/stray", "tags/a/b"):
        store.data[key] = b"?"
    fresh = Repository.open(store)
    assert fresh.branches() == ("exp", "main")
    assert fresh.tags() == ()
    assert number(fresh.resolve(None)) == ("main", 4)
