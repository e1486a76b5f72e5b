"""Power loss at any moment of a workload with --write-back, on a simulated disk: what was acknowledged comes back.

The file system runs in this process, without a kernel, over a recorded journal directory. At many moments the disk is
laid out as a power loss may leave it, and the next mount's replay runs over it: the result must be what the workload
had made by then, no acknowledged step missing, no file a mixture of two versions.
"""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import pytest
import trio
from powerloss import Fate, Recorder
from repository_store import DictStore

from modelfs import limits
from modelfs.cache.cache import Cache
from modelfs.errors import TransientError
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.journal.session import Session, dead_sessions
from modelfs.reader.source import ChunkSource
from modelfs.repository.objects import Kind
from modelfs.repository.repository import Repository
from modelfs.store.base import Buffer
from modelfs.vfs.recovery import Replayed, replay
from modelfs.vfs.vfs import Caller, Vfs, VfsOptions
from modelfs.writer.uploader import Uploader

Model = dict[bytes, bytes | None]  # path -> content, None for a directory
ROUNDS = int(os.environ.get("MODELFS_POWER_LOSSES", "25"))  # moments a run; 2,000 take some minutes
CALLER = Caller(os.getuid(), os.getgid(), 0o022)


class TimedStore(DictStore):
    """Remembers when each object came. ``away``: takes nothing."""

    def __init__(self, recorder: Recorder | None = None) -> None:
        super().__init__()
        self.recorder = recorder
        self.away = False
        self.came: list[tuple[int, str, bytes]] = []

    def put(self, key: str, data: Buffer) -> None:
        if self.away:
            raise TransientError("away", key)
        super().put(key, data)
        self.came.append((self.recorder.tick() if self.recorder else 0, key, bytes(data)))

    def put_if_absent(self, key: str, data: Buffer) -> None:
        if self.away:
            raise TransientError("away", key)
        super().put_if_absent(key, data)
        self.came.append((self.recorder.tick() if self.recorder else 0, key, bytes(data)))

    def at(self, moment: int) -> DictStore:
        """The store as it was then."""
        then = DictStore()
        then.data = {key: data for when, key, data in self.came if when <= moment}
        return then


@dataclass
class Step:
    """What the tree is after a step, and when it began and ended. ``sure``: acknowledged with all before it."""

    model: Model
    began: int
    ended: int
    sure: bool


@dataclass
class Workload:
    """Random operations, and what a replay may find after each."""

    vfs: Vfs
    recorder: Recorder
    rng: random.Random
    model: Model = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    held: set[bytes] = field(default_factory=set)

    async def run(self, count: int) -> None:
        self.steps.append(Step({}, 0, 0, True))
        for _ in range(count):
            act = self.rng.choice(
                [self.save] * 4
                + [self.patch] * 3
                + [self.rename, self.unlink, self.mkdir, self.chmod, self.truncate, self.hold, self.fsyncdir]
            )
            began = self.recorder.tick()
            sure = await act()
            self.steps.append(Step(dict(self.model), began, self.recorder.tick(), sure))
            if self.rng.random() < 0.3:
                await trio.sleep(0.002)  # lets commits happen in between

    def data(self) -> bytes:
        return self.rng.randbytes(self.rng.choice([0, 10, 3000, 9000, 30_000]))

    def files(self) -> list[bytes]:
        return [path for path, content in self.model.items() if content is not None and path not in self.held]

    async def ino(self, path: bytes) -> int:
        at = 1
        for part in path.split(b"/"):
            node = await self.vfs.lookup(at, part)
            assert node is not None, path
            node.lookups += 1  # as the kernel's: it forgets nothing here
            at = node.ino
        return at

    async def place(self) -> tuple[int, bytes, bytes]:
        above = self.rng.choice([b"", *(path for path, content in self.model.items() if content is None)])
        name = b"f%d" % self.rng.randrange(5)
        return (await self.ino(above) if above else 1), name, above + b"/" + name if above else name

    def taken(self, path: bytes) -> bool:
        """True for a directory, and for a file that somebody holds open."""
        return path in self.held or (path in self.model and self.model[path] is None)

    async def save(self) -> bool:
        parent, name, path = await self.place()
        if self.taken(path):
            return False
        data = self.data()
        node, fh = await self.vfs.create(parent, name, 0o644, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, CALLER)
        node.lookups += 1
        half = len(data) // 2
        for start, piece in ((0, data[:half]), (half, data[half:])):
            if piece:
                await self.vfs.write(fh, start, piece)
        await (self.vfs.flush(fh) if data else self.vfs.fsync(fh))
        self.model[path] = data
        await self.vfs.release(fh)
        return True

    async def patch(self) -> bool:
        if not self.files():
            return False
        path = self.rng.choice(self.files())
        old = self.model[path]
        assert old is not None
        fh = await self.vfs.open(await self.ino(path), os.O_RDWR)
        offset, data = self.rng.randrange(len(old) + 10), self.rng.randbytes(self.rng.choice([1, 500, 8000]))
        await self.vfs.write(fh, offset, data)
        await self.vfs.flush(fh)
        new = bytearray(old.ljust(offset, b"\0"))
        new[offset : offset + len(data)] = data
        self.model[path] = bytes(new)
        await self.vfs.release(fh)
        return True

    async def hold(self) -> bool:
        """Begin to change a file and never close it: the version before stays the acknowledged one."""
        if not self.files() or len(self.held) > 3:
            return False
        path = self.rng.choice(self.files())
        self.held.add(path)
        fh = await self.vfs.open(await self.ino(path), os.O_RDWR | self.rng.choice([0, os.O_TRUNC]))
        await self.vfs.write(fh, 0, self.rng.randbytes(5000))
        return False

    async def rename(self) -> bool:
        if not self.files():
            return False
        path = self.rng.choice(self.files())
        parent, name, target = await self.place()
        if self.taken(target) or target == path:
            return False
        above, _, old = path.rpartition(b"/")
        await self.vfs.rename(await self.ino(above) if above else 1, old, parent, name, 0)
        self.model[target] = self.model.pop(path)
        return False

    async def unlink(self) -> bool:
        if not self.files():
            return False
        path = self.rng.choice(self.files())
        above, _, name = path.rpartition(b"/")
        await self.vfs.unlink(await self.ino(above) if above else 1, name)
        del self.model[path]
        return False

    async def mkdir(self) -> bool:
        path = b"d%d" % self.rng.randrange(3)
        if path in self.model:
            return False
        await self.vfs.mkdir(1, path, 0o755, CALLER)
        self.model[path] = None
        return False

    async def chmod(self) -> bool:
        if self.files():
            await self.vfs.attributes.setattr(await self.ino(self.rng.choice(self.files())), mode=0o600)
        return False

    async def fsyncdir(self) -> bool:
        fh = await self.vfs.opendir(1)
        await self.vfs.fsyncdir(fh)
        self.vfs.releasedir(fh)
        return True

    async def truncate(self) -> bool:
        if not self.files():
            return False
        path = self.rng.choice(self.files())
        old = self.model[path]
        assert old is not None
        fh = await self.vfs.open(await self.ino(path), os.O_RDWR)
        size = self.rng.randrange(len(old) + 2)
        await self.vfs.attributes.setattr(await self.ino(path), size=size)
        await self.vfs.fsync(fh)
        self.model[path] = old[:size].ljust(size, b"\0")
        await self.vfs.release(fh)
        return True


