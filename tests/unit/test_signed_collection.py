"""Collection and fsck of signed stores, plain and encrypted: what a verifier accepts on both sides of a gap."""

from __future__ import annotations

import os
from dataclasses import replace

import msgspec
import pytest
from damaging import spoil
from gc_world import GRACE, TimedStore, World, content, read_all, remove, save
from repository_store import KEY_FILE

from modelfs.crypto.signing import SigningKey
from modelfs.errors import CollectedError, CorruptError, NotFoundError, UntrustedError, UnvouchedError
from modelfs.ids import ManifestId, TreeId
from modelfs.repository.access import Access
from modelfs.repository.damage import Problem, Sort
from modelfs.repository.deleted import deleted, newest_with
from modelfs.repository.envelope import unwrap, wrap
from modelfs.repository.fsck import Findings, Fsck
from modelfs.repository.gcformat import Collected, history_key, pack
from modelfs.repository.graft import graft
from modelfs.repository.keys import chunk_key, commit_key
from modelfs.repository.objects import CommitRecord
from modelfs.repository.packing import pack_commit, split_signed
from modelfs.repository.repair import Repair
from modelfs.repository.repository import Repository
from modelfs.repository.retention import Retention
from modelfs.repository.vouching import verified

ANNA, EVE = SigningKey.new(), SigningKey.new()
LAST = Retention(last=1)


@pytest.fixture(params=["plain", "encrypted"])
def world(request: pytest.FixtureRequest) -> World:
    """A store whose first commit nobody signed, and in which everybody but a collection verifies."""
    secret = KEY_FILE if request.param == "encrypted" else None
    return World(access=Access(secret=secret, signer=ANNA, trusted=frozenset((ANNA.public,))))


def nobody(world: World) -> Access:
    """Who neither signs nor verifies."""
    return Access(secret=world.access.secret)


def signing(world: World) -> Access:
    """Who signs and does not verify: a first signed commit follows one that is not."""
    return replace(world.access, trusted=frozenset())


def collect(world: World, retention: Retention = LAST) -> None:
    """What is dropped now is gone."""
    for _ in range(2):
        world.time.advance(GRACE + 1)
        world.collect(retention)


def check(world: World, access: Access | None = None, store: TimedStore | None = None, **options: bool) -> Findings:
    return Fsck(world.open(store or world.store.view(), access=access)).run(**options)


def numbers(repo: Repository, start: CommitRecord | None = None) -> tuple[list[int], list[str]]:
    """What can be verified of the history, and why it ends."""
    ends: list[str] = []
    return [record.number for record in verified(repo.log(start or repo.resolve(None)), ends)], ends


def stored(world: World, number: int, branch: str = "main") -> bytes:
    """A commit as it is stored, opened."""
    return world.open(access=nobody(world)).store.get(commit_key(branch, number))


def put(world: World, number: int, data: bytes) -> None:
    """Have the store show another commit there: its keeper, who in an encrypted store was given the passphrase."""
    world.open(access=nobody(world)).store.put(commit_key("main", number), data)


def unsigned(stored: bytes) -> bytes:
    """The commit without its signature, of the same id."""
    return wrap(split_signed(unwrap(stored))[0])


def test_what_a_collection_leaves_of_signed_history_is_verified(world: World) -> None:
    repo = world.open(access=signing(world))
    for i in range(5):
        save(repo, b"f", os.urandom(1000), b"%d" % i * 100)
    before = {number: stored(world, number) for number in (5, 6)}
    collect(world, Retention(last=2))
    assert {number: stored(world, number) for number in (5, 6)} == before, "signatures included"
    assert numbers(world.open()) == ([6, 5], [])
    assert world.open().collected("main").ranges == ((1, 4),)
    world.check()
    found = check(world, read_data=True)
    assert not list(found.damages)
    assert (found.commits, found.unvouched, found.read_chunks) == (2, 0, 4)
    assert found.orphans is not None
    assert (found.orphans.chunks, found.orphans.metadata) == (0, 0)
    save(world.open(), b"g", b"more" * 100)
    assert numbers(world.open()) == ([7, 6, 5], [])


def test_signed_history_below_a_gap_speaks_for_itself(world: World) -> None:
    repo = world.open(access=signing(world))
    records = [save(repo, b"f", b"%d" % i * 1000) for i in range(4)]
    repo.tag("kept", records[0])
    collect(world)
    reader = world.open()
    assert numbers(reader) == ([5, 2], [])
    assert read_all(reader, reader.resolve("kept")) == {b"f": b"0" * 1000}
    assert not list(check(world).damages)


@pytest.fixture
def gap(world: World) -> World:
    """1 and 2 are unsigned and tagged, 3 and 4 were signed and are gone, 5 is signed."""
    plain = world.open(access=nobody(world))
    save(plain, b"old", b"old" * 1000)
    plain.tag("v1", plain.resolve("main@1"))
    plain.tag("v2", plain.resolve("main@2"))
    repo = world.open(access=signing(world))
    for i in (3, 4):
        save(repo, b"f", b"%d" % i * 1000)
    remove(repo, b"old")
    assert numbers(world.open()) == ([5, 4, 3, 2, 1], []), "vouched for by the chain as long as it is there"
    assert check(world).unvouched == 0
    collect(world)
    assert world.open().collected("main").ranges == ((3, 4),)
    return world


