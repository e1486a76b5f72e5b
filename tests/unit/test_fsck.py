"""fsck finds every damage of every kind of object and names the right paths; repair restores it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from damaging import HOWS, Stocked, file, root_of, spoil, stocked, weights
from repository_store import DictStore

from modelfs import codecs, limits
from modelfs.codecs import DeltaHead, Element
from modelfs.errors import CorruptError, ModelfsError
from modelfs.formats.layout import Layout, Span
from modelfs.ids import ChunkId, TreeId
from modelfs.repository.damage import Damage, Problem, Sort
from modelfs.repository.envelope import unwrap, wrap
from modelfs.repository.fsck import Findings, Fsck
from modelfs.repository.keys import base_key, chunk_key, commit_key, meta_key
from modelfs.repository.objects import EMPTY_TREE, TreeDelta
from modelfs.repository.repair import Repair, damaged_format, restore_format
from modelfs.repository.repository import Repository
from modelfs.store.base import Buffer

# object -> (what fsck calls it, the paths that it hurts in main@3..4)
KINDS = {
    "chunk": (Sort.CHUNK, {b"model/a"}),
    "base": (Sort.CHUNK, {b"next.bin"}),
    "delta": (Sort.CHUNK, {b"next.bin"}),
    "manifest": (Sort.MANIFEST, {b"model/a"}),
    "table": (Sort.TABLE, {b"model/a"}),
    "page": (Sort.PAGE, {b"many"}),
    "index": (Sort.PAGE, {b"many"}),
    "directory": (Sort.PAGE, {b"model"}),
    "root": (Sort.PAGE, {b""}),
    "commit": (Sort.COMMIT, {b""}),
    "head": (Sort.COMMIT, {b""}),
    "tag": (Sort.TAG, set()),
}
# a head or a tag that is gone leaves no trace in the store
UNSEEN = {("head", "missing"), ("tag", "missing"), ("head", "flipped")}
# a listing shows neither
SUBTLE = {"flipped", "truncated", "swapped"}


@pytest.fixture(scope="module")
def sound() -> Stocked:
    return stocked()


@pytest.fixture
def stock(sound: Stocked) -> Stocked:
    return Stocked(sound.copy(), sound.keys)


def check(store: DictStore, repair: bool = False, other: DictStore | None = None, **how: object) -> Findings:
    repo = Repository.open(store)
    made = Repair(repo, (), Repository.open(other) if other is not None else None) if repair else None
    return Fsck(repo, made).run(**how)  # type: ignore[arg-type]


def hurts(damage: Damage, branch: str = "main") -> dict[bytes, list[str]]:
    return {path: [run for run in hurt.commits() if run.startswith(branch)] for path, hurt in damage.hurts.items()}


@pytest.mark.parametrize("read_data", [False, True])
def test_a_sound_store_is_clean(stock: Stocked, read_data: bool) -> None:
    stock.store.reset()
    found = check(stock.store, read_data=read_data)
    assert not list(found.damages)
    assert (found.commits, found.tags, found.tables) == (5, 1, 1)
    assert found.chunks == 4
    assert found.read_chunks == (4 if read_data else 0)
    assert found.orphans is not None
    assert (found.orphans.chunks, found.orphans.metadata, found.orphans.notes) == (0, 0, 0)
    data_reads = [key for operation, key in stock.store.log if operation == "get" and key.startswith("data/")]
    assert len(data_reads) == len(set(data_reads)) == (4 if read_data else 0), "each chunk is read once, bases too"
    assert not stock.store.calls["put"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_damage_is_found_named_and_repaired(stock: Stocked, kind: str, how: str) -> None:
    sort, paths = KINDS[kind]
    whole, expected = stock.copy(), Stocked(stock.copy(), stock.keys).files()
    key = stock.keys[kind]
    if (kind, how) in UNSEEN:
        return
    spoil(stock.store.data, key, how)
    found = check(stock.store, read_data=True)
    (damage,) = found.damages
    assert (damage.sort, damage.key) == (sort, key)
    assert damage.problem is (Problem.MISSING if how == "missing" else damage.problem)
    assert (damage.problem is Problem.MISSING) == (how == "missing")
    assert "\n" not in damage.reason
    if kind == "base":
        paths = {*paths, b"base.bin"}
    assert set(damage.hurts) == paths
    where = {"commit": ["main@3"], "head": ["main@4"]}.get(kind, ["main@3..4"])
    for path, runs in hurts(damage).items():
        assert runs == (["main@2"] if path == b"base.bin" else where)
    assert found.damages.left() == 1
    with pytest.raises(ModelfsError):
        stock.files()
        list(Repository.open(stock.store).log())  # no file needs it
        Repository.open(stock.store).read_tag("v1")
        raise AssertionError

    cheap = check(stock.store)
    if sort is not Sort.CHUNK or how not in SUBTLE:
        assert [(d.key, set(d.hurts)) for d in cheap.damages] == [(key, paths)]
    repaired = check(stock.store, repair=True, other=whole, read_data=True)
    assert [d.key for d in repaired.damages if d.repaired] == [key]
    assert not repaired.damages.left()
    again = check(stock.store, read_data=True)
    assert not list(again.damages)
    assert stock.files() == expected
    if sort is not Sort.CHUNK:
        assert stock.store.data == whole.data
    else:
        assert {k: v for k, v in stock.store.data.items() if k != key} == {
            k: v for k, v in whole.data.items() if k != key
        }


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", ["chunk", "base", "delta"])
def test_chunks_are_repaired_from_a_cache(stock: Stocked, kind: str, how: str) -> None:
    key, expected = stock.keys[kind], stock.files()
    whole = Repository.open(stock.copy())
    asked = []

    def cache(chunk: ChunkId, length: int) -> Buffer | None:
        asked.append(chunk)
        return whole.read_chunk(chunk, length)

    spoil(stock.store.data, key, how)
    repo = Repository.open(stock.store)
    found = Fsck(repo, Repair(repo, [("the cache", cache)])).run(read_data=True)
    assert [(d.key, d.repaired) for d in found.damages] == [(key, "the cache")]
    assert [chunk_key(chunk) for chunk in asked] == [key]
    assert not list(check(stock.store, read_data=True).damages)
    assert stock.files() == expected


def test_a_cache_that_lies_repairs_nothing(stock: Stocked) -> None:
    spoil(stock.store.data, stock.keys["chunk"], "flipped")
    bad = stock.store.data[stock.keys["chunk"]]
    repo = Repository.open(stock.store)
    found = Fsck(repo, Repair(repo, [("the cache", lambda chunk, length: bytes(length))])).run(read_data=True)
    assert found.damages.left() == 1
    assert stock.store.data[stock.keys["chunk"]] == bad
    absent = Fsck(repo, Repair(repo, [("the cache", lambda chunk, length: None)])).run(read_data=True)
    assert absent.damages.left() == 1


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("head",)])
def test_what_the_second_store_has_not_stays_damaged(stock: Stocked, kind: str) -> None:
    other = stock.copy()
    for store in (stock.store, other):
        spoil(store.data, stock.keys[kind], "flipped")
    before = dict(stock.store.data)
    found = check(stock.store, repair=True, other=other, read_data=True)
    assert found.damages.left() == 1
    assert stock.store.data == before


def test_everything_at_once_comes_back(stock: Stocked) -> None:
    whole, expected = stock.copy(), stock.files()
    for number, key in enumerate(stock.keys.values()):
        if key != "format.json" and number % 2:
            spoil(stock.store.data, key, "truncated")
        elif key not in (stock.keys["head"], stock.keys["tag"], "format.json"):
            spoil(stock.store.data, key, "missing")
    assert check(stock.store, read_data=True).damages.left() > 3
    found = check(stock.store, repair=True, other=whole, read_data=True)
    assert not found.damages.left()
    assert len(found.damages) >= len(stock.keys) - 3
    assert not list(check(stock.store, read_data=True).damages)
    assert stock.files() == expected


def test_an_empty_branch_of_a_tag_is_noticed(stock: Stocked) -> None:
    """All commits of main are gone: the tag knows that there was one."""
    whole = stock.copy()
    for number in (1, 2, 3, 4):
        del stock.store.data[commit_key("main", number)]
    (damage,) = check(stock.store).damages
    assert damage.key == commit_key("main", 2)
    found = check(stock.store, repair=True, other=whole)
    assert [d.key for d in found.damages if d.repaired] == [commit_key("main", 2)]


# -- deltas ----------------------------------------------------------------------------------------------------------


def test_a_missing_note_is_written_again(stock: Stocked) -> None:
    note = stock.keys["note"]
    kept = stock.store.data.pop(note)
    assert not list(check(stock.store).damages), "only who reads the chunk can tell"
    (damage,) = check(stock.store, read_data=True).damages
    assert (damage.sort, damage.key, damage.problem) == (Sort.NOTE, note, Problem.MISSING)
    assert not damage.hurts
    assert not check(stock.store, repair=True, read_data=True).damages.left()
    assert stock.store.data[note] == kept


@pytest.mark.parametrize("read_data", [False, True])
def test_a_base_that_is_a_delta_is_made_plain(stock: Stocked, read_data: bool) -> None:
    """What no writer of ours does: next.bin builds on base.bin, which is a delta of a third one."""
    expected = stock.files()
    repo = Repository.open(stock.store)
    third = weights(1, 2e-6)
    root_chunk, _ = repo.write_chunk(third)
    base = ChunkId(bytes.fromhex(stock.keys["base"].removeprefix("data/").replace("/", "")))
    head = DeltaHead(root_chunk, Element.F32, 1, 1)
    stock.store.data[chunk_key(base)] = codecs.encode_delta(weights(1), third, head)
    stock.store.data[base_key(root_chunk, base)] = b"delta\n"
    with pytest.raises(CorruptError, match="a delta where none may be"):
        stock.files()
    (damage,) = check(stock.store, read_data=read_data).damages
    assert (damage.key, damage.problem) == (chunk_key(base), Problem.CONTRADICTORY)
    assert b"next.bin" in damage.hurts
    found = check(stock.store, repair=True, read_data=read_data)
    assert [d.repaired for d in found.damages] == ["the store itself"]
    assert not list(check(stock.store, read_data=True).damages)
    assert stock.files() == expected


def test_a_note_that_is_out_of_date_is_no_damage(stock: Stocked) -> None:
    """The delta was replaced by a plain chunk, its base collected."""
    repo = Repository.open(stock.store)
    delta = stock.keys["delta"]
    stock.store.data[delta] = codecs.encode(weights(1, 1e-6))
    del stock.store.data[stock.keys["base"]]
    del stock.store.data[commit_key("side", 1)]
    only = Repository.open(stock.store)
    for read_data in (False, True):
        assert not list(Fsck(only).run("main", read_data=read_data).damages)
    assert repo.read_chunk(ChunkId(bytes.fromhex(delta[5:].replace("/", ""))), len(weights(1)))


@pytest.mark.parametrize("how", HOWS)
def test_a_base_that_no_manifest_names(stock: Stocked, how: str) -> None:
    """main@3 alone: its delta needs a chunk of main@2."""
    whole = stock.copy()
    spoil(stock.store.data, stock.keys["base"], how)
    (damage,) = check(stock.store, ref="main", read_data=True).damages
    assert (damage.key, set(damage.hurts)) == (stock.keys["base"], {b"next.bin"})
    if how in ("missing", "emptied"):
        (damage,) = check(stock.store, ref="main").damages
        assert (damage.key, set(damage.hurts)) == (stock.keys["base"], {b"next.bin"})
    assert not check(stock.store, repair=True, other=whole, ref="main", read_data=True).damages.left()
    assert not list(check(stock.store, read_data=True).damages)


# -- history ---------------------------------------------------------------------------------------------------------


def other_commit(stock: Stocked, number: int) -> None:
    """Put a commit of another history in the place of one of main's: right in itself, wrong there."""
    store = DictStore()
    strange = Repository.create(store)
    record = strange.resolve(None)
    for i in range(2, number + 1):
        record = strange.commit("main", record, record.commit.root, f"strange {i}")
    stock.store.data[commit_key("main", number)] = store.data[commit_key("main", number)]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_commit_of_another_history_is_told_by_its_neighbours(stock: Stocked, number: int) -> None:
    whole = stock.copy()
    other_commit(stock, number)
    found = check(stock.store)
    assert commit_key("main", number) in {d.key for d in found.damages}
    assert all(d.sort in (Sort.COMMIT, Sort.TAG) for d in found.damages)
    assert all(d.problem is Problem.CONTRADICTORY for d in found.damages)
    repaired = check(stock.store, repair=True, other=whole)
    assert not repaired.damages.left()
    assert stock.store.data == whole.data


