"""Every change of the store fails in turn, before it took effect and after: nothing is lost, nothing is made twice.

First the paths that write exclusively (commits, tags, format.json, deltas) and the lease, without a mount; then saves
through real mounts, with another mount that overwrites in between, and with kills.
"""

from __future__ import annotations

import errno
import itertools
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import trio
import trio.testing
from faultystore import CHANGES, Faults, FaultyStore, Scripted
from history import History, fingerprint
from mounting import Machine, eventually

from modelfs import limits
from modelfs.codecs import Element
from modelfs.errors import AlreadyExistsError, AwayError, ModelfsError, StoreError, TransientError, UsageError
from modelfs.ids import TreeId
from modelfs.repository.objects import CommitRecord, Entry, Kind, TreeDelta
from modelfs.repository.repository import MAIN, Repository, Tensor
from modelfs.store.lease import KEY, Lease
from modelfs.store.memory import MemoryStore
from modelfs.store.retry import RetryStore
from modelfs.vfs.commits import Committer

KINDS = ("error", "lost")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is back is noticed at once."""
    monkeypatch.setattr(limits, "STORE_PROBE_PAUSE", 0.001)


class Failing:
    """A store in memory whose ``nth`` change fails, and after that everything else until `heal`."""

    def __init__(self) -> None:
        self.inner = MemoryStore(uuid.uuid4().hex)
        self.store = RetryStore(FaultyStore(self.inner, self._before, self._after), attempts=2, first=0.0001)
        self._kind, self._nth, self._changes = "", 0, 0
        self._away = False
        self.struck = False

    def fail(self, kind: str, nth: int) -> None:
        self._kind, self._nth, self._changes, self.struck = kind, nth, 0, False

    def heal(self) -> None:
        self._nth, self._away = 0, False
        while True:
            try:
                self.store.size("format.json")
            except AwayError:
                time.sleep(limits.STORE_PROBE_PAUSE)
            else:
                return

    def _before(self, operation: str, key: str) -> None:
        self._changes += operation in CHANGES
        self._cut_if(self._away or (operation in CHANGES and self._kind == "error" and self._changes == self._nth))

    def _after(self, operation: str, key: str) -> None:
        self._cut_if(operation in CHANGES and self._kind == "lost" and self._changes == self._nth)

    def _cut_if(self, now: bool) -> None:
        if now:
            self._away = self.struck = True
            raise TransientError("the line was cut")


def each_failure(attempt: Callable[[Failing], None], again: Callable[[Failing], None]) -> None:
    """Run ``attempt`` with each of its changes failing in turn, then ``again`` on the healed store. Ends with the
    first number that is higher than the changes there are."""
    for kind in KINDS:
        for nth in itertools.count(1):
            failing = Failing()
            Repository.create(failing.store)
            failing.fail(kind, nth)
            try:
                attempt(failing)
            except StoreError:
                assert failing.struck
            failing.heal()
            again(failing)
            if not failing.struck:
                assert nth > 1, "there was no change to fail"
                break


def _root(repo: Repository, base: CommitRecord, name: bytes, content: bytes) -> Entry:
    entry = Entry(name, Kind.INLINE, 0o644, 0, 0, 0, len(content), content)
    tree = repo.apply(TreeId(base.commit.root.content), TreeDelta({name: entry}))
    return msgspec.structs.replace(base.commit.root, content=tree)


def _head(repo: Repository) -> CommitRecord:
    head = repo.head(MAIN)
    assert head is not None
    return head


def _content(repo: Repository, name: bytes) -> bytes:
    entry = repo.find(_head(repo).commit.root, name)
    assert entry is not None
    return entry.content


@pytest.mark.parametrize("rebased", [False, True])
@pytest.mark.parametrize("overwritten", [False, True])
def test_a_commit_is_made_once(rebased: bool, overwritten: bool) -> None:
    attempts: list[CommitRecord] = []
    bases: list[CommitRecord] = []

    def attempt(failing: Failing) -> None:
        attempts.clear()
        repo = Repository.open(failing.inner)
        bases[:] = [base := _head(repo)]
        if rebased:
            repo.commit(MAIN, base, _root(repo, base, b"other", b"theirs"), "")
        repo = Repository.open(failing.store)
        repo.commit(MAIN, base, _root(repo, base, b"f", b"ours"), "", announce=attempts.append)

    def again(failing: Failing) -> None:
        inner = Repository.open(failing.inner)
        before = _head(inner)
        landed = any(record.id == attempt.id for record in inner.log(before) for attempt in attempts)
        if overwritten:
            inner.commit(MAIN, before, _root(inner, before, b"f", b"later"), "")
        repo = Repository.open(failing.store)
        if not (attempts and repo.settle(attempts[-1])):
            base = bases[0]
            repo.commit(MAIN, base, _root(repo, base, b"f", b"ours"), "")
        # What was in the store before they wrote is overwritten by them; what came after them is later.
        assert _content(repo, b"f") == (b"later" if overwritten and landed else b"ours")
        assert [record.commit.root for record in repo.log()].count(_head(repo).commit.root) == 1
        assert _head(repo).number == 2 + rebased + overwritten

    each_failure(attempt, again)


def test_a_settled_commit_cannot_arrive_late() -> None:
    """An attempt that is still on its way when it is settled finds its own place taken by itself."""
    failing = Failing()
    repo = Repository.create(failing.store)
    base, attempts = _head(repo), list[CommitRecord]()
    failing.fail("error", 2)
    with pytest.raises(StoreError):
        repo.commit(MAIN, base, _root(repo, base, b"f", b"ours"), "", announce=attempts.append)
    failing.heal()
    assert repo.settle(attempts[-1])
    assert _head(repo).id == attempts[-1].id
    other = Repository.open(failing.inner)
    with pytest.raises(AlreadyExistsError):
        failing.inner.put_if_absent("commits/main/" + f"{attempts[-1].number:020d}", b"late")
    assert other.log(MAIN)


def test_a_tag_is_given_once() -> None:
    def attempt(failing: Failing) -> None:
        repo = Repository.open(failing.store)
        repo.tag("v1", _head(repo))

    def again(failing: Failing) -> None:
        repo = Repository.open(failing.store)
        attempt(failing)
        assert repo.resolve("v1").id == _head(repo).id
        base = _head(repo)
        other = repo.commit(MAIN, base, _root(repo, base, b"f", b"x"), "")
        with pytest.raises(UsageError, match="exists"):
            repo.tag("v1", other)

    each_failure(attempt, again)


def test_a_store_is_made_once() -> None:
    for kind in KINDS:
        for nth in (1, 2):
            failing = Failing()
            failing.fail(kind, nth)
            with pytest.raises(StoreError):
                Repository.create(failing.store)
            failing.heal()
            if (kind, nth) == ("lost", 2):
                with pytest.raises(UsageError, match="already"):
                    Repository.create(failing.store)
            else:
                Repository.create(failing.store)
            assert [record.number for record in Repository.open(failing.store).log()] == [1]


def test_a_delta_is_made_once_and_reads_back() -> None:
    values = np.random.default_rng(1).standard_normal(100_000).astype(np.float32)
    first, second = (((values + shift).view(np.uint32) >> 16).astype(np.uint16).tobytes() for shift in (0, 1e-5))

    def attempt(failing: Failing) -> None:
        repo = Repository.open(failing.store)
        base, _ = repo.write_chunk(first)
        repo.write_chunk(second, Tensor(Element.BF16, (base,)))

    def again(failing: Failing) -> None:
        attempt(failing)
        repo = Repository.open(failing.store)
        base, _ = repo.write_chunk(first)
        chunk, sent = repo.write_chunk(second, Tensor(Element.BF16, (base,)))
        assert sent == 0, "it is there"
        assert bytes(repo.read_chunk(base, len(first))) == first
        assert bytes(repo.read_chunk(chunk, len(second))) == second
        assert repo.delta_head(base) is None
        assert repo.delta_head(chunk) is not None, "nothing was tested: the second version is no delta"

    each_failure(attempt, again)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lease_is_had_or_not(kind: str) -> None:
    failing = Failing()
    ours, theirs = Lease(failing.store), Lease(failing.inner)
    failing.fail(kind, 1)
    with pytest.raises(StoreError):
        ours.acquire()
    failing.heal()
    if kind == "lost":  # it is ours, whether we know or not
        with pytest.raises(UsageError, match="is being written by"):
            theirs.acquire()
    ours.acquire()
    failing.fail(kind, 1)
    with pytest.raises(StoreError):
        ours.release()
    failing.heal()
    ours.release()
    assert failing.inner.size(KEY) is None
    theirs.acquire()


def test_an_answer_is_never_older_than_the_question() -> None:
    """Who asks for news while a question is under way gets the answer of another one."""
    store = MemoryStore(uuid.uuid4().hex)
    head = _head(Repository.create(store))

    class Slow:
        asked = 0

        def head(self, branch: str, after: int) -> CommitRecord:
            self.asked += 1
            trio.from_thread.run(release.wait)
            return head

    async def run() -> None:
        committer = Committer(repo, MAIN, head, None)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(committer.refresh)
            while not repo.asked:
                await trio.sleep(0)
            for _ in range(5):
                nursery.start_soon(committer.refresh)
            await trio.testing.wait_all_tasks_blocked()
            release.set()
        assert repo.asked == 2, "five that came meanwhile share one question, which was put after they came"

    release, repo = trio.Event(), Slow()
    trio.run(run)


# -- through real mounts ----------------------------------------------------------------------------------------------


def _save(path: Path, data: bytes) -> bool:
    """False when the store did not take it."""
    try:
        path.write_bytes(data)
    except OSError as error:
        assert error.errno == errno.EIO
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("write_back", [False, True], ids=["through", "write-back"])
@pytest.mark.parametrize("overwritten", [False, True], ids=["alone", "overwritten"])
def test_each_change_of_a_save_fails_in_turn(
    machine: Machine, store: str, tmp_path: Path, kind: str, write_back: bool, overwritten: bool
) -> None:
    faults = Faults(tmp_path / "faults")
    a = machine.mount(store, "a", "ca", faults=faults, refresh=3600, write_back=write_back)
    b = machine.mount(store, "b", "cb", refresh=0)
    expected: dict[str, bytes] = {}
    commits = 0
    for nth in itertools.count(1):
        name = f"f{nth}"
        ours, theirs = os.urandom(20_000), os.urandom(5_000)
        faults.set(script=(Scripted(kind, "change", nth=nth, then_away=True),))
        saved = _save(a / name, ours)
        assert saved or not write_back, "the journal takes it whatever the store does"
        if write_back:
            eventually(lambda: faults.struck()[kind] or not machine.status(a)["pending"], "the upload")
        if not faults.struck()[kind]:
            break
        landed = kind == "lost" and (b / name).exists()
        commits += landed
        assert landed or not saved or write_back
        if overwritten:
            (b / name).write_bytes(theirs)
        faults.set()
        machine.drain(a)
        expected[name] = theirs if overwritten and landed else ours
        assert (b / name).read_bytes() == expected[name]
    assert nth > 3, "chunk, manifest, tree, commit"
    assert bool(commits) == (kind == "lost"), "the last change of a save is its commit"
    (a / name).unlink()
    faults.set()
    machine.umount(a)
    machine.umount(b)
    history = History(store)
    assert history.doubled() == []
    assert history.final() == {name: fingerprint(data) for name, data in expected.items()}
    for name in expected:
        versions = [value for _, value in history.versions(name)]
        assert len(set(versions)) == len(versions) == 1 + overwritten, f"{name}: {versions}"


@pytest.mark.parametrize("write_back", [False, True], ids=["through", "write-back"])
@pytest.mark.parametrize("rebased", [False, True])
def test_a_commit_of_a_dead_mount_is_not_made_again(
    machine: Machine, store: str, tmp_path: Path, write_back: bool, rebased: bool
) -> None:
    """The commit is in the store, the mount dies before it hears of it, somebody else writes: theirs is later."""
    faults = Faults(tmp_path / "faults")
    a = machine.mount(store, "a", "ca", faults=faults, refresh=3600, write_back=write_back)
    b = machine.mount(store, "b", "cb", refresh=0)
    if rebased:
        (b / "other").write_bytes(b"theirs")  # which a does not know: its commit is laid over this one
    faults.set(script=(Scripted("kill_after", "put_if_absent", "commits/", nth=1 + rebased),))
    _save_or_die(a / "f", b"ours" * 2000)
    eventually(lambda: machine.dead(a), "the death of the daemon")
    assert (b / "f").read_bytes() == b"ours" * 2000
    (b / "f").write_bytes(b"later")
    again = machine.mount(store, "a", "ca", write_back=write_back)
    machine.drain(again)
    assert (again / "f").read_bytes() == b"later"
    assert (b / "f").read_bytes() == b"later"
    assert len(History(store).versions("f")) == 2


def test_a_replay_that_dies_is_not_made_twice(machine: Machine, store: str, tmp_path: Path) -> None:
    faults = Faults(tmp_path / "faults")
    a = machine.mount(store, "a", "ca", faults=faults, write_back=True)
    b = machine.mount(store, "b", "cb", refresh=0)
    faults.set(away=True)
    (a / "f").write_bytes(b"ours" * 2000)
    machine.kill(a)
    assert not (b / "f").exists()
    faults.set(script=(Scripted("kill_after", "put_if_absent", "commits/"),))
    with pytest.raises(ModelfsError, match="without a word"):
        machine.mount(store, "a", "ca", faults=faults, write_back=True)
    assert (b / "f").read_bytes() == b"ours" * 2000
    (b / "f").write_bytes(b"later")
    faults.set()
    a = machine.mount(store, "a", "ca", faults=faults, write_back=True)
    machine.drain(a)
    assert (a / "f").read_bytes() == b"later"
    assert len(History(store).versions("f")) == 2
    assert not list((tmp_path / "state").glob("modelfs/journal/*/main/*/stage/*"))


def test_news_that_could_not_be_read_are_read_later(machine: Machine, store: str, tmp_path: Path) -> None:
    """The commit of another mount arrives, its pages do not: an error now, and the commit when the store is back."""
    faults = Faults(tmp_path / "faults")
    b = machine.mount(store, "b", "cb")
    (b / "d").mkdir()
    (b / "d/f").write_bytes(b"old")
    a = machine.mount(store, "a", "ca", faults=faults, refresh=0)
    assert (a / "d/f").read_bytes() == b"old"
    (b / "d/f").write_bytes(b"new")
    faults.set(script=(Scripted("error", "get", "meta/", times=1000),))
    with pytest.raises(OSError):
        (a / "d/f").read_bytes()
    assert faults.struck()["error"]
    faults.set()
    assert (a / "d/f").read_bytes() == b"new"


def _save_or_die(path: Path, data: bytes) -> None:
    """The daemon may be gone at any moment."""
    try:
        path.write_bytes(data)
    except OSError as error:
        assert error.errno in (errno.EIO, errno.ENOTCONN, errno.ECONNABORTED)
