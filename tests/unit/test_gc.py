"""Collection without anybody beside it: what goes, what stays, and what the history says afterwards."""

from __future__ import annotations

import pytest
from gc_world import GRACE, World, commit, content, file, read_all, remove, save

from modelfs.errors import CollectedError, CorruptError, UsageError
from modelfs.ids import TreeId
from modelfs.repository.repository import Repository
from modelfs.repository.retention import Retention


@pytest.fixture
def world() -> World:
    return World()


def twice(world: World, retention: Retention | None = None) -> None:
    """Two runs, each a grace period after what was before."""
    for _ in range(2):
        world.time.advance(GRACE + 1)
        world.collect(retention)


def test_garbage_is_condemned_by_one_run_and_gone_after_two(world: World) -> None:
    repo = world.open()
    save(repo, b"kept", b"kept")
    before = world.keys("data/", "meta/")
    file(repo, b"never committed", b"kept")
    garbage = world.keys("data/", "meta/") - before
    assert len(garbage) == 2
    assert world.collect().young == 2
    world.time.advance(GRACE + 1)
    report = world.collect()
    assert (report.unreached, report.condemned, report.deleted) == (2, 2, 0)
    assert garbage <= world.keys("data/", "meta/")
    report = world.collect()
    assert (report.condemned, report.deleted, report.waiting) == (0, 0, 2), "the grace period is not over"
    world.time.advance(GRACE + 1)
    report = world.collect()
    assert (report.deleted, report.condemned) == (2, 0)
    assert world.keys("data/", "meta/") == before
    assert not world.keys("gc/condemned/", "gc/executing/", "probe/")
    world.check()


def test_a_dry_run_says_the_same_and_writes_nothing(world: World) -> None:
    repo = world.open()
    for i in range(4):
        save(repo, b"f", b"%d" % i)
    for _ in range(3):
        world.time.advance(GRACE + 1)
        before = dict(world.store.objects)
        dry = world.collect(Retention(last=2), dry=True)
        assert world.store.objects == before
        real = world.collect(Retention(last=2))
        assert (dry.condemned, dry.deleted, dry.commits_deleted) == (real.condemned, real.deleted, real.commits_deleted)
    assert not world.keys("gc/condemned/")


def test_without_a_rule_all_history_stays(world: World) -> None:
    repo = world.open()
    for i in range(5):
        save(repo, b"f", b"%d" % i)
    before = world.keys("")
    twice(world)
    assert world.keys("data/", "meta/", "commits/") == {k for k in before if k != "format.json"}
    assert len(list(world.open().log())) == 6


def test_retention_drops_commits_and_history_says_so(world: World) -> None:
    repo = world.open()
    records = [save(repo, b"f", b"%d" % i) for i in range(6)]
    repo.tag("third", records[2])
    twice(world, Retention(last=2))
    fresh = world.open()
    assert [r.number for r in fresh.log()] == [7, 6, 4]
    assert read_all(fresh, fresh.resolve("third")) == {b"f": b"2"}
    assert fresh.collected("main").ranges == ((1, 3), (5, 5))
    with pytest.raises(CollectedError, match=r"main@2 .*was collected"):
        fresh.resolve("main@2")
    with pytest.raises(UsageError, match="no branch, tag or commit 'main@9'"):
        fresh.resolve("main@9")
    assert read_all(fresh, fresh.resolve("main@4")) == {b"f": b"2"}
    assert save(fresh, b"f", b"new").number == 8, "numbers go on"
    world.check()
    assert len(world.keys("data/")) == 4


def test_a_gap_in_the_history_is_passed_over_and_one_that_nobody_made_is_damage(world: World) -> None:
    repo = world.open()
    for i in range(8):
        save(repo, b"f", b"%d" % i)
        world.time.advance(86400)
    twice(world, Retention(last=1, weekly=2))
    numbers = [r.number for r in world.open().log()]
    assert numbers[0] == 9
    assert len(numbers) in (2, 3)
    del world.store.objects[f"commits/main/{numbers[-1]:020d}"]
    with pytest.raises(CorruptError, match="is missing"):
        list(world.open().log())


def test_young_commits_stay_whatever_the_retention_says(world: World) -> None:
    repo = world.open()
    save(repo, b"f", b"old")
    world.time.advance(GRACE + 1)
    for i in range(3):
        save(repo, b"f", b"%d" % i)
    world.collect(Retention(last=1))
    world.time.advance(GRACE - 10)
    world.collect(Retention(last=1))
    world.check()
    assert len(list(world.open().log())) == 5, "dropped commits can be read until they are deleted"
    world.time.advance(GRACE)
    world.collect(Retention(last=1))
    assert [r.number for r in world.open().log()] == [5, 4, 3]


def test_a_dropped_commit_comes_back_when_the_retention_is_changed_in_time(world: World) -> None:
    repo = world.open()
    for i in range(3):
        save(repo, b"f", b"%d" % i)
    world.time.advance(GRACE + 1)
    assert world.collect(Retention(last=1)).condemned > 0
    world.time.advance(GRACE + 1)
    report = world.collect()
    assert report.deleted == report.commits_deleted == 0
    assert report.spared > 0
    assert len(list(world.open().log())) == 4
    world.check()


