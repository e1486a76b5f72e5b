"""Random histories against a model: what a commit that is kept holds is readable byte for byte at any time, and what
nothing needs is gone after two runs."""

from __future__ import annotations

import hypothesis.strategies as st
from gc_world import GRACE, World, commit, file, read_all, remove
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from modelfs.errors import CollectedError, CorruptError, NotFoundError
from modelfs.repository.objects import Entry
from modelfs.repository.reachable import Reachable
from modelfs.repository.repository import Repository
from modelfs.repository.retention import Retention

NAMES = st.sampled_from([b"a", b"b", b"d/c", b"d/e/f"])
CONTENTS = st.lists(st.sampled_from([b"0" * 50, b"1" * 60, b"2" * 70, b"3" * 80, b"4" * 90]), min_size=1, max_size=3)
RETENTIONS = st.sampled_from([Retention(), Retention(last=1), Retention(last=3), Retention(within=2 * GRACE)])


class Histories(RuleBasedStateMachine):
    """The model: for each branch its commits in order, (number, files); tags; what every writer has uploaded."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.writers = [self.world.open(), self.world.open()]
        self.branches: dict[str, dict[int, dict[bytes, bytes]]] = {"main": {1: {}}}
        self.tags: dict[str, tuple[str, int]] = {}
        self.uploaded: list[tuple[Entry, bytes]] = []
        self.tagged: dict[str, dict[bytes, bytes]] = {}
        self.made = 0

    def _head(self, branch: str) -> dict[bytes, bytes]:
        return self.branches[branch][max(self.branches[branch])]

    def _branch(self, n: int) -> str:
        return sorted(self.branches)[n % len(self.branches)]

    @rule(writer=st.integers(0, 1), branch=st.integers(0, 5), name=NAMES, chunks=CONTENTS)
    def save(self, writer: int, branch: int, name: bytes, chunks: list[bytes]) -> None:
        where = self._branch(branch)
        repo = self.writers[writer]
        record = commit(repo, name, file(repo, *chunks), where)
        self.branches[where][record.number] = {**self._head(where), name: b"".join(chunks)}

    @rule(writer=st.integers(0, 1), chunks=CONTENTS)
    def upload(self, writer: int, chunks: list[bytes]) -> None:
        self.uploaded.append((file(self.writers[writer], *chunks), b"".join(chunks)))

    @precondition(lambda self: self.uploaded)
    @rule(writer=st.integers(0, 1), branch=st.integers(0, 5), name=NAMES, which=st.integers(0, 20))
    def commit_what_was_uploaded_before(self, writer: int, branch: int, name: bytes, which: int) -> None:
        """By whoever, however long ago: refused if it is gone, never half."""
        where = self._branch(branch)
        entry, expected = self.uploaded[which % len(self.uploaded)]
        try:
            record = commit(self.writers[writer], name, entry, where)
        except (NotFoundError, CorruptError):
            return
        self.branches[where][record.number] = {**self._head(where), name: expected}

    @rule(writer=st.integers(0, 1), branch=st.integers(0, 5))
    def delete(self, writer: int, branch: int) -> None:
        where = self._branch(branch)
        head = self._head(where)
        if b"a" in head:
            record = remove(self.writers[writer], b"a", where)
            self.branches[where][record.number] = {k: v for k, v in head.items() if k != b"a"}

    @rule(writer=st.integers(0, 1), branch=st.integers(0, 5), back=st.integers(0, 5))
    def make_a_branch(self, writer: int, branch: int, back: int) -> None:
        where = self._branch(branch)
        numbers = sorted(self.branches[where], reverse=True)
        number = numbers[back % len(numbers)]
        repo, name = self.writers[writer], f"b{self.made % 3}"
        if name in self.branches:
            return
        self.made += 1
        try:
            record = repo.resolve(f"{where}@{number}")
            root = record.commit.root
            made = repo.commit(name, None, root, "", reached=repo.adopt(record, root), revive=True)
        except CollectedError:
            del self.branches[where][number]
            return
        self.branches[name] = {made.number: dict(self.branches[where][number])}

    @rule(writer=st.integers(0, 1), n=st.integers(0, 5))
    def delete_a_branch(self, writer: int, n: int) -> None:
        name = self._branch(n)
        if name != "main":
            self.writers[writer].end_branch(name)
            del self.branches[name]

    @rule(writer=st.integers(0, 1), branch=st.integers(0, 5), back=st.integers(0, 5))
    def tag(self, writer: int, branch: int, back: int) -> None:
        where = self._branch(branch)
        numbers = sorted(self.branches[where], reverse=True)
        number, name = numbers[back % len(numbers)], f"t{len(self.tags)}"
        if name in self.tags:
            return
        try:
            self.writers[writer].tag(name, self.writers[writer].resolve(f"{where}@{number}"))
        except CollectedError:
            del self.branches[where][number]
            return
        self.tags[name] = (where, number)
        self.tagged[name] = dict(self.branches[where][number])

    @precondition(lambda self: self.tags)
    @rule(writer=st.integers(0, 1))
    def delete_a_tag(self, writer: int) -> None:
        name = max(self.tags)
        self.writers[writer].delete_tag(name)
        del self.tags[name]

    @rule(seconds=st.sampled_from([1.0, 200.0, 400.0, GRACE / 2, GRACE + 1]))
    def time_passes(self, seconds: float) -> None:
        self.world.time.advance(seconds)

    @rule(retention=RETENTIONS)
    def collect(self, retention: Retention) -> None:
        self.world.collect(retention)

    @rule(retention=RETENTIONS)
    def collect_twice(self, retention: Retention) -> None:
        for _ in range(2):
            self.world.time.advance(GRACE + 1)
            self.world.collect(retention)
        self._nothing_else()

    def _nothing_else(self) -> None:
        """Chunks are those of what can be read; metadata too."""
        repo = Repository.open(self.world.store, clock=self.world.time.clock())
        needed: set[str] = set()
        reach = Reachable(repo)
        for branch in self.branches:
            for record in repo.log(branch):
                needed |= {found.key for found in reach.walk(record.commit.root)}
        for tag in self.tags:
            needed |= {found.key for found in reach.walk(repo.resolve(tag).commit.root)}
        assert self.world.keys("data/", "meta/") == needed

    @invariant()
    def everything_that_is_kept_reads_back(self) -> None:
        repo = Repository.open(self.world.store, clock=self.world.time.clock())
        assert set(repo.branches()) == set(self.branches)
        for branch, commits in self.branches.items():
            there = {record.number: record for record in repo.log(branch)}
            assert max(there) == max(commits)
            for number, record in there.items():
                if number in commits:
                    assert read_all(repo, record) == commits[number]
                else:
                    read_all(repo, record)
        for name in self.tags:
            assert read_all(repo, repo.resolve(name)) == self.tagged[name]


Histories.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
test_random_histories = Histories.TestCase