def _forged(stored: bytes, old: bytes) -> bytes:
    """A commit with zeros for the id ``old`` in it, and a checksum that fits."""
    return wrap(unwrap(stored).replace(old, bytes(32)), checksum=True)


def test_what_the_store_cannot_know_of_itself(stock: Stocked) -> None:
    """A newest commit that is gone, or that somebody forged, has nobody who speaks for it; a flipped bit shows."""
    whole, key = stock.copy(), stock.keys["head"]
    del stock.store.data[key]
    assert not list(check(stock.store).damages)
    assert check(stock.store, repair=True, other=whole).commits == 4, "a copy that is ahead is no reason to move"
    stock.store.data[key] = whole.data[key]
    root = bytes.fromhex(stock.keys["root"].removeprefix("meta/").replace("/", ""))
    for at in range(len(whole.data[key])):
        spoilt = bytearray(whole.data[key])
        spoilt[at] ^= 1
        stock.store.data[key] = bytes(spoilt)
        (damage,) = check(stock.store).damages
        assert (damage.sort, damage.problem) == (Sort.COMMIT, Problem.DAMAGED), at
    stock.store.data[key] = _forged(whole.data[key], root)
    (damage,) = check(stock.store).damages
    assert (damage.sort, damage.problem, hurts(damage)) == (Sort.PAGE, Problem.MISSING, {b"": ["main@4"]})
    found = check(stock.store, repair=True, other=whole)
    assert [(d.sort, bool(d.repaired)) for d in found.damages] == [(Sort.COMMIT, True)]
    assert stock.store.data == whole.data


