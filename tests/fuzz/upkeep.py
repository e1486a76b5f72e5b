"""Targets around collections and leases in the store, and the small files that mounts keep on this machine."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from repository_store import DictStore

from fuzz import mutate
from fuzz.target import Target, again
from modelfs import limits
from modelfs.cache.directory import is_keyed, read_store_id
from modelfs.errors import CorruptError, ModelfsError, UsageError
from modelfs.fuse import claim
from modelfs.ids import ID_LENGTH
from modelfs.journal.look import sessions
from modelfs.journal.session import ABOUT, FAILURE, LOCK, LOG, STAGE, owner
from modelfs.repository import gcformat as gc
from modelfs.repository.envelope import unwrap
from modelfs.repository.fsck import Fsck
from modelfs.repository.gc import Collection
from modelfs.repository.gcformat import Collected, Run, Sentence
from modelfs.repository.keys import commit_key
from modelfs.repository.repository import Repository
from modelfs.repository.retention import Retention
from modelfs.repository.seen import SeenHeads
from modelfs.store import lease
from modelfs.sync.mark import Mark, pack_mark, unpack_mark

_scratch: Final = tempfile.TemporaryDirectory(prefix="modelfs-fuzz-upkeep-")  # gone when the process ends
_NAME: Final = gc.sentence_name(3, 0)


def upkeep() -> list[Target]:
    """All of them."""
    return [*_collections(), *_files()]


def _collections() -> list[Target]:
    ids = bytes(range(64))
    values: tuple[Run | Sentence | Collected, ...] = (
        Run("0f" * 16, "host", 7, "user", 3600.0, False),
        Sentence(gc.DATA, 1_700_000_000.0, ids),
        Sentence(gc.DELTAS, 1.0, ids * 2),
        Sentence(gc.commits_area("main"), 1.0, (5).to_bytes(8, "big")),
        Collected(((1, 4), (7, 7))),
    )
    packed = tuple(b"\0" + unwrap(gc.pack(value)) for value in values)

    def sentence(data: bytes) -> None:
        found = gc.unpack_sentence(data)
        widths = {len(i) for i in found}
        assert widths <= {found.width}
        assert len(found) == sum(1 for _ in found)
        assert found.width in (8, ID_LENGTH, 2 * ID_LENGTH)

    def collected(data: bytes) -> None:
        found = gc.unpack_collected(data)
        for number in (0, 1, 4, 5, 7, 2**62):
            below, above = found.below(number), found.above(number)
            assert below not in found
            assert above not in found
            assert below <= number <= above
            assert found.joined([number]).joined([]) == found.joined([number])

    made = DictStore()
    Repository.create(made)

    def store(data: bytes) -> None:
        """Whatever lies under gc/, who reads, writes, checks and collects ends in an error of ours."""
        shown = DictStore()
        places = (gc.run_key(3), gc.sentence_key(_NAME), gc.flag_key(_NAME, "0f" * 16), gc.history_key("main"))
        shown.data = {**made.data, **dict.fromkeys((*places, lease.KEY), data)}
        shown.data[commit_key("main", 9)] = shown.data[commit_key("main", 1)]
        for step in (_write, _look, _collect):
            with contextlib.suppress(ModelfsError):
                step(shown)
        shown.data.pop(gc.run_key(3))
        shown.data.pop(commit_key("main", 9))
        for step in (_write, _look, _collect):
            with contextlib.suppress(ModelfsError):
                step(shown)
        with contextlib.suppress(ModelfsError):
            lease.ended(shown, 1.0)

    structured = (mutate.blind, _behind_the_header)
    held = b'{"token": "x", "host": "h", "pid": 3, "user": "u", "expires": 1.5}'
    return [
        Target("sync-mark", again(unpack_mark, pack_mark), (pack_mark(Mark(7, bytes(32), 8, bytes(range(32)))),)),
        Target("gc-run", again(gc.unpack_run, gc.pack), packed[:1], mutations=structured),
        Target("gc-sentence", sentence, packed[1:4], mutations=structured, memory=limits.META_OBJECT_MAX),
        Target("gc-collected", collected, packed[4:], mutations=structured, memory=limits.META_OBJECT_MAX),
        Target("gc-store", store, (*packed, held), (), structured, memory=16 * limits.MiB),
    ]


def _behind_the_header(rng: mutate.random.Random, data: bytes, other: bytes) -> bytes:
    return data[:1] + mutate.msgpack(rng, data[1:], other[1:])


def _write(store: DictStore) -> None:
    repo = Repository.open(store)
    repo.begin_writing()
    head = repo.resolve(None)
    repo.tag(f"t{len(store.data)}", head)
    repo.commit("main", head, head.commit.root, "")


def _look(store: DictStore) -> None:
    repo = Repository.open(store)
    with contextlib.suppress(ModelfsError):
        list(repo.log("main"))
    Fsck(repo).run()


def _collect(store: DictStore) -> None:
    Collection(Repository.open(store), Retention(last=1), 3600.0, dry=True).run()


def _files() -> list[Target]:
    top = Path(_scratch.name)
    bare, mounts, memory, cache, journals = (top / name for name in ("bare", "state", "seen", "cache", "journals"))

    def mark(data: bytes) -> None:
        """What a mount noted of its bare directory: at most the mode of that directory changes."""
        with _state(mounts):
            path = claim._mark_file(bare)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            claim.lift(bare)
        assert sorted(top.iterdir()) == before
        bare.chmod(0o755)

    for directory in (bare, mounts, memory, cache, journals):
        directory.mkdir(exist_ok=True)
    before, facts = sorted(top.iterdir()), bare.stat()
    marks = tuple(
        b'{"device": %d, "inode": %d, "mode": %d, "immutable": %s}' % (facts.st_dev, inode, mode, flag)
        for inode, mode, flag in ((facts.st_ino, 0o755, b"false"), (facts.st_ino, 0, b"true"), (1, 0o700, b"false"))
    )

    session = journals / ("ab" * 16) / "main" / ("cd" * 16)

    def small_file(name: str) -> Callable[[bytes], None]:
        def run(data: bytes) -> None:
            (session / STAGE).mkdir(parents=True, exist_ok=True)
            for other in (ABOUT, FAILURE, LOG):
                (session / other).unlink(missing_ok=True)
            (session / LOCK).write_bytes(b"1 2\n")
            (session / name).write_bytes(data)
            two = session.parent / ("ef" * 16)
            two.mkdir(exist_ok=True)
            (two / LOCK).write_bytes(b"")
            found = sessions(journals)
            assert len(found) == 2
            for view in found:
                assert type(view.about.store) is str
                assert type(view.about.mountpoint) is str
                assert type(view.about.began) in (int, float)
                assert view.failure is None or type(view.failure.why) is str
            assert owner(session) is None or type(owner(session)) is int

        return run

    def seen(data: bytes) -> None:
        (memory / "main").write_bytes(data)
        found = SeenHeads(memory).last("main")
        assert found is None or (found.number >= 0 and len(found.id) == ID_LENGTH)

    def marker(data: bytes) -> None:
        (cache / "store").write_bytes(data)
        assert isinstance(is_keyed(cache), bool)
        assert "\n" not in read_store_id(cache).strip()

    text = (mutate.blind, mutate.json)
    about = b'{"store": "/srv/models", "mountpoint": "/mnt", "began": 1700000000.25}'
    failure = b'{"why": "the store is away", "when": 1700000000.25}'
    return [
        Target("bare-mark", mark, marks, (), text),
        Target("session-about", small_file(ABOUT), (about,), (), text),
        Target("session-failure", small_file(FAILURE), (failure,), (), text),
        Target("session-lock", small_file(LOCK), (b"123 456\n", b"0 0\n"), ()),
        Target("seen", seen, (b"7 " + b"0f" * 32 + b"\n",), ()),
        Target("cache-marker", marker, (b"ab" * 16 + b" keyed\n", b"ab" * 16 + b"\n"), (UsageError, CorruptError)),
    ]


@contextlib.contextmanager
def _state(directory: Path):  # type: ignore[no-untyped-def]
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(directory)
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_STATE_HOME"]
        else:
            os.environ["XDG_STATE_HOME"] = before
