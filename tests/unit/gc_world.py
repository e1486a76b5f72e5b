"""A store with a clock that tests move, hooks around every request, and short ways to fill and to collect it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec
from repository_store import CHEAP

from modelfs.errors import AlreadyExistsError, NotFoundError
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.repository.access import Access
from modelfs.repository.format import Format
from modelfs.repository.gc import Collection, Report
from modelfs.repository.graft import graft
from modelfs.repository.keyslots import encrypted
from modelfs.repository.objects import CommitRecord, Entry, Extent, Kind, Manifest, TreeDelta
from modelfs.repository.repository import Repository
from modelfs.repository.retention import Retention
from modelfs.store.base import Buffer, ObjectInfo, StoreProperties, check_key
from modelfs.store.clock import Clock

GRACE = 3600.0
Hook = Callable[[str, str], None]


class Time:
    """One clock for everybody: the store's, this machine's, and the one that sleeps."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def clock(self, *, waiting_takes_time: bool = True) -> Clock:
        sleep = self.advance if waiting_takes_time else lambda seconds: None
        return Clock(boot=lambda: self.now, wall_ns=lambda: int(self.now * 1e9), sleep=sleep)

    def advance(self, seconds: float) -> None:
        self.now += seconds


class TimedStore:
    """Objects with times. ``before`` and ``after`` are called around each request, with its name and key; raising in
    ``after`` loses the acknowledgement."""

    properties = StoreProperties("timed", writable=True, exclusive_put=True, local=True)
    url = "timed://test"

    def __init__(self, time: Time, objects: dict[str, tuple[bytes, float]] | None = None) -> None:
        self.time = time
        self.objects = {} if objects is None else objects
        self.before: Hook = lambda operation, key: None
        self.after: Hook = lambda operation, key: None
        self._lock = threading.RLock()

    def view(self) -> TimedStore:
        """The same objects with hooks of its own."""
        made = TimedStore(self.time, self.objects)
        made._lock = self._lock
        return made

    def get(self, key: str) -> bytes:
        self.before("get", check_key(key))
        with self._lock:
            if key not in self.objects:
                raise NotFoundError(f"no object {key}", key)
            data = self.objects[key][0]
        self.after("get", key)
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.get(key)[start : start + length]

    def put(self, key: str, data: Buffer) -> None:
        self.before("put", check_key(key))
        with self._lock:
            self.objects[key] = (bytes(data), self.time.now)
        self.after("put", key)

    def put_if_absent(self, key: str, data: Buffer) -> None:
        self.before("put_if_absent", check_key(key))
        with self._lock:
            if key in self.objects:
                raise AlreadyExistsError(f"{key} exists", key)
            self.objects[key] = (bytes(data), self.time.now)
        self.after("put_if_absent", key)

    def size(self, key: str) -> int | None:
        self.before("size", check_key(key))
        with self._lock:
            found = self.objects.get(key)
        self.after("size", key)
        return None if found is None else len(found[0])

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self.before("list", prefix)
        with self._lock:
            found = [ObjectInfo(k, len(d), t) for k, (d, t) in self.objects.items() if k.startswith(prefix)]
        self.after("list", prefix)
        return iter(found)

    def delete(self, key: str) -> None:
        self.before("delete", check_key(key))
        with self._lock:
            self.objects.pop(key, None)
        self.after("delete", key)

    def close(self) -> None:
        pass


@dataclass
class World:
    """A store and what may be done to it. ``access``: of who writes, collects and checks; with a secret the store is
    encrypted."""

    time: Time = field(default_factory=Time)
    access: Access = field(default_factory=Access)

    def __post_init__(self) -> None:
        self.store = TimedStore(self.time)
        secret = self.access.secret
        made, keys = encrypted(Format(), secret, "first", CHEAP) if secret is not None else (None, None)
        Repository.create(self.store, made, keys)

    def open(
        self, store: TimedStore | None = None, *, waiting_takes_time: bool = True, access: Access | None = None
    ) -> Repository:
        """A machine that begins to write."""
        clock = self.time.clock(waiting_takes_time=waiting_takes_time)
        repo = Repository.open(store or self.store, access or self.access, clock=clock)
        repo.begin_writing()
        return repo

    def collect(
        self, retention: Retention | None = None, store: TimedStore | None = None, grace: float = GRACE, **options: bool
    ) -> Report:
        """One run."""
        # A collection knows the secret and nobody's signature: it makes no commits.
        access = Access(secret=self.access.secret)
        repo = Repository.open(store or self.store.view(), access, clock=self.time.clock())
        return Collection(repo, retention or Retention(), grace, **options).run()

    def keys(self, *areas: str) -> set[str]:
        return {key for key in self.store.objects if key.startswith(areas)}

    def check(self) -> None:
        """Everything that a commit which can be read reaches is there and right."""
        repo = Repository.open(self.store, self.access, clock=self.time.clock())
        for branch, ended in [(name, ended) for name, ended in repo._commits.every_branch()]:
            if not ended:
                for record in repo.log(branch):
                    read_all(repo, record)
        for name in repo.tags():
            read_all(repo, repo.resolve(name))


def file(repo: Repository, *chunks: bytes) -> Entry:
    """Upload a file."""
    extents = tuple(Extent(repo.write_chunk(data)[0], len(data)) for data in chunks)
    size = sum(extent.length for extent in extents)
    return Entry(b"", Kind.FILE, 0o644, 0, 0, 0, size, repo.write_manifest(Manifest(size, extents)))


def commit(repo: Repository, path: bytes, entry: Entry, branch: str = "main", **options: object) -> CommitRecord:
    """Put an entry at a path, in a commit over the head."""
    base = repo.head(branch)
    assert base is not None
    return repo.commit(branch, base, graft(repo, base.commit.root, {path: entry}), "", **options)  # type: ignore[arg-type]


def save(repo: Repository, path: bytes, *chunks: bytes, branch: str = "main") -> CommitRecord:
    """Upload and commit a file."""
    return commit(repo, path, file(repo, *chunks), branch)


def remove(repo: Repository, path: bytes, branch: str = "main") -> CommitRecord:
    """Commit that a name of the root is gone."""
    base = repo.head(branch)
    assert base is not None
    tree = repo.apply(TreeId(base.commit.root.content), TreeDelta(deletes={path}))
    return repo.commit(branch, base, msgspec.structs.replace(base.commit.root, content=tree), "")


def content(repo: Repository, entry: Entry) -> bytes:
    """Bytes of a file."""
    if entry.kind is Kind.INLINE:
        return entry.content
    manifest = repo.read_manifest(ManifestId(entry.content))
    return b"".join(bytes(repo.read_chunk(ChunkId(e.id), e.length)) for e in manifest.chunks)


def read_all(repo: Repository, record: CommitRecord) -> dict[bytes, bytes]:
    """All files of a commit."""
    found = repo.walk(TreeId(record.commit.root.content))
    return {path: content(repo, entry) for path, entry in found if entry.kind in (Kind.FILE, Kind.INLINE)}