async def _work(
    journal: Path, cache: Cache, store: TimedStore, recorder: Recorder, seed: int, away: bool
) -> list[Step]:
    repo = Repository.open(store)
    head = repo.head("main")
    assert head is not None
    store.away = away
    session = Session.begin(journal, "main")
    options = VfsOptions("main", read_only=False, refresh=1.0, write_back=True, history=False)
    async with trio.open_nursery() as nursery:
        source, uploader = ChunkSource(repo, cache), Uploader(repo, repo.format.chunking)
        vfs = Vfs(source, uploader, head, options, session.stage, session.log(), nursery)
        nursery.start_soon(vfs.run)
        workload = Workload(vfs, recorder, random.Random(seed))
        await workload.run(60)
        nursery.cancel_scope.cancel()
    session.close(discard_log=False)
    return workload.steps


async def _replayed(journal: Path, cache: Cache, store: DictStore) -> tuple[Model, list[Replayed]]:
    repo = Repository.open(store)
    done = await replay(
        dead_sessions(journal, "main"), ChunkSource(repo, cache), Uploader(repo, repo.format.chunking), "main"
    )
    head = repo.head("main")
    assert head is not None
    found: Model = {}
    for path, entry in repo.walk(TreeId(head.commit.root.content)):
        if entry.kind is Kind.DIRECTORY:
            found[path] = None
        elif entry.kind is Kind.INLINE:
            found[path] = entry.content
        else:
            chunks = repo.read_manifest(ManifestId(entry.content)).chunks
            found[path] = b"".join(
                bytes(repo.read_chunk(ChunkId(one.id), one.length)) if one.id else bytes(one.length) for one in chunks
            )
    return found, done


def _allowed(steps: list[Step], moment: int) -> list[Model]:
    """The tree after any of the steps from the last acknowledged one on."""
    last = max(i for i, step in enumerate(steps) if step.sure and step.ended <= moment)
    return [step.model for i, step in enumerate(steps) if i >= last and (i == last or step.began <= moment)]


@pytest.mark.parametrize("away", [True, False], ids=["store away", "store there"])
@pytest.mark.parametrize("seed", range(3))
def test_what_was_acknowledged_survives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: bool, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    monkeypatch.setattr(limits, "JOURNAL_REWRITE", 3000)  # so that logs are rewritten, too
    journal = tmp_path / "journal"
    journal.mkdir()
    cache = Cache(tmp_path / "cache", "0123456789abcdef")
    with monkeypatch.context() as patch:
        recorder = Recorder(journal, patch)
        store = TimedStore(recorder)
        Repository.create(store)
        steps = trio.run(_work, journal, cache, store, recorder, seed, away)
    rng = random.Random(seed)
    began = next(step.began for step in steps if step.began)
    replayed = 0
    for round in range(ROUNDS):
        moment = rng.randrange(began, recorder.moment + 1)
        fate = rng.choice(get_args(Fate))
        target = tmp_path / "crash"
        recorder.crash(moment, fate, round, target)
        then = store.at(moment)
        found, done = trio.run(_replayed, target, cache, then)
        where = f"moment {moment}, unsynced {fate}, seed {round}"
        assert not any(one.failure for one in done), where
        allowed = _allowed(steps, moment)
        assert found in allowed, f"{where}: {_differences(found, allowed)}"
        replayed += any(one.changes for one in done)
        # Nothing is replayed twice, and what nobody acknowledged is still there.
        again, done_again = trio.run(_replayed, target, cache, then)
        assert again == found
        assert not any(one.changes for one in done_again)
        shutil.rmtree(target)
    assert replayed > ROUNDS // 4, "most crashes left nothing to replay: nothing was tested"
    cache.close()


def _differences(found: Model, allowed: list[Model]) -> str:
    nearest = allowed[-1]
    return str([path for path in found.keys() | nearest.keys() if found.get(path, -1) != nearest.get(path, -1)])
