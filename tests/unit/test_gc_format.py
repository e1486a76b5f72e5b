"""What lies under gc/ is checked when it arrives; retention and ranges of numbers against simple models."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from gc_world import GRACE, World, commit, file, save
from hypothesis import given
from hypothesis import strategies as st

from modelfs import limits
from modelfs.errors import ConflictError, CorruptError, ModelfsError, UsageError
from modelfs.quantities import parse_duration
from modelfs.repository import gcformat as gc
from modelfs.repository.envelope import wrap
from modelfs.repository.gcformat import NOTHING, Collected, Run, Sentence
from modelfs.repository.gcowner import Ownership
from modelfs.repository.retention import Retention

RUN = Run("a" * 32, "host", 1, "user", 3600.0, ended=False)


def test_what_is_packed_comes_back() -> None:
    sentence = Sentence("data", 1.5, bytes(64))
    assert gc.unpack_run(gc.pack(RUN)) == RUN
    assert gc.unpack_sentence(gc.pack(sentence)) == sentence
    assert (len(sentence), list(sentence)) == (2, [bytes(32)] * 2)
    assert Sentence("deltas", 0, bytes(64)).width == 64
    assert (Sentence("commits/main", 0, bytes(8)).width, Sentence("commits/main", 0, bytes(8)).branch) == (8, "main")
    assert gc.unpack_collected(gc.pack(Collected(((1, 2), (4, 4))))).ranges == ((1, 2), (4, 4))


@pytest.mark.parametrize(
    "sentence",
    [
        Sentence("elsewhere", 0, bytes(32)),
        Sentence("commits/../x", 0, bytes(8)),
        Sentence("data", 0, bytes(33)),
        Sentence("deltas", 0, bytes(32)),
        Sentence("data", -1, bytes(32)),
        Sentence("data", 0, b""),
        Sentence("data", 0, bytes(limits.GC_SENTENCE_MAX + 32)),
    ],
)
def test_sentences_that_break_a_rule(sentence: Sentence) -> None:
    with pytest.raises(ValueError):
        gc.unpack_sentence(gc.pack(sentence))


@pytest.mark.parametrize("ranges", [((2, 1),), ((1, 2), (3, 4)), ((3, 4), (1, 1)), ((0, 1),)])
def test_ranges_that_break_a_rule(ranges: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError):
        gc.unpack_collected(gc.pack(Collected(ranges)))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_understood(data: bytes) -> None:
    for unpack in (gc.unpack_run, gc.unpack_sentence, gc.unpack_collected):
        for stored in (data, b"\0" + data, wrap(data)):
            try:
                unpack(stored)
            except ValueError:
                continue


@given(st.text(max_size=60))
def test_keys_of_others_are_passed_over(key: str) -> None:
    for parse in (gc.parse_run_key, gc.parse_sentence_key, gc.parse_flag_key):
        assert parse(key) is None
    assert gc.parse_run_key(gc.run_key(7)) == 7
    name = gc.sentence_name(7, 3)
    assert gc.parse_sentence_key(gc.sentence_key(name)) == name
    assert gc.parse_flag_key(gc.flag_key(name, "a" * 32)) == (name, "a" * 32)


numbers = st.sets(st.integers(1, 30))


@given(numbers, numbers, st.integers(1, 31))
def test_ranges_are_a_set_of_numbers(a: set[int], b: set[int], asked: int) -> None:
    made = NOTHING.joined(a).joined(b)
    assert gc.unpack_collected(gc.pack(made)) == made
    truth = a | b
    assert {n for n in range(1, 40) if n in made} == truth
    assert made.below(asked) == max((n for n in range(asked + 1) if n not in truth), default=0)
    assert made.above(asked) == min(n for n in range(asked, 50) if n not in truth)


times = st.lists(st.integers(0, 400 * 86400), max_size=40).map(lambda made: list(enumerate(map(float, made), 1)))
count = st.none() | st.integers(1, 5)


@given(times, count, count, count, count, st.none() | st.floats(0, 1e7))
def test_retention_keeps_what_some_rule_wants(
    commits: list[tuple[int, float]],
    last: int | None,
    daily: int | None,
    weekly: int | None,
    monthly: int | None,
    within: float | None,
) -> None:
    now = 400 * 86400.0
    kept = Retention(last, daily, weekly, monthly, within).kept(commits, now)
    if last is daily is weekly is monthly is within is None:
        assert kept == {n for n, _ in commits}
        return
    wanted = {max(n for n, _ in commits)} if commits else set()
    wanted |= {n for n, _ in commits[-(last or 0) :]} if last else set()
    wanted |= {n for n, made in commits if within is not None and made > now - within}

    def newest_of(rule: int | None, period: str) -> set[int]:
        newest: dict[str, int] = {}
        for n, made in reversed(commits):
            newest.setdefault(datetime.fromtimestamp(made, UTC).strftime(period), n)
        return set(list(newest.values())[: rule or 0])

    assert kept == wanted | newest_of(daily, "%Y%j") | newest_of(weekly, "%G%V") | newest_of(monthly, "%Y%m")


def test_commits_from_the_end_of_time_do_no_harm() -> None:
    commits = [(1, -(2**63) / 1e9), (2, 0.0), (3, 2**63 / 1e9), (4, 1e12)]
    assert Retention(monthly=9).kept(commits, 0.0) == {1, 2, 3, 4}


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5h", 5400), ("30d", 2_592_000), ("2w", 1_209_600)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1", "-1h", "1y", "1h30m", "1 h"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("key", [gc.run_key(1), gc.sentence_key(gc.sentence_name(1, 0))])
def test_a_writer_does_not_write_by_a_damaged_list(key: str) -> None:
    world = World()
    world.store.put(key, b"\0damage")
    with pytest.raises(CorruptError, match="is damaged"):
        world.open()


def test_a_damaged_history_is_named() -> None:
    world = World()
    repo = world.open()
    for i in range(3):
        save(repo, b"f", b"%d" % i)
    world.store.put(gc.history_key("main"), b"\0damage")
    del world.store.objects["commits/main/00000000000000000002"]
    with pytest.raises(CorruptError, match="gc/history/main"):
        list(world.open().log())


def test_many_sentences_and_many_notes_of_them() -> None:
    """More garbage than one sentence holds."""
    world = World()
    for i in range(limits.GC_SENTENCE_IDS + 10):
        key = i.to_bytes(32, "big").hex()
        world.store.objects[f"meta/{key[:2]}/{key[2:]}"] = (b"x", world.time.now)
    world.store.put("meta/00/not-one-of-ours", b"")
    world.time.advance(GRACE + 1)
    assert world.collect().condemned == limits.GC_SENTENCE_IDS + 10
    assert len(world.keys("gc/condemned/")) == 2
    world.open()
    world.time.advance(GRACE + 1)
    assert world.collect().deleted == limits.GC_SENTENCE_IDS + 10
    assert world.keys("meta/") == {"meta/00/not-one-of-ours"}


def test_an_owner_that_lost_its_claim_gives_up() -> None:
    world = World()
    clock = world.time.clock()
    owner = Ownership.take(world.store, GRACE, world.time.now, exclusive=False, clock=clock)
    with pytest.raises(UsageError, match="is being collected by"):
        Ownership.take(world.store, GRACE, world.time.now, exclusive=False, clock=clock)
    world.time.advance(limits.GC_RUN_RENEW + 1)
    owner.check()
    world.time.advance(limits.GC_RUN_TTL - 1)
    with pytest.raises(UsageError, match="is being collected by"):
        Ownership.take(world.store, GRACE, world.time.now, exclusive=False, clock=clock)
    with pytest.raises(ConflictError, match="no sign of life"):
        owner.insist()
    world.time.advance(2)
    Ownership.take(world.store, GRACE, world.time.now, exclusive=False, clock=clock)
    with pytest.raises(ConflictError):
        owner.end()


def test_an_old_writer_asks_again_for_all_when_collections_were_at_work() -> None:
    world = World()
    repo = world.open()
    file(repo, b"x")
    chunks = world.keys("data/")
    world.time.advance(GRACE + 1)
    world.collect()
    world.time.advance(GRACE + 1)
    world.collect()
    assert not world.keys("data/")
    file(repo, b"x")
    assert world.keys("data/") == chunks, "it did not believe what it knew hours ago"


def test_nobody_waits_for_ever() -> None:
    """A run that goes on giving signs of life, and never ends, in the middle of a sentence."""
    world = World()
    repo = world.open()
    file(repo, b"x")
    world.time.advance(GRACE + 1)
    world.collect()
    writer = world.open(waiting_takes_time=False)
    entry = file(writer, b"x")
    owner = Ownership.take(world.store, GRACE, world.time.now, exclusive=False, clock=world.time.clock())
    for key in world.keys("gc/condemned/"):
        world.store.put(gc.flag_key(gc.parse_sentence_key(key) or "", owner.token), b"")
    with pytest.raises(ModelfsError, match="does not end"):
        commit(writer, b"f", entry)
    owner.end()
    commit(writer, b"f", entry)
    world.check()
