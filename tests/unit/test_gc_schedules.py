"""Writers and collections in each other's way, step by step: one is stopped before every single request of its own
while the other does all that it wants. Whatever comes out, what can be read is whole, and what was said to be
committed is there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import pytest
from gc_world import GRACE, TimedStore, World, commit, content, file, read_all, remove, save

from modelfs import limits
from modelfs.errors import ConflictError, CorruptError, ModelfsError, NotFoundError, TransientError, UsageError
from modelfs.ids import digest
from modelfs.repository.objects import CommitRecord, Entry
from modelfs.repository.repository import Repository
from modelfs.repository.retention import Retention


def note_delete(deletes: list[str], reached: Callable[[], bool], operation: str, key: str) -> None:
    if operation == "delete" and reached():
        deletes.append(key)


class Stopped(Exception):
    """The process died."""


def at_request(
    store: TimedStore, number: int, action: Callable[[], None], stopped_at: list[str] | None = None
) -> Callable[[], bool]:
    """Do ``action`` before request ``number`` of a view of the store; the answer says whether it came to that, and
    ``stopped_at`` gets the name of the request."""
    count, done = 0, False

    def before(operation: str, key: str) -> None:
        nonlocal count, done
        count += counts(store, operation, key)
        if count == number and not done:
            done = True
            if stopped_at is not None:
                stopped_at.append(operation)
            action()

    store.before = before
    return lambda: done


def counts(store: TimedStore, operation: str, key: str) -> bool:
    """False for the listings of the many parts of the store in which there is nothing."""
    return (
        operation != "list"
        or not key.startswith(("data/", "meta/", "deltas/"))
        or any(name.startswith(key) for name in tuple(store.objects))
    )


def every_request(limit: int = 400, step: int = 1) -> Iterator[int]:
    """1, 2, 3, … until the test breaks off."""
    yield from range(1, limit, step)
    pytest.fail("there is no end of requests")


def world_with_garbage() -> tuple[World, Entry]:
    """A store in which the file of an earlier commit is garbage, old enough to be condemned."""
    world = World()
    repo = world.open()
    save(repo, b"other", b"other")
    save(repo, b"f", b"one", b"two")
    gone = repo.find(repo.resolve(None).commit.root, b"f")
    assert gone is not None
    remove(repo, b"f")
    world.time.advance(GRACE + 1)
    return world, gone


# Collections make many requests: they are stopped before every third of them, before each with MODELFS_GC_STEP=1.
STEP = int(os.environ.get("MODELFS_GC_STEP", "3"))
LAST = Retention(last=1)
LOCAL = {digest(data): data for data in (b"one", b"two", b"three", b"first", b"second")}


def saved(world: World, repo: Repository) -> CommitRecord:
    """Save again what is garbage, and one chunk that is new."""
    return save(repo, b"again", b"one", b"two", b"three")


def is_there(world: World, path: bytes, expected: bytes) -> None:
    repo = Repository.open(world.store, clock=world.time.clock())
    entry = repo.find(repo.resolve(None).commit.root, path)
    assert entry is not None
    assert content(repo, entry) == expected


@pytest.mark.parametrize("copies", [False, True], ids=["alone", "with a cache"])
@pytest.mark.parametrize("condemned", [0, 1], ids=["fresh garbage", "condemned garbage"])
@pytest.mark.parametrize(("runs", "pause"), [(1, 0.0), (2, 400.0), (3, GRACE + 1)])
def test_a_writer_stopped_before_any_request_while_collections_run(
    copies: bool, condemned: int, runs: int, pause: float
) -> None:
    refusals = 0
    for number in every_request():
        world, _ = world_with_garbage()
        for _ in range(condemned):
            world.collect(LAST)
            world.time.advance(GRACE + 1)
        store = world.store.view()
        repo = world.open(store)
        if copies:
            repo.use_local(lambda chunk, length: LOCAL.get(bytes(chunk)))
        stopped_at: list[str] = []

        def collections(world: World = world) -> None:
            world.time.advance(pause)
            for run in range(runs):
                if run:
                    world.time.advance(GRACE + 1)
                world.collect(LAST)

        reached = at_request(store, number, collections, stopped_at)
        try:
            saved(world, repo)
        except (NotFoundError, CorruptError, ConflictError):
            committed = False  # it was refused, which is allowed; a commit that is not whole is not
        else:
            committed = True
        store.before = lambda operation, key: None
        asleep = runs > 1 and stopped_at == ["put_if_absent"]
        if not committed and asleep:
            # The one window that nothing closes: this machine slept for longer than a grace period right before the
            # request that makes the commit, and nobody has the bytes any more. It is told so.
            refusals += 1
            if not reached():
                break
            continue
        world.check()
        if not committed:
            assert not copies, "whoever has the bytes is never refused"
            saved(world, world.open())
        is_there(world, b"again", b"onetwothree")
        for _ in range(3):
            world.time.advance(GRACE + 1)
            world.collect(LAST)
            world.check()
            is_there(world, b"again", b"onetwothree")
        assert len(world.keys("data/")) == 4
        if not reached():
            break
    assert number > 5
    assert refusals <= (0 if copies or runs == 1 else 1)


@pytest.mark.parametrize("ripe", [False, True], ids=["condemning", "deleting"])
def test_a_collection_stopped_before_any_request_while_a_writer_commits(ripe: bool) -> None:
    refused = 0
    for number in every_request(3000, STEP):
        world, _ = world_with_garbage()
        if ripe:
            world.collect(LAST)
            world.time.advance(GRACE + 1)
        store = world.store.view()
        # One knows the list as it was before the run. While they wait the run, which waits for them, is not dead.
        writers = [world.open(waiting_takes_time=False)]
        committed = []

        def write(world: World = world, writers: list[Repository] = writers, committed: list[bool] = committed) -> None:
            for repo in (*writers, world.open(waiting_takes_time=False)):
                try:
                    saved(world, repo)
                except ConflictError:
                    committed.append(False)
                else:
                    committed.append(True)

        reached = at_request(store, number, write)
        world.collect(LAST, store)
        world.check()
        refused += committed.count(False)
        if any(committed):
            is_there(world, b"again", b"onetwothree")
        else:
            saved(world, world.open())
        for _ in range(3):
            world.time.advance(GRACE + 1)
            world.collect(LAST)
            world.check()
        is_there(world, b"again", b"onetwothree")
        assert len(world.keys("data/")) == 4
        if not reached():
            break
    assert number > 20
    assert bool(refused) is ripe, "only a run that is deleting makes writers wait"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("ripe", [False, True], ids=["condemning", "deleting"])
def test_a_collection_killed_at_any_request_is_finished_by_the_next(ripe: bool, after: bool) -> None:
    for number in every_request(3000, STEP):
        world, _ = world_with_garbage()
        if ripe:
            world.collect(LAST)
            world.time.advance(GRACE + 1)
        store = world.store.view()
        count = 0

        def die(operation: str, key: str, store: TimedStore = store, last: int = number) -> None:
            nonlocal count
            count += counts(store, operation, key)
            if count >= last:  # dead from here on, whatever its threads still try
                raise Stopped

        if after:
            store.after = die
        else:
            store.before = die
        try:
            world.collect(LAST, store)
            died = False
        except Stopped:
            died = True
        world.check()
        if died and world.keys("gc/runs/"):
            with contextlib.suppress(UsageError):
                world.collect(LAST)
            world.check()
        # A writer beside the remains of the dead run.
        saved(world, world.open())
        for _ in range(3):
            world.time.advance(GRACE + 1)
            world.collect(LAST)
            world.check()
        is_there(world, b"again", b"onetwothree")
        assert len(world.keys("data/")) == 4
        assert not world.keys("gc/executing/", "gc/condemned/")
        if not died:
            break
    assert number > 20


def test_deletes_whose_acknowledgement_is_lost() -> None:
    world, _ = world_with_garbage()
    world.collect(LAST)
    world.time.advance(GRACE + 1)
    store = world.store.view()
    lost = 0

    def lose(operation: str, key: str) -> None:
        nonlocal lost
        if operation == "delete" and key.startswith("data/") and not lost:
            lost += 1
            raise TransientError("no answer", key)

    store.after = lose
    with pytest.raises(TransientError):
        world.collect(LAST, store)
    world.check()
    assert world.collect(LAST).deleted > 0, "the run that failed gave its claim up"
    assert len(world.keys("data/")) == 1
    world.check()


def test_two_collections_at_once_only_one_runs() -> None:
    for number in every_request(3000, STEP):
        world, _ = world_with_garbage()
        world.collect(LAST)
        world.time.advance(GRACE + 1)
        store = world.store.view()
        outcome: list[str] = []

        def other(world: World = world, outcome: list[str] = outcome) -> None:
            try:
                world.collect(LAST)
            except UsageError as error:
                outcome.append(str(error))
            else:
                outcome.append("")

        reached = at_request(store, number, other)
        try:
            world.collect(LAST, store)
        except UsageError as error:
            assert "began at this moment" in str(error)
            assert outcome == [""]
        else:
            assert not outcome or outcome == [""] or "is being collected by" in outcome[0]
        world.check()
        world.time.advance(GRACE + 1)
        world.collect(LAST)
        assert len(world.keys("data/")) == 1
        if not reached():
            break
    assert number > 20


def test_a_collection_that_was_asleep_for_long_deletes_nothing_any_more() -> None:
    slept = 0
    for number in every_request(3000, STEP):
        world, _ = world_with_garbage()
        world.collect(LAST)
        world.time.advance(GRACE + 1)
        store = world.store.view()

        def sleep(world: World = world) -> None:
            world.time.advance(limits.GC_RUN_TTL + 1)
            world.collect(LAST)
            saved(world, world.open())

        reached = at_request(store, number, sleep)
        deletes: list[str] = []
        store.after = partial(note_delete, deletes, reached)
        try:
            world.collect(LAST, store)
        except (ConflictError, UsageError):
            slept += 1
        if any(key.startswith(("data/", "meta/")) for key in deletes):
            # The one request before which it slept may be a deletion: that is the window that no lock closes.
            assert len([key for key in deletes if key.startswith(("data/", "meta/"))]) <= 1
        else:
            world.check()
            if reached():
                is_there(world, b"again", b"onetwothree")
        if not reached():
            break
    assert slept > 10 // STEP


def test_a_writer_away_for_days_brings_back_what_was_deleted() -> None:
    """Chunks uploaded, the store away, collections by others, then the commit."""
    for away in (1, 2, 3):
        world = World()
        repo = world.open()
        entry = file(repo, b"first", b"second")
        for _ in range(away):
            world.time.advance(GRACE + 1)
            world.collect(LAST)
        assert len(world.keys("data/")) == (2 if away < 2 else 0)
        if away >= 2:
            with pytest.raises(NotFoundError, match=r"'f' cannot be committed: chunk .* is missing"):
                commit(repo, b"f", entry)
            world.check()
        repo.use_local(lambda chunk, length: LOCAL.get(bytes(chunk)))
        commit(repo, b"f", entry)
        world.check()
        is_there(world, b"f", b"firstsecond")


def test_a_writer_with_an_old_head_never_uses_a_number_again() -> None:
    world = World()
    asleep = world.open()
    old = save(asleep, b"mine", b"mine")
    other = world.open()
    for i in range(6):
        save(other, b"theirs", b"%d" % i)
    for _ in range(3):
        world.time.advance(GRACE + 1)
        world.collect(LAST)
    assert len(world.keys("commits/main/")) == 1
    head = asleep.head("main", after=old.number)
    assert head is not None
    assert head.number == 8
    record = asleep.commit("main", old, msgspec.structs.replace(old.commit.root, mode=0o700), "")
    assert record.number == 9
    world.check()


def test_a_machine_that_sleeps_in_the_middle_of_its_commit() -> None:
    """Its request goes out days later, to a number that was used and collected meanwhile."""
    for number in every_request():
        world, _ = world_with_garbage()
        store = world.store.view()
        repo = world.open(store)

        def days(world: World = world) -> None:
            other = world.open()
            for i in range(5):
                save(other, b"theirs", b"%d" % i)
            for _ in range(3):
                world.time.advance(GRACE + 1)
                world.collect(LAST)

        reached = at_request(store, number, days)
        repo.use_local(lambda chunk, length: LOCAL.get(bytes(chunk)))
        with contextlib.suppress(ModelfsError):
            save(repo, b"again", b"one", b"three")
            fresh = world.open()
            assert read_all(fresh, fresh.resolve(None))[b"again"] == b"onethree"
        world.check()
        numbers = [r.number for r in world.open().log()]
        assert numbers == sorted(set(numbers), reverse=True)
        if not reached():
            break


@pytest.mark.parametrize("what", ["tag", "copy", "branch"])
def test_an_old_commit_is_taken_up_again_at_any_moment_of_a_collection(what: str) -> None:
    for number in every_request(3000, STEP):
        world = World()
        repo = world.open()
        old = save(repo, b"f", b"old", b"older")
        save(repo, b"f", b"new")
        world.time.advance(GRACE + 1)
        for _ in range(2):
            store = world.store.view()
            done: list[bool] = []

            def take(world: World = world, old: CommitRecord = old, done: list[bool] = done) -> None:
                mine = world.open()
                try:
                    record = mine.resolve(f"main@{old.number}")
                    if what == "tag":
                        mine.tag("t", record)
                    elif what == "copy":
                        entry = mine.find(record.commit.root, b"f")
                        assert entry is not None
                        commit(mine, b"copy", entry, reached=mine.adopt(record, entry))
                    else:
                        root = record.commit.root
                        mine.commit("b", None, root, "", reached=mine.adopt(record, root))
                except (UsageError, ConflictError):
                    done.append(False)
                else:
                    done.append(True)

            reached = at_request(store, number, take)
            with contextlib.suppress(ConflictError):
                world.collect(LAST, store)
            world.check()
            if done:
                break
            world.time.advance(GRACE + 1)
            number -= 40  # the second run is stopped at its beginning too
        for _ in range(3):
            world.time.advance(GRACE + 1)
            world.collect(LAST)
            world.check()
        if done == [True]:
            fresh = world.open()
            ref, path = {"tag": ("t", b"f"), "copy": ("main", b"copy"), "branch": ("b", b"f")}[what]
            assert read_all(fresh, fresh.resolve(ref))[path] == b"oldolder"
        if not reached() and not done:
            break