def test_unsigned_history_below_a_gap_is_neither_accepted_nor_refused(gap: World) -> None:
    reader = gap.open()
    assert reader.head().number == 5  # type: ignore[union-attr]
    found, (why,) = numbers(reader)
    assert found == [5]
    assert "main@2" in why
    assert "is not signed, and the commits that may have vouched for it were collected" in why
    for ref in ("main@1", "main@2", "v1", "v2"):
        with pytest.raises(UntrustedError, match="is not signed"):
            gap.open().resolve(ref)
    with pytest.raises(UnvouchedError):
        list(gap.open().log("main"))
    assert numbers(gap.open(access=nobody(gap))) == ([5, 2, 1], []), "who trusts everybody reads it"
    save(gap.open(), b"g", b"more")
    assert numbers(gap.open())[0] == [6, 5], "and writing goes on"


def test_fsck_counts_what_nobody_vouches_for_any_more(gap: World) -> None:
    found = check(gap, read_data=True)
    assert not list(found.damages)
    assert (found.commits, found.unvouched) == (3, 2)
    assert found.orphans is not None
    assert found.orphans.chunks == 0, "what they reach is looked at and needed"
    assert check(gap, nobody(gap)).unvouched == 0


def test_undelete_says_where_its_knowledge_ends(gap: World) -> None:
    repo = gap.open()
    head = repo.resolve(None)
    with pytest.raises(UnvouchedError, match="main@2"):
        newest_with(repo, head, b"old")
    ends: list[str] = []
    assert list(verified(deleted(repo, head), ends)) == []
    assert len(ends) == 1
    trusting = gap.open(access=nobody(gap))
    assert [d.path for d in deleted(trusting, trusting.resolve(None))] == [b"old"]


def test_no_forged_gap_makes_unsigned_history_acceptable(world: World) -> None:
    """The keeper says that commits were collected, and shows another past below them."""
    repo = world.open(access=signing(world))
    for i in range(4):
        save(repo, b"f", b"%d" % i * 1000)
    forged = split_signed(unwrap(stored(world, 3)))[0]
    put(world, 3, wrap(forged))  # of the right id, unsigned: main@4 vouches for it
    assert numbers(world.open()) == ([5, 4, 3, 2, 1], [])
    commit = msgspec.structs.replace(world.open(access=nobody(world)).load_commit("main", 3).commit, message="forged")
    put(world, 3, wrap(pack_commit(commit)))
    with pytest.raises(UntrustedError) as refused:
        list(world.open().log("main"))
    assert not isinstance(refused.value, UnvouchedError), "there is no gap to excuse it"
    assert commit_key("main", 3) in {damage.key for damage in check(world).damages}
    for ranges in (((4, 4),), ((3, 4),), ((4, 4), (6, 9))):
        world.store.delete(commit_key("main", 4))
        world.open(access=nobody(world)).store.put(history_key("main"), pack(Collected(ranges)))
        found, ends = numbers(world.open())
        assert 3 not in found
        assert found[0] == 5
        if ranges != ((3, 4),):
            assert len(ends) == 1
        with pytest.raises(UntrustedError):
            world.open().resolve("main@3")
        assert check(world).unvouched + len(list(check(world).damages)) > 0


def test_no_gap_excuses_an_unsigned_head(world: World) -> None:
    save(world.open(access=signing(world)), b"f", b"1")
    save(world.open(access=nobody(world)), b"f", b"2")
    save(world.open(access=Access(world.access.secret, signer=EVE)), b"f", b"3")
    world.open(access=nobody(world)).store.put(history_key("main"), pack(Collected(((5, 90),))))
    with pytest.raises(UntrustedError, match=r"main@4 .* by a key that is not trusted"):
        world.open().head()
    found = {damage.key: damage.problem for damage in check(world).damages}
    assert found == dict.fromkeys((commit_key("main", 4), commit_key("main", 3)), Problem.CONTRADICTORY)
    world.store.delete(commit_key("main", 4))
    with pytest.raises(UntrustedError, match=r"main@3 .* is not signed"):
        world.open().head()
    assert check(world).unvouched == 0


def test_a_commit_that_is_gone_without_a_record_is_damage(world: World) -> None:
    repo = world.open(access=signing(world))
    for i in range(3):
        save(repo, b"f", b"%d" % i * 1000)
    world.store.delete(commit_key("main", 3))
    with pytest.raises(CorruptError, match="main@3 is missing"):
        list(world.open().log("main"))
    assert commit_key("main", 3) in {damage.key for damage in check(world).damages}