def test_two_commits_of_which_nothing_tells_the_right_one(stock: Stocked) -> None:
    store = DictStore()
    repo = Repository.create(store)
    head = repo.commit("main", repo.resolve(None), repo.resolve(None).commit.root, "a message")
    store.data[commit_key("main", 2)] = _forged(store.data[commit_key("main", 2)], head.commit.parent)
    assert {d.key for d in check(store).damages} == {commit_key("main", 1), commit_key("main", 2)}


def test_commits_that_only_a_number_far_away_implies(stock: Stocked) -> None:
    stock.store.data[commit_key("main", 10**18)] = stock.store.data[commit_key("main", 4)]
    found = check(stock.store)
    assert {d.key for d in found.damages} == {commit_key("main", 10**18)}


def test_a_head_is_taken_from_a_copy_of_this_store_only(stock: Stocked) -> None:
    other = stock.copy()
    other.data["format.json"] = other.data["format.json"].replace(Repository.open(other).format.id.encode(), b"0" * 32)
    spoil(stock.store.data, stock.keys["head"], "truncated")
    assert check(stock.store, repair=True, other=other).damages.left() == 1
    spoil(stock.store.data, stock.keys["commit"], "missing")
    # that one is vouched for by nobody either while the head is gone
    assert check(stock.store, repair=True, other=other).damages.left() == 2


