"""Copying from store to store: what is moved, what is refused, and what happens when something fails on the way."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest
from gc_world import GRACE, TimedStore, World, commit, content, file, read_all, remove, save
from repository_store import KEY_FILE

from modelfs.codecs import Element
from modelfs.crypto.signing import SigningKey
from modelfs.errors import ConflictError, CorruptError, NotFoundError, TransientError, UsageError
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.repository.access import Access
from modelfs.repository.chunks import Tensor
from modelfs.repository.keys import FORMAT_KEY
from modelfs.repository.repository import Repository
from modelfs.repository.retention import Retention
from modelfs.sync.history import parse_since
from modelfs.sync.objects import Progress
from modelfs.sync.sync import Report, Sync


@contextlib.contextmanager
def no_bar(total: int) -> Iterator[Progress]:
    yield lambda count: None


def sync(
    source: Repository,
    target: Repository,
    *refs: str,
    since: str | None = None,
    rewrite: bool = False,
    dry_run: bool = False,
) -> Report:
    begin = parse_since(source, since) if since is not None else None
    looking = contextlib.nullcontext(lambda: None)
    run = Sync(source, target, rewrite=rewrite)
    return run.run(refs, begin, dry_run=dry_run, bar=no_bar, looking=lambda: looking)


def mirror(world: World) -> tuple[World, Repository]:
    """A store with the id and the keys of another one, and no history."""
    made = World(time=world.time, access=world.access)
    made.store.objects = {FORMAT_KEY: world.store.objects[FORMAT_KEY]}
    return made, made.open()


def alike(source: Repository, target: Repository, branch: str = "main") -> bool:
    """The same files in all commits; `sync` compares attributes and texts when it is run again."""
    ours, theirs = (list(repo.log(branch)) for repo in (source, target))
    return len(ours) == len(theirs) and all(
        read_all(source, a) == read_all(target, b) and a.commit.time_ns == b.commit.time_ns
        for a, b in zip(ours[:-1], theirs[:-1], strict=True)
    )


def random(kilobytes: int = 100) -> bytes:
    return os.urandom(kilobytes << 10)


@pytest.fixture
def world() -> World:
    """A store with three commits and a tag."""
    made = World()
    repo = made.open()
    save(repo, b"a", random(), random())
    repo.tag("v1", commit(repo, b"deep/er/b", file(repo, random())))
    save(repo, b"c", random())
    return made


def other(world: World, access: Access | None = None) -> World:
    """An empty store beside it."""
    world.time.advance(1)
    return World(time=world.time, access=access or Access())


def test_everything_then_only_what_has_come_since(world: World) -> None:
    to = other(world)
    source, target = world.open(), to.open()
    shown = sync(source, target, dry_run=True)
    assert (shown.chunks, shown.branches[0].commits, shown.tags) == (4, 3, ["v1"])
    assert target.head().number == 1, "a dry run writes nothing"
    first = sync(source, target)
    assert (first.chunks, first.bytes, first.tags) == (4, 400 << 10, ["v1"])
    assert alike(source, target)
    assert target.read_tag("v1").time_ns == source.read_tag("v1").time_ns
    shared, new = content(source, source.find(source.head().commit.root, b"c")), random(7)
    save(source, b"step-2", shared, new)
    puts: Counter[str] = Counter()
    listed: list[str] = []

    def watch(operation: str, key: str) -> None:
        puts.update([key.partition("/")[0]] if operation.startswith("put") else [])
        listed.extend([key] if operation == "list" else [])

    view = to.store.view()
    view.before = watch
    second = sync(source, to.open(view))
    assert (second.chunks, second.bytes, second.metadata) == (1, 7 << 10, 2)
    assert puts == {"data": 1, "meta": 2, "commits": 1, "sync": 1}
    assert not [prefix for prefix in listed if prefix.startswith(("data", "meta"))]
    assert sync(source, target).chunks == 0
    assert alike(source, target)
    to.check()


def test_a_mirror_has_the_same_objects(world: World) -> None:
    to, target = mirror(world)
    source = world.open()
    assert sync(source, target).branches[0].same
    areas = ("data", "meta", "commits", "tags")
    assert to.keys(*areas) == world.keys(*areas)
    assert all(to.store.objects[key][0] == world.store.objects[key][0] for key in to.keys(*areas))
    save(source, b"d", random())
    sync(source, target)
    assert target.head().id == source.head().id


def test_encrypted_mirrors_and_stores_with_other_keys(world: World) -> None:
    sealed = other(world, Access(secret=KEY_FILE))
    source, target = world.open(), sealed.open()
    assert sync(source, target).chunks == 4
    assert alike(source, target)
    assert not any(b"modelfs commit" in data for data, _ in sealed.store.objects.values())
    base = content(source, source.find(source.head().commit.root, b"a"))
    save(source, b"a", base[: 100 << 10], random(3))  # half of it is there
    again = sync(source, target)
    assert (again.chunks, again.bytes) == (1, 3 << 10), "ids of known chunks are had from manifests"
    assert alike(source, target)
    copy, twin = mirror(sealed)
    sync(target, twin)
    assert alike(target, twin)
    assert twin.head().id == target.head().id
    back = other(world)
    sync(twin, back.open(), rewrite=True)
    assert alike(source, back.open())
    for made in (sealed, copy, back):
        made.check()


def test_writing_anew_goes_on_after_others_have_cut_a_file_otherwise(world: World) -> None:
    sealed = other(world, Access(secret=KEY_FILE))
    source = world.open()
    sync(source, sealed.open())
    save(source, b"new/c", content(source, source.find(source.head().commit.root, b"c")))
    report = sync(source, sealed.open())
    assert report.chunks == 0, "the chunk is in another file already"
    assert alike(source, sealed.open())


def bf16(seed: int, changed: int = 0) -> bytes:
    import numpy as np

    words = np.random.default_rng(seed).integers(0x3C00, 0x3D00, 150_000, dtype=np.uint16)
    words[:changed] += 1
    return words.tobytes()


def save_delta(repo: Repository) -> tuple[ChunkId, ChunkId]:
    """Two files, the chunk of the second a delta to that of the first."""
    base, changed = bf16(1), bf16(1, changed=500)
    save(repo, b"one", base)
    first = ChunkId(repo.read_manifest(ManifestId(repo.find(repo.head().commit.root, b"one").content)).chunks[0].id)
    chunk, _ = repo.write_chunk(changed, Tensor(Element.BF16, (first,)))
    assert repo.delta_head(chunk) is not None
    entry = file(repo, changed)
    commit(repo, b"two", entry)
    return first, chunk


@pytest.mark.parametrize("rewrite", [False, True])
def test_deltas_stay_deltas(rewrite: bool) -> None:
    world = World()
    source = world.open()
    base, delta = save_delta(source)
    to = other(world)
    target = to.open()
    sync(source, target, rewrite=rewrite)
    assert target.delta_head(delta).base == base
    assert to.keys("deltas") == world.keys("deltas")
    assert alike(source, target)


def test_a_base_comes_along_and_is_none_of_the_targets_deltas() -> None:
    world = World()
    source = world.open()
    base, delta = save_delta(source)
    remove(source, b"one")
    to = other(world)
    target = to.open()
    number = source.head().number
    report = sync(source, target, since=f"main@{number}")
    assert report.chunks == 2, "nothing refers to the base, the delta needs it"
    to.time.advance(3 * GRACE)
    to.collect()
    to.check()
    third = other(world)
    target = third.open()
    # Here the base of the source is a delta itself.
    plain = content(source, file(source, bf16(1)))
    root, _ = target.write_chunk(bf16(1, changed=9000))
    assert target.write_chunk(plain, Tensor(Element.BF16, (root,)))[0] == base
    assert target.delta_head(base) is not None
    sync(source, target)
    assert target.delta_head(delta) is None
    third.check()


def test_refs_and_since(world: World) -> None:
    source = world.open()
    source.commit("dev", None, source.head().commit.root, "begin")
    save(source, b"x", random(), branch="dev")
    save(source, b"y", random())
    _, target = mirror(world)
    sync(source, target, "v1")
    assert (target.head().number, target.tags(), target.branches()) == (3, ("v1",), ("main",))
    sync(source, target, "dev")
    assert (target.head().number, target.head("dev").number) == (3, 2)
    sync(source, target)
    assert target.head().number == source.head().number == 5
    late, target = mirror(world)
    report = sync(source, target, "main", since="main@4")
    assert [record.number for record in target.log()] == [5, 4]
    assert report.branches[0].same
    late.check()
    assert not sync(source, target, "main").branches[0].commits, "it begins where it began"
    left_out = sync(source, target)
    assert left_out.tags_left_out == ["v1"]
    plain = other(world)
    sync(source, plain.open(), "main", since="2100-01-01")
    assert [record.number for record in plain.open().log()] == [2, 1], "the newest is always there"


def test_what_does_not_exist(world: World) -> None:
    source, target = world.open(), other(world).open()
    with pytest.raises(UsageError, match="nothing"):
        sync(source, target, "nothing")
    with pytest.raises(UsageError, match="yesterday"):
        parse_since(source, "yesterday")


def test_a_target_that_has_gone_another_way_is_refused(world: World) -> None:
    source, to = world.open(), other(world)
    target = to.open()
    sync(source, target)
    theirs = save(target, b"own", random())
    report = sync(source, target)
    assert report.branches[0].ahead
    save(source, b"ours", random())
    before = dict(to.store.objects)
    with pytest.raises(UsageError, match="has gone another way"):
        sync(source, target)
    assert to.store.objects == before
    assert target.head().id == theirs.id


def test_tags_do_not_move(world: World) -> None:
    source, target = world.open(), other(world).open()
    sync(source, target, "main")
    target.tag("v1", target.head())
    with pytest.raises(UsageError, match="the tag v1 names"):
        sync(source, target)


def test_signed_history(world: World) -> None:
    key = SigningKey.new()
    signed = World(time=world.time, access=Access(signer=key))
    source = signed.open()
    save(source, b"s", random())
    with pytest.raises(UsageError, match="--sign-with"):
        sync(source, other(world).open())
    to = other(world)
    mine = SigningKey.new()
    sync(source, to.open(access=Access(signer=mine)))
    copies = list(to.open(access=Access(trusted=frozenset({mine.public}), signer=mine)).log())
    assert copies[0].signed_by == mine.public.raw
    _, target = mirror(signed)
    sync(source, target)
    assert target.head().signature == source.head().signature


class Dead(Exception):
    """The process died."""


def test_killed_at_any_request_and_run_again(world: World) -> None:
    """After each death the target is whole; the next run completes it and sends no chunk twice."""
    source = world.open()
    save_delta(source)
    for number in itertools.count(1):
        to = other(world)
        count = 0

        def die(operation: str, key: str, number: int = number) -> None:
            nonlocal count
            if operation.startswith("put"):
                count += 1
                if count >= number:
                    raise Dead

        view = to.store.view()
        target = to.open(view)
        view.before = die
        with contextlib.suppress(Dead):
            sync(source, target)
            break
        to.check()
        there = to.keys("data")
        sent: Counter[str] = Counter()
        again = to.store.view()
        again.before = lambda operation, key, sent=sent: sent.update([key] if operation.startswith("put") else [])
        target = to.open(again)
        sync(source, target)
        assert alike(source, target)
        assert not there & sent.keys()
        assert max(sent.values()) == 1
        to.check()
    assert number > 15


def test_lost_and_failed_requests(world: World) -> None:
    source, to = world.open(), other(world)
    view = to.store.view()
    target = to.open(view)

    def lose(operation: str, key: str) -> None:
        if operation == "put_if_absent" and key.startswith("commits"):
            view.after = lambda operation, key: None
            raise TransientError("injected: the answer is lost", key)

    view.after = lose
    with pytest.raises(TransientError):
        sync(source, target)
    sync(source, target)
    assert alike(source, target)


def test_damage_in_the_source_does_not_arrive(world: World) -> None:
    source, to = world.open(), other(world)
    target = to.open()
    victim = sorted(world.keys("data"))[0]
    data, time = world.store.objects[victim]
    world.store.objects[victim] = (data[:-1] + bytes([data[-1] ^ 1]), time)
    with pytest.raises(CorruptError, match=victim.replace("data/", "").replace("/", "")):
        sync(source, target)
    assert victim not in to.store.objects
    assert target.head().number == 1
    del world.store.objects[victim]
    with pytest.raises(NotFoundError, match="missing"):
        sync(source, target)
    world.store.objects[victim] = (data, time)
    sync(source, target)
    assert alike(source, target)


def test_bytes_that_flip_once_on_the_way_are_asked_for_again(world: World) -> None:
    flipped: set[str] = set()

    class Flipping(TimedStore):
        def get(self, key: str) -> bytes:
            data = super().get(key)
            if key.startswith(("data", "meta")) and key not in flipped:
                flipped.add(key)
                return data[:-1] + bytes([data[-1] ^ 1])
            return data

    source = world.open(Flipping(world.time, world.store.objects))
    to = other(world)
    sync(source, to.open())
    assert len(flipped) > 6
    to.check()


def test_a_collection_of_the_target_between_all_requests(world: World) -> None:
    """Two runs of a collection, a grace period apart, before any one request: what is committed is whole."""
    source = world.open()
    for number in itertools.count(1):
        to = other(world)
        # What was there once and is about to be condemned: the same chunks, in a commit that goes.
        early = to.open()
        sync(source, early, rewrite=True)
        save(source, b"more", b"the same each time" * 999)
        count, came = 0, False

        def collect(operation: str, key: str, number: int = number, to: World = to) -> None:
            nonlocal count, came
            count += 1
            if count == number:
                came = True
                for _ in range(2):
                    to.time.advance(1.5 * GRACE)
                    to.collect(Retention(last=1))

        view = to.store.view()
        target = to.open(view)
        view.before = collect
        sync(source, target)
        to.check()
        assert read_all(target, target.head()) == read_all(source, source.head())
        if not came:
            break


def test_condemned_objects_are_written_again(world: World) -> None:
    source, to = world.open(), other(world)
    view = to.store.view()
    target = to.open(view)

    def die(operation: str, key: str) -> None:
        if key.startswith("commits") and operation.startswith("put"):
            raise Dead

    view.before = die
    with pytest.raises(Dead):
        sync(source, target)
    to.time.advance(2 * GRACE)
    to.collect()
    assert to.keys("gc/condemned")
    view.before = lambda operation, key: None
    report = sync(source, to.open())
    assert report.chunks == 4, "condemned is as good as absent"
    to.time.advance(2 * GRACE)
    to.collect()
    to.check()
    assert alike(source, to.open())


def test_a_collection_of_the_source_takes_commits_away(world: World) -> None:
    source = world.open()
    source.delete_tag("v1")
    for i in range(3):
        save(source, b"c", b"version %d" % i * 1000)
    view = world.store.view()
    reading = world.open(view)
    done = False

    def collect(operation: str, key: str) -> None:
        nonlocal done
        if operation == "get" and key.startswith("data") and not done:
            done = True
            for _ in range(3):
                world.time.advance(2 * GRACE)
                world.collect(Retention(last=1))

    view.before = collect
    to, target = mirror(world)
    sync(reading, target)
    assert done
    assert [record.number for record in target.log()] == [record.number for record in source.log()]
    assert read_all(target, target.head()) == read_all(source, source.head())
    to.check()


def test_gaps_of_a_mirror_are_written_down(world: World) -> None:
    to, target = mirror(world)
    source = world.open()
    sync(source, target)
    for i in range(4):
        save(source, b"c", b"version %d" % i * 1000)
    for _ in range(3):
        world.time.advance(2 * GRACE)
        world.collect(Retention(last=2))
    assert [record.number for record in source.log()] == [8, 7, 3]
    sync(world.open(), target)
    assert [record.number for record in target.log()][:4] == [8, 7, 4, 3]
    assert not sync(world.open(), target).branches[0].commits
    assert (5 in target.collected("main"), 6 in target.collected("main")) == (True, True)
    to.collect()
    to.check()


def test_a_mark_counts_only_while_nobody_else_writes(world: World) -> None:
    source, to = world.open(), other(world)
    source.delete_tag("v1")
    target = to.open()
    sync(source, target)
    for i in range(4):
        save(source, b"c", b"version %d" % i * 1000)
    for _ in range(3):
        world.time.advance(2 * GRACE)
        world.collect(Retention(last=1))
    save(target, b"own", random())
    with pytest.raises(UsageError, match="another way"):
        sync(world.open(), target)


def test_a_damaged_mark_is_named(world: World) -> None:
    source, to = world.open(), other(world)
    sync(source, to.open())
    (key,) = to.keys("sync/")
    to.store.objects[key] = (to.store.objects["tags/v1"][0], 0.0)
    with pytest.raises(CorruptError, match=f"{key} .* can be deleted"):
        sync(source, to.open())
    to.check()


def test_two_that_write_one_branch(world: World) -> None:
    source, to = world.open(), other(world)
    view = to.store.view()
    target = to.open(view)
    busy = False

    def interfere(operation: str, key: str) -> None:
        nonlocal busy
        if operation == "put" and key.startswith("meta") and not busy:
            busy = True
            save(to.open(), b"theirs", random())

    view.before = interfere
    with pytest.raises(ConflictError, match="somebody else"):
        sync(source, target)
    to.check()


def test_branches_that_end_and_begin_again(world: World) -> None:
    source = world.open()
    root = source.head().commit.root
    source.commit("dev", None, root, "first life")
    source.end_branch("dev")
    source.commit("dev", None, root, "second life", revive=True)
    _, target = mirror(world)
    sync(source, target)
    assert (target.head("dev").number, target.head("dev").id) == (3, source.head("dev").id)
    source.end_branch("dev")
    sync(source, target)
    assert target.head("dev").number == 3, "a deleted branch stays in the copy"
    world.time.advance(1)
    target.end_branch("dev")
    source.commit("dev", None, root, "third life", revive=True)
    with pytest.raises(UsageError, match="was deleted there"):
        sync(source, target)


def test_large_directories_and_links(world: World) -> None:
    source = world.open()
    head = source.head()
    small = [msgspec.structs.replace(file(source, random(1)), name=b"%05d" % i, group=bytes(16)) for i in range(2)]
    filler = [msgspec.structs.replace(e, name=b"f%05d" % i, group=b"") for i, e in enumerate(small * 1500)]
    from modelfs.repository.objects import TreeDelta

    linked = [msgspec.structs.replace(small[0], name=name, group=b"g" * 16) for name in (b"x", b"y")]
    tree = source.apply(
        TreeId(head.commit.root.content), TreeDelta(puts={entry.name: entry for entry in [*filler, *linked]})
    )
    source.commit("main", head, source.directory(head.commit.root, tree), "")
    for access in (Access(), Access(secret=KEY_FILE)):
        to = other(world, access)
        target = to.open()
        sync(source, target)
        there = {e.name: e for e in target.list(TreeId(target.head().commit.root.content))}
        assert there[b"x"].group == b"g" * 16
        assert target.head().commit.root.linked == 2
        assert alike(source, target)
