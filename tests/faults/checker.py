"""Judges what several machines recorded, by the history of the store and the promises of docs/consistency.md.

The store's commits are one order of everything, and each says when it was begun; so for every instant there is a newest
commit that certainly was there, and a newest one that can have been. A read is right if it returned

* what its path held in some commit from the first to the second of these (on a mount that asks at every open), or in
  some commit not older than what this machine had already seen of the path (on one that refreshes now and then), or
* a change of its own machine that was not known to be in the store yet.

Everything else follows from each content being written only once: it may come to a path no more often than somebody
put it there, a rename shows at once or not at all, and what was acknowledged is in the history by then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from itertools import pairwise

from history import ABSENT, History, fingerprint
from machineworker import Config, Op, Record

EMPTY = fingerprint(b"")
STALE = 5e9  # nanoseconds for each second of the refresh interval: a machine that is kept busy asks late


class Checker:
    """One run: what the machines were told to do, what they recorded, and the store's history."""

    def __init__(self, configs: list[Config], records: list[Record], history: History) -> None:
        self._configs = configs
        self._records = records
        self._history = history
        self._times = [record.commit.time_ns for record in history.commits]
        self._versions = {path: history.versions(path) for path in history.paths()}
        self._ops: dict[str, list[Op]] = defaultdict(list)
        for record in records:
            for op in record.ops:
                self._ops[op.path].append(op)
        for ops in self._ops.values():
            ops.sort(key=lambda op: op.begin)
        self._landed: dict[int, int] = {}  # id of an op -> index of the commit that has its effect
        self.wrong: list[str] = [line for record in records for line in record.wrong]
        self.reads = 0

    def check(self) -> list[str]:
        """Everything that is wrong, in words."""
        if any(later < earlier for earlier, later in pairwise(self._times)):
            self.wrong.append("the times of the commits go backwards")
        if doubled := self._history.doubled():
            self.wrong.append(f"commits that change nothing: {doubled}")
        self._check_contents()
        self._check_places()
        for ops in self._ops.values():
            self._check_acknowledged(ops)
        self._facts = self._known_commits()
        for ops in self._ops.values():
            self._check_reads(ops)
        final = self._history.final()
        for record in self._records:
            for home, model in record.models.items():
                found = {path: value for path, value in final.items() if path.startswith(home + "/")}
                found.pop(f"{home}/tmp", None)
                if found != model:
                    self.wrong.append(f"{home}: the store ends with {found}, its thread with {model}")
        return self.wrong

    # -- the history by itself ----------------------------------------------------------------------------------

    def _check_contents(self) -> None:
        """Nothing invented, nothing twice."""
        for path, versions in self._versions.items():
            put = Counter(op.value for op in self._ops[path] if op.changes)
            failed = any(op.changes and not op.ok for op in self._ops[path])
            for value, times in Counter(value for _, value in versions).items():
                if value == ABSENT or (value == EMPTY and failed):
                    continue
                if times > put[value]:
                    self._say(path, f"{value} came {times} times, was written {put[value]} times")

    def _check_places(self) -> None:
        """A content is in one place: a rename that shows half would make it two."""
        places: dict[str, set[str]] = defaultdict(set)
        now: dict[str, str] = {}
        for record, changes in zip(self._history.commits, self._history.changes, strict=True):
            for path, value in changes.items():
                places[now.get(path, ABSENT)].discard(path)
                now[path] = value
                places[value].add(path)
            for value in set(changes.values()) - {ABSENT, EMPTY}:
                if len(places[value]) > 1:
                    self.wrong.append(f"commit {record.number} has {value} at {sorted(places[value])}")

    # -- what was acknowledged ----------------------------------------------------------------------------------

    def _check_acknowledged(self, ops: list[Op]) -> None:
        """Each change that was acknowledged is in the history: at once, or with write-back in the end."""
        versions = self._versions.get(ops[0].path, [])
        for op in ops:
            if not op.changes:
                continue
            begun = bisect_right(self._times, op.begin)  # commits from here on were begun after the operation
            upto = bisect_right(self._times, op.end)
            index = next((i for i, value in versions if value == op.value and i >= begun), None)
            prompt = not self._configs[op.machine].write_back
            if index is not None and (not prompt or index < upto):
                self._landed[id(op)] = index
            if not op.ok:
                continue
            if not prompt:
                later = any(o.changes and o.machine == op.machine and o.begin > op.begin for o in ops)
                if index is None and not later and not self._replaced_by_rename(op):
                    self._say(op.path, f"acknowledged and not in the history: {_told(op)}")
            elif index is None or index >= upto:
                # What this machine created and removed again before it was committed leaves no trace. It may have done
                # so on a view that is a few refresh intervals old, and others may have come after.
                viewed = bisect_right(self._times, op.begin - int(STALE * self._configs[op.machine].refresh))
                if op.value == ABSENT and ABSENT in (self._value_at(op.path, i - 1) for i in range(viewed, upto + 1)):
                    continue
                self._say(op.path, f"acknowledged and not in the history by then: {_told(op)}")

    def _replaced_by_rename(self, op: Op) -> bool:
        """True for a temporary file, which is renamed away, and for a removal of what was never committed."""
        return op.path.endswith("/tmp") or op.value == ABSENT

    # -- what was read ------------------------------------------------------------------------------------------

    def _known_commits(self) -> tuple[list[int], list[int]]:
        """Instants, and the newest commit that certainly was there at each: whoever began the next one had read it,
        and who was told that his change is in the store has it there."""
        facts = [(time, index) for index, time in enumerate(self._times[1:])]
        for ops in self._ops.values():
            for op in ops:
                if op.ok and id(op) in self._landed and not self._configs[op.machine].write_back:
                    facts.append((op.end, self._landed[id(op)]))
        facts.sort()
        newest, times, indices = 0, [], []
        for time, index in facts:
            newest = max(newest, index)
            times.append(time)
            indices.append(newest)
        return times, indices

    def _oldest(self, instant: int) -> int:
        times, indices = self._facts
        at = bisect_right(times, instant)
        return indices[at - 1] if at else 0

    def _value_at(self, path: str, index: int) -> str:
        versions = self._versions.get(path, [])
        at = bisect_right(versions, index, key=lambda version: version[0])
        return versions[at - 1][1] if at else ABSENT

    def _check_reads(self, ops: list[Op]) -> None:
        path = ops[0].path
        seen: dict[int, list[tuple[int, int]]] = defaultdict(list)  # machine -> (when, commit) seen of this path
        for op in sorted(ops, key=lambda op: op.end):
            if op.changes:
                if op.ok and id(op) in self._landed and not self._configs[op.machine].write_back:
                    seen[op.machine].append((op.end, self._landed[id(op)]))
                continue
            if not op.ok:
                continue
            self.reads += 1
            if self._configs[op.machine].refresh:
                low = max((index for when, index in seen[op.machine] if when <= op.begin), default=0)
            else:
                low = self._oldest(op.begin)
            high = bisect_right(self._times, op.end) - 1
            legal = {self._value_at(path, low): low}
            for index, value in self._versions.get(path, []):
                if low < index <= high:
                    legal.setdefault(value, index)
            if op.value in legal:
                seen[op.machine].append((op.end, legal[op.value]))
            elif op.value not in self._pending(ops, op):
                name = self._history.commits[low].number, self._history.commits[high].number
                self._say(path, f"{_told(op)}: in commits {name[0]} to {name[1]} it was {sorted(legal)}")

    def _pending(self, ops: list[Op], read: Op) -> set[str]:
        """Changes of the reader's machine that it may know and the store not."""
        found: set[str] = set()
        own = [op for op in ops if op.changes and op.machine == read.machine and op.begin <= read.end]
        for position, op in enumerate(own):
            until = min((later.end for later in own[position + 1 :] if later.ok), default=1 << 63)
            if op.ok and not self._configs[op.machine].write_back:
                until = min(until, op.end)
            elif op.value != ABSENT and id(op) in self._landed and self._landed[id(op)] + 1 < len(self._times):
                until = min(until, max(op.end, self._times[self._landed[id(op)] + 1]))
            if until >= read.begin:
                found.add(op.value)
                if not op.ok:
                    found.add(EMPTY)
        return found

    # -- words --------------------------------------------------------------------------------------------------

    def _say(self, path: str, what: str) -> None:
        self.wrong.append(f"{path}: {what}\n{self.story(path)}")

    def story(self, path: str) -> str:
        """Everything that happened to a path, in order."""
        lines = [(op.begin, f"    {_told(op)}") for op in self._ops[path]]
        for index, value in self._versions.get(path, []):
            lines.append((self._times[index], f"    commit {self._history.commits[index].number}: {value}"))
        lines.sort()
        start = lines[0][0] if lines else 0
        return "\n".join(f"  {(when - start) / 1e9:9.4f}{line}" for when, line in lines)


def _told(op: Op) -> str:
    who = f"machine {op.machine} thread {op.thread} step {op.number}"
    took = f"{(op.end - op.begin) / 1e6:.1f} ms"
    return f"{who}: {op.kind} {op.path} {op.value} {'ok' if op.ok else 'FAILED'} {took} {op.note}".rstrip()