def test_a_tag_that_names_another_commit(stock: Stocked) -> None:
    whole = stock.copy()
    repo = Repository.open(stock.store)
    repo.tag("v2", repo.resolve("main@3"))
    record = repo.resolve("side")
    store = stock.copy()
    del store.data[stock.keys["tag"]]
    strange = Repository.open(store)
    strange.tag("v1", replace(record, branch="main", number=2))
    stock.store.data[stock.keys["tag"]] = store.data[stock.keys["tag"]]
    (damage,) = check(stock.store).damages
    assert (damage.sort, damage.problem) == (Sort.TAG, Problem.CONTRADICTORY)
    assert not check(stock.store, repair=True, other=whole).damages.left()
    assert Repository.open(stock.store).resolve("v1").number == 2


# -- metadata that contradicts itself ------------------------------------------------------------------------------


def commit_tree(stock: Stocked, delta: TreeDelta) -> None:
    repo = Repository.open(stock.store)
    head = repo.resolve(None)
    repo.commit("main", head, root_of(head.commit.root, repo.apply(TreeId(head.commit.root.content), delta)), "")


def test_sizes_that_contradict_each_other(stock: Stocked) -> None:
    import msgspec

    repo = Repository.open(stock.store)
    one = file(repo, b"one", b"some bytes")
    liar = msgspec.structs.replace(one, name=b"two", size=11)
    commit_tree(stock, TreeDelta(puts={b"one": one, b"two": liar}))
    (damage,) = check(stock.store).damages
    assert (damage.key, damage.problem) == (meta_key(one.content), Problem.CONTRADICTORY)
    assert set(damage.hurts) == {b"one", b"two"}