def test_a_deleted_branch_goes_and_its_number_stays(world: World) -> None:
    repo = world.open()
    main = save(repo, b"f", b"shared")
    repo.commit("other", main, main.commit.root, "", reached=repo.adopt(main, main.commit.root))
    save(repo, b"g", b"only here", branch="other")
    assert repo.branches() == ("main", "other")
    end = repo.end_branch("other")
    assert end.number == 3
    assert repo.branches() == ("main",)
    assert repo.head("other") is None
    with pytest.raises(CollectedError, match="newest state is other@2"):
        repo.resolve("other")
    with pytest.raises(CollectedError, match="no files"):
        repo.resolve("other@3")
    with pytest.raises(UsageError, match="no branch 'other'"):
        repo.end_branch("other")
    assert b"g" in read_all(repo, repo.resolve("other@2"))
    twice(world)
    assert world.keys("commits/other/") == {"commits/other/00000000000000000003"}
    assert len(world.keys("data/")) == 1
    head = world.open().head()
    assert head is not None
    again = world.open().commit("other", None, head.commit.root, "", revive=True)
    assert again.number == 4
    assert [r.number for r in world.open().log("other")] == [4, 3]
    world.check()


def test_a_deleted_tag_lets_its_commit_go(world: World) -> None:
    repo = world.open()
    record = save(repo, b"f", b"tagged")
    repo.tag("t", record)
    save(repo, b"f", b"newer")
    twice(world, Retention(last=1))
    assert read_all(world.open(), world.open().resolve("t")) == {b"f": b"tagged"}
    assert repo.delete_tag("t").number == record.number
    with pytest.raises(UsageError, match="no tag"):
        repo.delete_tag("t")
    twice(world, Retention(last=1))
    assert len(world.keys("data/")) == 1
    with pytest.raises(UsageError):
        world.open().resolve("t")
    world.check()


def test_damage_stops_the_run_before_anything_is_condemned(world: World) -> None:
    repo = world.open()
    record = save(repo, b"f", b"x")
    file(repo, b"garbage")
    entry = repo.find(record.commit.root, b"f")
    assert entry is not None
    del world.store.objects[f"meta/{entry.content[:1].hex()}/{entry.content[1:].hex()}"]
    world.time.advance(GRACE + 1)
    with pytest.raises(CorruptError, match="main@2 cannot be read"):
        world.collect()
    assert not world.keys("gc/condemned/")
    repo = world.open()
    repo.tag("t", record)
    del world.store.objects[f"commits/main/{record.number:020d}"]
    with pytest.raises(CorruptError, match="the tag t"):
        world.collect()


def test_what_others_left_is_tidied(world: World) -> None:
    world.store.put("probe/" + "0" * 32, b"x")
    world.store.put("lease.json", b'{"token":"t","host":"h","pid":1,"user":"u","expires":%d}' % world.time.now)
    world.store.put(f"gc/executing/{1:020d}-000001.{'0' * 32}", b"")
    world.time.advance(10)
    assert world.collect().tidied == 1
    assert world.keys("probe/", "lease.json") == {"probe/" + "0" * 32, "lease.json"}
    world.time.advance(2 * 86400)
    assert world.collect().tidied == 2
    assert not world.keys("probe/", "lease.json", "gc/executing/")
    world.store.put("lease.json", b"?")
    world.collect()
    assert world.keys("lease.json")


def test_an_empty_directory_and_small_files_need_nothing(world: World) -> None:
    repo = world.open()
    from repository_store import directory, inline

    commit(repo, b"d/e", directory(b"e"))
    commit(repo, b"d/small", inline(b"small", b"123"))
    twice(world)
    fresh = world.open()
    head = fresh.head()
    assert head is not None
    assert [p for p, _ in fresh.walk(TreeId(head.commit.root.content))] == [b"d", b"d/e", b"d/small"]


def test_a_store_without_times_and_wrong_clocks_are_refused(world: World) -> None:
    from repository_store import DictStore

    from modelfs.repository.gc import Collection

    store = DictStore()
    with pytest.raises(UsageError, match="does not tell when"):
        Collection(Repository.create(store), Retention()).run()
    repo = Repository.open(world.store)  # with this machine's clock, years ahead of the store's
    with pytest.raises(UsageError, match="differ by"):
        Collection(repo, Retention()).run()


def test_grace_periods(world: World) -> None:
    with pytest.raises(UsageError, match="--exclusive"):
        world.collect(grace=1)
    repo = world.open()
    file(repo, b"garbage")
    world.time.advance(2)
    world.collect(grace=1, exclusive=True)
    world.time.advance(2)
    assert world.collect(grace=1).deleted == 2, "everybody knows of it by now"
    world.collect(grace=GRACE)
    with pytest.raises(UsageError, match="--exclusive"):
        world.collect(grace=1)


def test_content_is_found(world: World) -> None:
    repo = world.open()
    assert content(repo, file(repo, b"a", b"b")) == b"ab"
    remove(repo, b"nothing")
