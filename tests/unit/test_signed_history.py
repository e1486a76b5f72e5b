"""Signed commits, and heads that go back: refused by who asks for signatures, and by who has seen more."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from repository_store import DictStore, inline, puts

from modelfs.crypto.signing import PublicKey, SigningKey
from modelfs.errors import CorruptError, UntrustedError, UsageError
from modelfs.ids import PLAIN, TreeId
from modelfs.repository.access import Access
from modelfs.repository.envelope import unwrap, wrap
from modelfs.repository.objects import CommitRecord, Entry, SignedCommit
from modelfs.repository.packing import pack_commit, pack_signed, split_signed
from modelfs.repository.repository import Repository
from modelfs.repository.seen import SeenHeads
from modelfs.store.base import ObjectInfo

ANNA, BORIS, EVE = SigningKey.new(), SigningKey.new(), SigningKey.new()


def opened(store: DictStore, *, signer: SigningKey | None = None, trusted: tuple[PublicKey, ...] = ()) -> Repository:
    return Repository.open(store, Access(signer=signer, trusted=frozenset(trusted)))


def add(repo: Repository, name: bytes, branch: str = "main") -> CommitRecord:
    head = repo.head(branch) or repo.head()
    assert head is not None
    root = head.commit.root
    tree = repo.apply(TreeId(root.content), puts(inline(name, name)))
    return repo.commit(branch, head, _with(root, tree), "")


def _with(root: Entry, tree: TreeId) -> Entry:
    return msgspec.structs.replace(root, content=tree)


def key(number: int, branch: str = "main") -> str:
    return f"commits/{branch}/{number:020d}"


@pytest.fixture
def store() -> DictStore:
    """Commit 1 by nobody, 2 by Anna, 3 by Boris."""
    made = DictStore()
    Repository.create(made)
    add(opened(made, signer=ANNA), b"a")
    add(opened(made, signer=BORIS), b"b")
    return made


def test_signed_history_is_read_by_everybody(store: DictStore) -> None:
    records = list(opened(store).log("main"))
    assert [r.signed_by for r in records] == [BORIS.public.raw, ANNA.public.raw, b""]


def test_a_signature_does_not_change_the_id(store: DictStore) -> None:
    record = opened(store).head()
    assert record is not None
    plain, signature = split_signed(unwrap(store.data[key(3)]))
    assert record.id == PLAIN.digest(plain) == PLAIN.digest(pack_commit(record.commit))
    assert signature is not None
    assert signature.fits(b"modelfs commit\n" + opened(store).format.id.encode() + b"\nmain\n" + plain)
    assert split_signed(plain) == (plain, None)


def test_trusted_history_is_accepted_down_to_where_signing_began(store: DictStore) -> None:
    repo = opened(store, trusted=(ANNA.public, BORIS.public))
    assert [r.number for r in repo.log("main")] == [3, 2, 1]
    assert [r.number for r in opened(store, trusted=(BORIS.public,)).log("main")] == [3, 2, 1], "bound by the head"


def test_what_nobody_trusted_signed_is_refused(store: DictStore) -> None:
    with pytest.raises(UntrustedError, match=r"main@3 .* is signed by a key that is not trusted"):
        opened(store, trusted=(ANNA.public,)).head()
    with pytest.raises(UntrustedError, match=r"main@1 .* is not signed"):
        opened(store, trusted=(BORIS.public,)).resolve("main@1")
    mount = opened(store, trusted=(BORIS.public,))
    head = mount.head()
    assert head is not None
    add(opened(store), b"by nobody")
    for _ in range(2):
        with pytest.raises(UntrustedError, match=r"main@4 .* is not signed"):
            mount.head("main", after=head.number)
    with pytest.raises(UntrustedError):
        opened(store, trusted=(BORIS.public,)).resolve(None)


def test_a_tag_does_not_make_a_commit_trusted(store: DictStore) -> None:
    repo = opened(store)
    repo.tag("v1", repo.resolve("main@1"))
    repo.tag("v3", repo.resolve("main@3"))
    reader = opened(store, trusted=(BORIS.public,))
    assert reader.resolve("v3").number == 3
    with pytest.raises(UntrustedError):
        opened(store, trusted=(BORIS.public,)).resolve("v1")


def test_nobody_builds_upon_what_he_does_not_trust(store: DictStore) -> None:
    writer = opened(store, signer=BORIS, trusted=(BORIS.public,))
    head = writer.head()
    assert head is not None
    add(opened(store), b"by nobody")
    tree = writer.apply(TreeId(head.commit.root.content), puts(inline(b"c")))
    with pytest.raises(UntrustedError):
        writer.commit("main", head, _with(head.commit.root, tree), "")
    assert key(5) not in store.data


@pytest.mark.parametrize("part", ["commit", "key", "signature"])
def test_a_forged_signature_is_damage_to_everybody(store: DictStore, part: str) -> None:
    plain, signature = split_signed(unwrap(store.data[key(3)]))
    assert signature is not None
    other = split_signed(unwrap(store.data[key(2)]))[1]
    assert other is not None
    changed = {
        "commit": SignedCommit(plain[:-1] + bytes([plain[-1] ^ 1]), signature.by.raw, signature.value),
        "key": SignedCommit(plain, ANNA.public.raw, signature.value),
        "signature": SignedCommit(plain, signature.by.raw, other.value),
    }[part]
    store.data[key(3)] = wrap(msgspec.msgpack.encode(changed))
    for repo in (opened(store), opened(store, trusted=(BORIS.public, ANNA.public))):
        with pytest.raises(CorruptError, match="main@3"):
            repo.head()


def test_a_signature_is_for_one_branch_of_one_store(store: DictStore) -> None:
    """A commit that Boris signed on dev is not his word for main; one of another store is not for this."""
    dev = opened(store, signer=BORIS)
    for number in (1, 2, 3):
        assert add(dev, b"%d" % number, "dev").number == number
    store.data[key(3)] = store.data[key(3, "dev")]
    with pytest.raises(CorruptError, match="signature does not fit"):
        opened(store, trusted=(BORIS.public,)).head()
    foreign = DictStore()
    Repository.create(foreign)
    for number in (2, 3):
        assert add(opened(foreign, signer=BORIS), b"x").number == number
    store.data[key(3)] = foreign.data[key(3)]
    with pytest.raises(CorruptError, match="signature does not fit"):
        opened(store).head()


def test_signatures_of_the_wrong_form_are_refused(store: DictStore) -> None:
    plain, signature = split_signed(unwrap(store.data[key(3)]))
    assert signature is not None
    for junk in (
        b"\x93",
        msgspec.msgpack.encode([plain, b"short", signature.value]),
        msgspec.msgpack.encode([plain, signature.by.raw, signature.value[:63]]),
        pack_signed(plain, signature) + b"\0",
        pack_signed(b"", signature),
        msgspec.msgpack.encode([pack_signed(plain, signature), signature.by.raw, signature.value]),
    ):
        store.data[key(3)] = wrap(junk)
        with pytest.raises(CorruptError, match="main@3"):
            opened(store).head()


def test_who_would_refuse_his_own_commits_is_told() -> None:
    Access(trusted=frozenset((ANNA.public,))).check(writes=False)
    Access(signer=ANNA, trusted=frozenset((ANNA.public,))).check(writes=True)
    Access(signer=ANNA).check(writes=True)
    with pytest.raises(UsageError, match=r"needs --sign-with$"):
        Access(trusted=frozenset((ANNA.public,))).check(writes=True)
    with pytest.raises(UsageError, match="a key that is among them"):
        Access(signer=EVE, trusted=frozenset((ANNA.public,))).check(writes=True)


# -- heads that go back -----------------------------------------------------------------------------------------------


def remembering(store: DictStore, directory: Path) -> Repository:
    return Repository.open(store, Access(seen=lambda store_id: directory))


def test_a_head_that_went_back_is_refused(store: DictStore, tmp_path: Path) -> None:
    assert remembering(store, tmp_path).head().number == 3  # type: ignore[union-attr]
    newest = store.data.pop(key(3))
    for _ in range(2):
        with pytest.raises(UntrustedError, match="shows main@2, and main@3 was seen here") as caught:
            remembering(store, tmp_path).resolve(None)
    assert f"remove {tmp_path / 'main'}" in str(caught.value)
    assert Repository.open(store).head().number == 2  # type: ignore[union-attr]
    store.data[key(3)] = newest
    assert remembering(store, tmp_path).head().number == 3  # type: ignore[union-attr]
    del store.data[key(3)]
    (tmp_path / "main").unlink()
    assert remembering(store, tmp_path).head().number == 2  # type: ignore[union-attr]


def test_a_branch_that_is_gone_is_refused(store: DictStore, tmp_path: Path) -> None:
    add(remembering(store, tmp_path), b"x", "dev")
    del store.data[key(1, "dev")]
    with pytest.raises(UntrustedError, match="has no branch dev, and dev@1 was seen"):
        remembering(store, tmp_path).head("dev")
    assert remembering(store, tmp_path).head("never-seen") is None


def test_another_history_under_the_same_numbers_is_refused(store: DictStore, tmp_path: Path) -> None:
    """Rolled back by two, then written on by somebody who could not know: its numbers pass ours, its past does not."""
    remembering(store, tmp_path).head()
    kept = dict(store.data)
    for number in (2, 3):
        del store.data[key(number)]
    fork = Repository.open(store)
    for name in (b"x", b"y", b"z"):
        add(fork, name)
    with pytest.raises(UntrustedError, match="its main@3 is another one than was seen here"):
        remembering(store, tmp_path).head()
    del store.data[key(4)]
    with pytest.raises(UntrustedError, match="its main@3 is another one"):
        remembering(store, tmp_path).head()
    store.data = kept
    assert remembering(store, tmp_path).head().number == 3  # type: ignore[union-attr]


def test_history_that_retention_cut_is_no_step_back(store: DictStore, tmp_path: Path) -> None:
    remembering(store, tmp_path).head()
    add(Repository.open(store), b"c")
    del store.data[key(3)]
    assert remembering(store, tmp_path).head().number == 4  # type: ignore[union-attr]


def test_our_own_commits_are_remembered_and_a_running_mount_goes_on(store: DictStore, tmp_path: Path) -> None:
    mount = remembering(store, tmp_path)
    record = add(mount, b"own")
    assert SeenHeads(tmp_path).last("main").number == record.number == 4  # type: ignore[union-attr]
    newer = add(Repository.open(store), b"theirs")
    assert mount.head("main", after=4).id == newer.id  # type: ignore[union-attr]
    assert (tmp_path / "main").read_text() == f"5 {newer.id.hex()}\n"
    del store.data[key(5)]
    with pytest.raises(UntrustedError):
        mount.head("main", after=4)


def test_a_listing_that_lags_is_not_a_step_back(store: DictStore, tmp_path: Path) -> None:
    """An eventually consistent listing leaves out commits that are there: they are asked for by their key."""

    class Lagging(DictStore):
        def list(self, prefix: str):  # type: ignore[no-untyped-def]
            return (info for info in super().list(prefix) if not info.key.endswith(("2", "3")))

    remembering(store, tmp_path).head()
    lagging = Lagging()
    lagging.data = store.data
    assert remembering(lagging, tmp_path).head().number == 3  # type: ignore[union-attr]

    class Empty(DictStore):
        def list(self, prefix: str):  # type: ignore[no-untyped-def]
            found: list[ObjectInfo] = []
            return iter(found)

    empty = Empty()
    empty.data = store.data
    assert remembering(empty, tmp_path).head().number == 3  # type: ignore[union-attr]


def test_an_older_note_does_not_replace_a_newer_one(store: DictStore, tmp_path: Path) -> None:
    records = list(opened(store).log("main"))
    SeenHeads(tmp_path).note(records[0])
    SeenHeads(tmp_path).note(records[1])
    assert SeenHeads(tmp_path).last("main").number == 3  # type: ignore[union-attr]


@pytest.mark.parametrize("content", [b"", b"3", b"x y\n", b"\xff\xfe", b"3 " + b"0" * 64])
def test_a_memory_that_cannot_be_read_is_no_memory(
    store: DictStore, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "main").write_bytes(content)
    assert remembering(store, tmp_path).head().number == 3  # type: ignore[union-attr]
    assert "would not be noticed" in caplog.text


def test_a_memory_that_cannot_be_written_is_said_once(store: DictStore, caplog: pytest.LogCaptureFixture) -> None:
    repo = remembering(store, Path("/proc/nowhere"))
    for _ in range(2):
        assert repo.head() is not None
        add(repo, b"more")
    assert caplog.text.count("would not be noticed") == 1


def test_a_commit_is_stored_again_as_it_came(store: DictStore) -> None:
    """Another program may write a number longer than need be. Its bytes are what was hashed and signed."""
    repo = opened(store)
    head = repo.resolve(None)
    commit = msgspec.structs.replace(head.commit, number=4, parent=head.id, time_ns=5)
    plain = pack_commit(commit)
    at = plain.index(b"\xc4\x20" + head.id)
    longer = plain[: at - 1] + b"\xcd\x00\x04" + plain[at:]
    message = b"modelfs commit\n" + repo.format.id.encode() + b"\nmain\n" + longer
    store.data[key(4)] = wrap(pack_signed(longer, ANNA.sign(message)), checksum=True)
    reader = opened(store, trusted=(ANNA.public,))
    record = reader.resolve(None)
    assert record.id == PLAIN.digest(longer) != PLAIN.digest(plain)
    assert reader._commits._objects.stored(record) == store.data[key(4)]