def test_a_size_that_no_other_entry_contradicts(stock: Stocked) -> None:
    import msgspec

    repo = Repository.open(stock.store)
    liar = msgspec.structs.replace(file(repo, b"one", b"some bytes"), size=11)
    commit_tree(stock, TreeDelta(puts={b"one": liar}))
    (damage,) = check(stock.store).damages
    assert (damage.sort, damage.problem, set(damage.hurts)) == (Sort.MANIFEST, Problem.CONTRADICTORY, {b"one"})


def test_manifests_that_disagree_about_a_chunk(stock: Stocked) -> None:
    from modelfs.repository.objects import Entry, Extent, Kind, Manifest

    repo = Repository.open(stock.store)
    chunk, _ = repo.write_chunk(b"some bytes")
    entries = {}
    for name, length in ((b"one", 10), (b"two", 9)):
        manifest = repo.write_manifest(Manifest(length, (Extent(chunk, length),)))
        entries[name] = Entry(name, Kind.FILE, 0o644, 0, 0, 0, length, manifest)
    commit_tree(stock, TreeDelta(puts=entries))
    found = [d for d in check(stock.store).damages if d.sort is Sort.MANIFEST]
    assert len(found) == 1
    assert len(found[0].hurts) == 1


def test_a_tensor_table_that_leaves_its_file(stock: Stocked) -> None:
    repo = Repository.open(stock.store)
    table = repo.write_layout(Layout("npy", (Span(5, 6, "U8", (6,), "t"),), 11))
    commit_tree(stock, TreeDelta(puts={b"one": file(repo, b"one", b"some bytes", tensors=table)}))
    (damage,) = check(stock.store).damages
    assert (damage.sort, damage.problem, set(damage.hurts)) == (Sort.TABLE, Problem.CONTRADICTORY, {b"one"})


def test_endless_directories_are_damage_and_no_recursion(stock: Stocked, monkeypatch: pytest.MonkeyPatch) -> None:
    from repository_store import directory

    repo = Repository.open(stock.store)
    tree = repo.apply(EMPTY_TREE, TreeDelta(puts={b"f": file(repo, b"f", b"deep")}))
    for _ in range(300):
        tree = repo.apply(EMPTY_TREE, TreeDelta(puts={b"d": directory(b"d", tree)}))
    with monkeypatch.context() as patch:
        patch.setattr(limits, "TREE_DEPTH_MAX", 400)  # a writer that knows no better
        commit_tree(stock, TreeDelta(puts={b"deep": directory(b"deep", tree)}))
    (damage,) = check(stock.store).damages
    assert "nested deeper" in damage.reason


