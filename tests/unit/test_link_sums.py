"""fsck and the numbers of linked names that directories are said to have."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import msgspec
import pytest
from repository_store import DictStore, directory, inline, puts

from modelfs.crypto.signing import SigningKey
from modelfs.ids import TreeId
from modelfs.repository.access import Access
from modelfs.repository.damage import Problem, Sort
from modelfs.repository.fsck import Findings, Fsck
from modelfs.repository.keys import commit_key, meta_key
from modelfs.repository.linksums import LinkSums
from modelfs.repository.objects import EMPTY_TREE, CommitRecord, Entry, TreeDelta
from modelfs.repository.repair import Repair
from modelfs.repository.repository import Repository

MANY = 5000


def name(path: bytes, group: bytes = b"1" * 16) -> Entry:
    return msgspec.structs.replace(inline(path, b"content"), group=group)


def right(repo: Repository) -> Entry:
    """The root of  a/b/{x,y}  a/z  many/…  with three linked names in a/ and one in the paged directory many/."""
    many = {b"%06d" % i: inline(b"%06d" % i) for i in range(MANY)} | {b"linked": name(b"linked", b"2" * 16)}
    b = TreeDelta(puts={b"x": name(b"x"), b"y": name(b"y")})
    a = TreeDelta(puts={b"z": name(b"z")}, subdirs={b"b": (directory(b"b"), b)})
    subdirs = {b"a": (directory(b"a"), a), b"many": (directory(b"many"), TreeDelta(puts=many))}
    return repo.directory(directory(b""), repo.apply(EMPTY_TREE, TreeDelta(subdirs=subdirs)))


def wronged(repo: Repository, root: Entry, path: bytes, said: int) -> Entry:
    """The root with another number at a directory, and consistent with that above it."""
    if not path:
        return msgspec.structs.replace(root, linked=said)
    first, _, rest = path.partition(b"/")
    entry = repo.lookup(TreeId(root.content), first)
    assert entry is not None
    changed = wronged(repo, entry, rest, said)
    tree = repo.apply(TreeId(root.content), puts(changed))
    return repo.directory(root, tree)


def committed(repo: Repository, root: Entry) -> CommitRecord:
    return repo.commit("main", repo.head(), root, "")


def check(store: DictStore, *, repair: bool = False, ref: str | None = None, access: Access | None = None) -> Findings:
    repo = Repository.open(store, access)
    return Fsck(repo, Repair(repo) if repair else None).run(ref)


@pytest.fixture
def store() -> DictStore:
    made = DictStore()
    repo = Repository.create(made)
    committed(repo, right(repo))
    return made


def test_right_sums_are_no_damage(store: DictStore) -> None:
    repo = Repository.open(store)
    root = repo.resolve(None).commit.root
    assert root.linked == LinkSums(repo).count(root.content) == 4
    assert not list(LinkSums(repo).wrong(root))
    assert LinkSums(repo).corrected(root) == root
    assert not list(check(store).damages)


@pytest.mark.parametrize("path", [b"", b"a", b"a/b", b"many"])
@pytest.mark.parametrize("by", [-1, 1, 70])
def test_a_wrong_sum_is_found_where_it_is_and_put_right(store: DictStore, path: bytes, by: int) -> None:
    repo = Repository.open(store)
    sound = repo.resolve(None).commit.root
    entry = repo.find(sound, path)
    assert entry is not None
    record = committed(repo, wronged(repo, sound, path, entry.linked + by))
    files = set(repo.walk(TreeId(sound.content)))
    (damage,) = check(store).damages
    assert damage.problem is Problem.CONTRADICTORY
    assert f"/{path.decode()} of main@3 is said to have {entry.linked + by} linked names" in damage.reason
    assert f"and has {entry.linked}" in damage.reason
    if path:
        holder = repo.find(record.commit.root, path.rpartition(b"/")[0])
        assert holder is not None
        assert (damage.sort, damage.key) == (Sort.PAGE, meta_key(holder.content))
    else:
        assert (damage.sort, damage.key) == (Sort.COMMIT, commit_key("main", 3))
    assert [hurt.commits() for hurt in damage.hurts.values()] == [["main@3"]]
    (damage,) = check(store, repair=True).damages
    assert damage.repaired == "its own entries, in main@4"
    assert not list(check(store).damages), "what older commits say hurts no mount of a branch"
    head = Repository.open(store).resolve(None)
    assert head.commit.root == sound, "as if it had never been wrong"
    assert set(Repository.open(store).walk(TreeId(head.commit.root.content))) == files
    assert [found.key for found in check(store, ref="main@3").damages] == [damage.key]


def test_one_directory_at_two_places_with_two_numbers(store: DictStore) -> None:
    """Equal directories are one object, which is read once: the second entry is compared too."""
    repo = Repository.open(store)
    root = repo.resolve(None).commit.root
    entry = repo.find(root, b"a")
    assert entry is not None
    for second, said in ((b"a2", 9), (b"0", 1)):
        copy = msgspec.structs.replace(entry, name=second, linked=said)
        committed(repo, repo.directory(root, repo.apply(TreeId(root.content), puts(copy))))
        (damage,) = check(store).damages
        assert f"/{second.decode()} of main@" in damage.reason
        assert check(store, repair=True).damages.left() == 0
        fixed = Repository.open(store).resolve(None).commit.root
        assert not list(LinkSums(Repository.open(store)).wrong(fixed))


def test_an_empty_directory_has_no_linked_names(store: DictStore) -> None:
    repo = Repository.open(store)
    root = repo.resolve(None).commit.root
    empty = msgspec.structs.replace(directory(b"empty"), linked=3)
    committed(repo, repo.directory(root, repo.apply(TreeId(root.content), puts(empty))))
    (damage,) = check(store).damages
    assert "/empty of main@3 is said to have 3 linked names below it, and has 0" in damage.reason


def test_what_is_below_a_damaged_page_is_not_counted(store: DictStore) -> None:
    repo = Repository.open(store)
    entry = repo.find(repo.resolve(None).commit.root, b"a/b")
    assert entry is not None
    del store.data[meta_key(entry.content)]
    found = check(store, repair=True)
    assert [damage.key for damage in found.damages] == [meta_key(entry.content)]
    sums = LinkSums(Repository.open(store))
    root = Repository.open(store).resolve(None).commit.root
    assert sums.count(root.content) is None
    assert not list(sums.wrong(root))
    assert sums.corrected(root) == root


def test_signed_history_is_not_changed_by_fsck(store: DictStore) -> None:
    anna = SigningKey.new()
    signing = Access(signer=anna)
    repo = Repository.open(store, signing)
    committed(repo, wronged(repo, repo.resolve(None).commit.root, b"a", 8))
    for access in (Access(), replace(signing, signer=None, trusted=frozenset((anna.public,)))):
        (damage,) = check(store, repair=True, access=access).damages
        assert not damage.repaired
    assert Repository.open(store).resolve(None).number == 3


def test_each_branch_is_put_right(store: DictStore) -> None:
    repo = Repository.open(store)
    root = repo.resolve(None).commit.root
    for branch in ("dev", "main"):
        repo.commit(branch, repo.head(branch), wronged(repo, root, b"a", 6), "")
    ended = partial(wronged, repo, root, b"a", 5)
    repo.commit("over", None, ended(), "")
    repo.end_branch("over")
    found = check(store, repair=True)
    assert found.damages.left() == 0
    assert not list(check(store).damages)
    for branch in ("dev", "main"):
        assert Repository.open(store).resolve(branch).commit.root == root