def test_an_old_signed_commit_is_for_its_own_place(world: World) -> None:
    """Below a gap a signature is all there is; it names the number and the branch."""
    repo = world.open(access=signing(world))
    for i in range(4):
        save(repo, b"f", b"%d" % i * 1000)
    other = stored(world, 2)
    repo.tag("kept", repo.resolve("main@3"))
    collect(world)
    assert numbers(world.open()) == ([5, 3], [])
    put(world, 3, other)
    with pytest.raises(CorruptError, match="it says that it is number 2"):
        list(world.open().log("main"))


def test_undelete_of_condemned_signed_history(world: World) -> None:
    repo = world.open(access=signing(world))
    data = os.urandom(5000)
    record = save(repo, b"lost", data)
    signed = stored(world, record.number)
    remove(repo, b"lost")
    world.time.advance(GRACE + 1)
    world.collect(LAST)  # condemned, not gone
    repo = world.open()
    head = repo.resolve(None)
    old = newest_with(repo, head, b"lost")
    assert old is not None
    reached = repo.adopt(*old)
    made = repo.commit("main", head, graft(repo, head.commit.root, {b"lost": old[1]}), "", reached=reached)
    assert made.signed_by == ANNA.public.raw
    repo.tag("saved", repo.resolve(f"main@{record.number}"))
    collect(world)
    assert stored(world, record.number) == signed, "held as it was, signature and all"
    reader = world.open()
    assert read_all(reader, reader.resolve(None))[b"lost"] == data
    assert read_all(reader, reader.resolve("saved"))[b"lost"] == data
    assert not list(check(world, read_data=True).damages)
    with pytest.raises(CollectedError):
        reader.resolve("main@3")


def test_damage_after_a_collection_is_found_and_a_mirror_repairs_it(gap: World) -> None:
    repo = gap.open()
    entry = repo.find(repo.resolve(None).commit.root, b"f")
    assert entry is not None
    chunk = repo.read_manifest(ManifestId(entry.content)).chunks[0].id
    mirror = TimedStore(gap.time, dict(gap.store.objects))
    keys = (chunk_key(chunk), commit_key("main", 5), commit_key("main", 1))  # type: ignore[arg-type]
    for key in keys:
        for how in ("missing", "flipped")[key == commit_key("main", 5) :]:  # a head that is gone leaves no trace
            data = {key: gap.store.objects[key][0]}
            spoil(data, key, how)
            gap.store.objects.pop(key)
            if key in data:
                gap.store.put(key, data[key])
            damages = {damage.key for damage in check(gap, read_data=True).damages}
            assert key in damages, (key, how)
            # A head is signed and vouches for itself; an old unsigned commit needs somebody who asks for no signature.
            access = gap.access if key != commit_key("main", 1) else nobody(gap)
            checked = gap.open(gap.store.view(), access=access)
            found = Fsck(checked, Repair(checked, (), gap.open(mirror, access=access))).run(read_data=True)
            repaired = [damage.key for damage in found.damages if damage.repaired]
            assert repaired == [key], (key, how, [damage.reason for damage in found.damages])
            ours, theirs = (gap.open(store, access=nobody(gap)).store for store in (gap.store.view(), mirror))
            assert ours.get(key) == theirs.get(key)
            after = check(gap, read_data=True)
            assert not list(after.damages)
            assert after.unvouched == 2
    assert content(gap.open(), entry) == b"4" * 1000


def test_damage_above_a_gap_names_what_it_hurts(gap: World) -> None:
    repo = gap.open(access=nobody(gap))
    entry = repo.find(repo.resolve("v2").commit.root, b"old")
    assert entry is not None
    chunk = repo.read_manifest(ManifestId(entry.content)).chunks[0].id
    gap.store.delete(chunk_key(chunk))  # type: ignore[arg-type]
    (damage,) = check(gap).damages
    assert (damage.sort, damage.problem) == (Sort.CHUNK, Problem.MISSING)
    assert [hurt.commits() for hurt in damage.hurts.values()] == [["main@2"]]


def test_a_deleted_signed_branch_is_collected(world: World) -> None:
    repo = world.open(access=signing(world))
    save(repo, b"f", b"1" * 1000)
    repo.commit("dev", repo.resolve(None), repo.resolve(None).commit.root, "")
    save(repo, b"g", b"2" * 1000, branch="dev")
    end = repo.end_branch("dev")
    assert end.signed_by == ANNA.public.raw
    collect(world, Retention())
    collect(world)
    assert world.open().head("dev") is None
    assert not list(check(world).damages)
    unsigned_end = unsigned(stored(world, end.number, "dev"))
    world.open(access=nobody(world)).store.put(commit_key("dev", end.number), unsigned_end)
    with pytest.raises(UntrustedError):
        world.open().head("dev")


def test_what_is_dropped_cannot_be_read_with_any_key(world: World) -> None:
    """Collected is collected: no id of what was dropped is left, also in an encrypted store."""
    repo = world.open(access=signing(world))
    record = save(repo, b"f", os.urandom(1000))
    tree = TreeId(record.commit.root.content)
    save(repo, b"f", os.urandom(1000))
    collect(world)
    fresh = world.open(access=replace(world.access, trusted=frozenset()))
    with pytest.raises(NotFoundError, match="is missing"):
        fresh.read_page(tree)