def test_chunks_of_impossible_size(stock: Stocked) -> None:
    key = stock.keys["chunk"]
    stock.store.data[key] += bytes(100_000)
    (damage,) = check(stock.store).damages
    assert (damage.key, damage.problem, set(damage.hurts)) == (key, Problem.DAMAGED, {b"model/a"})


def test_a_listing_that_lags_behind_is_asked_twice(stock: Stocked) -> None:
    class Lagging(DictStore):
        def list(self, prefix: str):  # type: ignore[no-untyped-def]
            return (info for info in super().list(prefix) if info.key != stock.keys["chunk"])

    lagging = Lagging()
    lagging.data = stock.store.data
    assert not list(check(lagging).damages)


# -- orphans, refs, format -----------------------------------------------------------------------------------------


def test_what_nothing_reaches_is_counted_and_no_damage(stock: Stocked) -> None:
    repo = Repository.open(stock.store)
    chunk, _ = repo.write_chunk(b"unused")
    manifest = repo.write_manifest(repo.read_manifest(file(repo, b"x", b"unused", b"unused").content))  # type: ignore[arg-type]
    stock.store.data[base_key(chunk, chunk)] = b"delta\n"
    found = check(stock.store, read_data=True)
    assert not list(found.damages)
    assert found.orphans is not None
    assert (found.orphans.chunks, found.orphans.chunk_bytes) == (1, len(stock.store.data[chunk_key(chunk)]))
    assert (found.orphans.metadata, found.orphans.metadata_bytes) == (1, len(stock.store.data[meta_key(manifest)]))
    assert found.orphans.notes == 1


def test_a_ref_bounds_the_check(stock: Stocked) -> None:
    spoil(stock.store.data, stock.keys["manifest"], "missing")
    assert not list(check(stock.store, ref="v1", read_data=True).damages)
    found = check(stock.store, ref="main@3")
    assert [hurts(d) for d in found.damages] == [{b"model/a": ["main@3"]}]
    assert found.orphans is None


@pytest.mark.parametrize("how", HOWS)
def test_format_json(stock: Stocked, how: str) -> None:
    whole = stock.copy()
    assert damaged_format(DictStore()) is None
    spoil(stock.store.data, "format.json", how)
    with pytest.raises(ModelfsError):
        Repository.open(stock.store)
    damage = damaged_format(stock.store)
    assert damage is not None
    assert (damage.sort, damage.key) == (Sort.FORMAT, "format.json")
    assert damage.problem is (Problem.MISSING if how == "missing" else Problem.DAMAGED)
    assert not restore_format(stock.store, Repository.open(stocked().store)), "another store's is not ours"
    assert restore_format(stock.store, Repository.open(whole))
    assert stock.store.data == whole.data


# -- what others do meanwhile, and what cannot be mended -----------------------------------------------------------


def test_a_delta_that_is_damaged_itself_and_whose_base_is(stock: Stocked) -> None:
    whole, expected = stock.copy(), stock.files()
    for kind in ("base", "delta"):
        data = stock.store.data[stock.keys[kind]]
        stock.store.data[stock.keys[kind]] = data[:-1] + bytes((data[-1] ^ 1,))
    found = check(stock.store, repair=True, other=whole, read_data=True)
    assert {d.key for d in found.damages} == {stock.keys["base"], stock.keys["delta"]}
    assert not found.damages.left()
    assert stock.files() == expected


class Flaky(DictStore):
    """Gives wrong bytes of one object at some of the times that it is asked for it."""

    def __init__(self, data: dict[str, bytes], key: str, bad: set[int]) -> None:
        super().__init__()
        self.data, self._key, self._bad, self._asked = dict(data), key, bad, 0

    def get(self, key: str) -> bytes:
        data = super().get(key)
        if key == self._key:
            self._asked += 1
            return data[:-1] if self._asked in self._bad else data
        return data


@pytest.mark.parametrize(("bad", "damaged"), [(1, []), (2, ["delta"]), (3, ["base"])])
def test_a_base_that_somebody_repairs_meanwhile(stock: Stocked, bad: int, damaged: list[str]) -> None:
    """Asked for by itself (twice, as everything that arrives damaged), by the delta (which is asked for twice as well),
    when it is judged, and by the delta again."""
    times = {1: {*range(1, 7)}, 2: {*range(1, 7), *range(8, 12)}, 3: {*range(1, 9)}}[bad]
    flaky = Flaky(stock.store.data, stock.keys["base"], times)
    found = check(flaky, ref="main", read_data=True)
    assert [d.key for d in found.damages] == [stock.keys[kind] for kind in damaged]


def test_bases_that_are_not_kept_are_read_again(stock: Stocked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelfs.limits.FSCK_BASES", 0)
    assert not list(check(stock.store, read_data=True).damages)


def test_metadata_is_not_mended_without_a_second_store(stock: Stocked) -> None:
    spoil(stock.store.data, stock.keys["manifest"], "flipped")
    before = dict(stock.store.data)
    assert check(stock.store, repair=True).damages.left() == 1
    assert stock.store.data == before


@pytest.mark.parametrize(("kind", "how"), [("tag", "emptied"), ("commit", "missing")])
def test_history_that_the_second_store_lacks(stock: Stocked, kind: str, how: str) -> None:
    other = stock.copy()
    for store in (stock.store, other):
        spoil(store.data, stock.keys[kind], how)
    before = dict(stock.store.data)
    found = check(stock.store, repair=True, other=other)
    assert [d.key for d in found.damages if not d.repaired] == [stock.keys[kind]]
    assert stock.store.data == before


def test_a_store_that_does_not_keep_what_is_written(stock: Stocked) -> None:
    """A repair counts when what was written can be read."""

    class Losing(DictStore):
        def put(self, key: str, data: Buffer) -> None:
            super().put(key, data)
            if key == stock.keys["manifest"]:
                self.data[key] = b"\0"

    losing, whole = Losing(), stock.copy()
    losing.data = dict(stock.store.data)
    del losing.data[stock.keys["manifest"]]
    (damage,) = check(losing, repair=True, other=whole).damages
    assert not damage.repaired


def test_a_commit_whose_writer_comes_back_is_not_replaced(stock: Stocked) -> None:
    key = stock.keys["commit"]
    kept = stock.store.data[key]

    class Late(DictStore):
        def put_if_absent(self, key: str, data: Buffer) -> None:
            self.data[key] = kept
            super().put_if_absent(key, data)

    late, whole = Late(), stock.copy()
    late.data = dict(stock.store.data)
    del late.data[key]
    assert not check(late, repair=True, other=whole).damages.left()
    assert late.data[key] == kept


def test_chunks_that_claim_to_build_on_each_other_stop_nothing(stock: Stocked) -> None:
    base, delta = (ChunkId(bytes.fromhex(stock.keys[k][5:].replace("/", ""))) for k in ("base", "delta"))
    first, second = weights(1), weights(1, 1e-6)
    stock.store.data[chunk_key(base)] = codecs.encode_delta(first, second, DeltaHead(delta, Element.F32, 1, 1))
    stock.store.data[base_key(delta, base)] = b"delta\n"
    for read_data in (False, True):
        found = check(stock.store, read_data=read_data)
        assert {d.key for d in found.damages} == {chunk_key(base), chunk_key(delta)}
    whole = stocked().store
    assert not check(stock.store, repair=True, other=whole, read_data=True).damages.left()
    assert not list(check(stock.store, read_data=True).damages)
