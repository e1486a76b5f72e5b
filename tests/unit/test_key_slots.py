"""format.json of an encrypted store: who gets in, who does not, and that its changes neither cross nor go back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_store import CHEAP, KEY_FILE, PASSPHRASE, DictStore, create_encrypted, open_with

from modelfs import codecs, limits
from modelfs.config import Secret
from modelfs.crypto.kdf import Cost
from modelfs.errors import CorruptError, LockedError, ModelfsError, NotFoundError, UntrustedError, UsageError
from modelfs.repository.access import Access
from modelfs.repository.keys import FORMAT_KEY, KEYS_LOCK
from modelfs.repository.keyslots import rotated, unlock, with_slot, without_slot
from modelfs.repository.repository import Format, Repository
from modelfs.store.base import Buffer

OTHER = Secret("key-file", b"o" * 32)


def add(repo: Repository, name: str, secret: Secret) -> None:
    assert repo.keys is not None
    repo.change_keys(with_slot(repo.format, repo.keys, name, secret, CHEAP))


def remove(repo: Repository, which: str) -> None:
    assert repo.keys is not None
    repo.change_keys(without_slot(repo.format, repo.keys, which))


def rotate(repo: Repository, *also: Secret) -> None:
    assert repo.keys is not None
    kept = [repo.keys, *(unlock(repo.format, secret, "here") for secret in also)]
    repo.change_keys(rotated(repo.format, kept))


def slots(repo: Repository) -> list[str]:
    assert repo.format.encryption is not None
    return [slot.name for slot in repo.format.encryption.slots]


def test_who_gets_in() -> None:
    store = DictStore()
    create_encrypted(store, PASSPHRASE)
    assert open_with(store, PASSPHRASE).head() is not None
    for wrong in (Secret("passphrase", b"canary passphras"), Secret("passphrase", PASSPHRASE.value + b"\n"), KEY_FILE):
        with pytest.raises(LockedError, match="opens no key slot") as caught:
            open_with(store, wrong)
        assert "canary" not in str(caught.value)
    with pytest.raises(LockedError, match="is encrypted: give --passphrase-file"):
        Repository.open(store)
    asked = []
    assert Repository.open(store, Access(ask=lambda url: asked.append(url) or PASSPHRASE)).head() is not None
    assert asked == [store.url]


@pytest.mark.parametrize("secret", [PASSPHRASE, KEY_FILE])
def test_a_store_opens_by_the_document_alone(secret: Secret) -> None:
    """docs/store-format.md, followed with nothing but the primitives: from a secret to a chunk and its id."""
    store = DictStore()
    chunk, _ = create_encrypted(store, secret).write_chunk(b"plain" * 100)
    file = json.loads(store.data[FORMAT_KEY])
    slot = file["encryption"]["slots"][0]
    salt = bytes.fromhex(slot["salt"])
    if secret.kind == "passphrase":
        cost = slot["argon2id"]
        own = Argon2id(
            salt=salt,
            length=32,
            iterations=cost["iterations"],
            lanes=cost["lanes"],
            memory_cost=cost["memory_kib"],
        ).derive(secret.value)
    else:
        own = HKDF(SHA256(), 32, salt, b"modelfs key file").derive(secret.value)

    def unseal(key: bytes, sealed: str, context: bytes) -> bytes:
        data = bytes.fromhex(sealed)
        return AESGCM(key).decrypt(data[:12], data[12:], context)

    context = f"modelfs slot\n{file['id']}\n{slot['id']}\n{slot['kind']}".encode()
    master = unseal(own, slot["wrapped"], context)
    sealed, file["encryption"]["keyring"] = file["encryption"]["keyring"], ""
    key = HKDFExpand(SHA256(), 32, b"modelfs keyring").derive(master)
    keyring = unseal(key, sealed, json.dumps(file, separators=(",", ":")).encode())
    assert len(keyring) == 64
    assert chunk == blake3(b"plain" * 100, key=keyring[:32]).digest()
    path = f"data/{chunk.hex()[:2]}/{chunk.hex()[2:]}"
    both = HKDFExpand(SHA256(), 64, b"modelfs object\n" + path.encode()).derive(keyring[32:])
    stored = store.data[path]
    about = f"modelfs object\n1\n1\n{file['id']}\n{path}\n".encode()
    cut = 17 + min(64, len(stored) - 49) + 16
    encoded = AESGCM(both[:32]).decrypt(stored[5:17], stored[17:cut], about + b"head")
    encoded += AESGCM(both[32:]).decrypt(stored[5:17], stored[cut:], about + b"body")
    assert codecs.decode(encoded, 500) == b"plain" * 100


def test_a_plain_store_in_the_place_of_an_encrypted_one_is_refused() -> None:
    store = DictStore()
    Repository.create(store)
    with pytest.raises(UsageError, match="is not encrypted, but a passphrase or key"):
        open_with(store)
    asked = []
    Repository.open(store, Access(ask=lambda url: asked.append(url) or PASSPHRASE))
    assert not asked


FLIPS = DictStore()
create_encrypted(FLIPS)
add(open_with(FLIPS), "other", PASSPHRASE)
FORMAT = FLIPS.data[FORMAT_KEY]


@pytest.mark.parametrize("part", range(8))
def test_a_format_with_any_changed_byte_is_refused(part: int) -> None:
    """Also where nothing but the authentication of the whole can tell: names, times, other slots, advice to writers."""
    for at in range(part, len(FORMAT), 8):
        store = DictStore()
        store.data = {**FLIPS.data, FORMAT_KEY: FORMAT[:at] + bytes([FORMAT[at] ^ 1]) + FORMAT[at + 1 :]}
        with pytest.raises(ModelfsError) as caught:
            open_with(store)
        assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(st.integers(0, len(FORMAT) - 1))
def test_a_format_that_was_cut_is_refused(length: int) -> None:
    store = DictStore()
    store.data = {**FLIPS.data, FORMAT_KEY: FORMAT[:length]}
    with pytest.raises(ModelfsError):
        open_with(store)


def test_changes_that_leave_the_format_in_good_form_are_refused() -> None:
    plain = json.loads(FORMAT)

    def attempt(change: object) -> None:
        store = DictStore()
        store.data = {**FLIPS.data, FORMAT_KEY: json.dumps(change).encode()}
        open_with(store)

    attempt(plain)  # spaces do not matter
    section = plain["encryption"]
    for change in (
        {"compression": "none"},
        {"created": "2000-01-01T00:00:00Z"},
        {"chunking": {**plain["chunking"], "avg_size": plain["chunking"]["avg_size"] + 1}},
        {"encryption": {**section, "revision": section["revision"] + 1}},
        {"encryption": {**section, "slots": section["slots"][:1]}},
        {"encryption": {**section, "slots": section["slots"][::-1]}},
    ):
        with pytest.raises(CorruptError, match="damaged or forged"):
            attempt({**plain, **change})
    with pytest.raises(LockedError):
        attempt({**plain, "id": "00" * 16})


def test_a_store_made_by_somebody_else_does_not_open() -> None:
    """Whoever writes the bucket can make a whole new store there, but not one that our key opens."""
    theirs, store = DictStore(), DictStore()
    create_encrypted(theirs, OTHER)
    store.data = theirs.data
    with pytest.raises(LockedError):
        open_with(store)


def test_slots_come_and_go() -> None:
    store = DictStore()
    repo = create_encrypted(store)
    assert repo.keys is not None
    add(repo, "other", OTHER)
    add(open_with(store, OTHER), "person", PASSPHRASE)
    repo = open_with(store, PASSPHRASE)
    assert slots(repo) == ["first", "other", "person"]
    with pytest.raises(UsageError, match="there is a key slot 'other' already"):
        add(repo, "other", OTHER)
    with pytest.raises(UsageError, match=r"no key slot 'nobody' \(there are: first, other, person\)"):
        remove(repo, "nobody")
    remove(repo, "first")
    assert repo.format.encryption is not None
    remove(repo, repo.format.encryption.slots[1].id)
    with pytest.raises(UsageError, match="is the last key slot"):
        remove(repo, "other")
    with pytest.raises(LockedError):
        open_with(store, KEY_FILE)
    with pytest.raises(LockedError):
        open_with(store, PASSPHRASE)
    assert slots(open_with(store, OTHER)) == ["other"]
    assert KEYS_LOCK not in store.data


def test_there_is_room_for_sixteen() -> None:
    repo = create_encrypted(DictStore())
    for i in range(1, limits.KEY_SLOTS_MAX):
        add(repo, f"s{i}", OTHER)
    with pytest.raises(UsageError, match="16 key slots at most"):
        add(repo, "one-more", OTHER)


def test_passphrases_that_cost_too_much_together_are_refused() -> None:
    repo = create_encrypted(DictStore(), PASSPHRASE)
    assert repo.keys is not None
    assert repo.format.encryption is not None
    dear = msgspec.structs.replace(
        repo.format.encryption.slots[0], argon2id=Cost(limits.ARGON2_MEMORY_MAX, limits.ARGON2_WORK_MAX // 2**20, 1)
    )
    made = replace(repo.format, encryption=msgspec.structs.replace(repo.format.encryption, slots=(dear,)))
    with pytest.raises(UsageError, match=r"another key slot: .* costs more"):
        with_slot(made, repo.keys, "one-more", PASSPHRASE, CHEAP)


def test_rotation_locks_out_who_was_removed() -> None:
    """The one who left kept format.json and the master key in it: what is written later stays closed to him."""
    store = DictStore()
    repo = create_encrypted(store)
    add(repo, "leaver", OTHER)
    before = repo.write_chunk(b"before" * 1000)[0]
    old_format = store.data[FORMAT_KEY]
    repo = open_with(store)
    rotate(repo)
    assert slots(repo) == ["first"]
    repo = open_with(store)
    assert bytes(repo.read_chunk(before, 6000)) == b"before" * 1000
    assert repo.write_chunk(b"before" * 1000) == (before, 0), "ids stay, so what is there is not stored again"
    after = repo.write_chunk(b"after" * 1000)[0]
    with pytest.raises(LockedError):
        open_with(store, OTHER)
    copy = DictStore()
    copy.data = {**store.data, FORMAT_KEY: old_format}
    leaver = open_with(copy, OTHER)
    assert bytes(leaver.read_chunk(before, 6000)) == b"before" * 1000
    with pytest.raises(CorruptError, match="epoch 2, which is not there"):
        leaver.read_chunk(after, 5000)


def test_who_has_the_store_open_follows_a_rotation() -> None:
    store = DictStore()
    repo = create_encrypted(store)
    add(repo, "other", OTHER)
    mount, shut_out = open_with(store), open_with(store, OTHER)
    store.reset()
    rotate(repo)
    repo = open_with(store)
    chunk = repo.write_chunk(b"new" * 1000)[0]
    store.reset()
    assert bytes(mount.read_chunk(chunk, 3000)) == b"new" * 1000
    assert store.log.count(("get", FORMAT_KEY)) == 1
    assert bytes(mount.read_chunk(chunk, 3000)) == b"new" * 1000
    assert store.log.count(("get", FORMAT_KEY)) == 1
    with pytest.raises(LockedError, match="the slot that opened it is gone"):
        shut_out.read_chunk(chunk, 3000)
    mine = mount.write_chunk(b"mine" * 1000)[0]
    assert bytes(repo.read_chunk(mine, 4000)) == b"mine" * 1000


def test_rotation_carries_on_the_slots_whose_secrets_are_given() -> None:
    store = DictStore()
    repo = create_encrypted(store, PASSPHRASE)
    add(repo, "other", OTHER)
    rotate(repo, OTHER)
    assert slots(repo) == ["first", "other"]
    for secret in (PASSPHRASE, OTHER):
        assert open_with(store, secret).keys.keyring.epoch == 2  # type: ignore[union-attr]


def test_two_changes_do_not_cross() -> None:
    store = DictStore()
    one, two = create_encrypted(store), open_with(store)
    rotate(one)
    with pytest.raises(UsageError, match="was changed by somebody else"):
        add(two, "other", OTHER)
    assert open_with(store).keys.keyring.epoch == 2  # type: ignore[union-attr]
    assert KEYS_LOCK not in store.data


class Meeting(DictStore):
    """Lets ``then`` happen just before format.json is written."""

    then = staticmethod(lambda: None)

    def put(self, key: str, data: Buffer) -> None:
        if key == FORMAT_KEY:
            act, self.then = self.then, lambda: None
            act()
        super().put(key, data)


def test_a_change_in_the_middle_of_another_is_refused() -> None:
    store = Meeting()
    one, two = create_encrypted(store), open_with(store)
    refused = []

    def meanwhile() -> None:
        with pytest.raises(UsageError, match=r"are being changed by process .*--break-lock") as caught:
            rotate(two)
        refused.append(str(caught.value))

    store.then = meanwhile
    add(one, "other", OTHER)
    assert len(refused) == 1
    assert slots(open_with(store)) == ["first", "other"]


class Dying(DictStore):
    """Breaks off at a chosen operation on format.json or the lock, as a killed process does."""

    point = ""

    def put(self, key: str, data: Buffer) -> None:
        if self.point == "before" and key == FORMAT_KEY:
            raise KeyboardInterrupt
        super().put(key, data)
        if self.point == "after" and key == FORMAT_KEY:
            raise KeyboardInterrupt

    def delete(self, key: str) -> None:
        if not (self.point and key == KEYS_LOCK):
            super().delete(key)


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_change_that_dies_half_way_leaves_a_store_that_opens_and_a_lock(point: str) -> None:
    store = Dying()
    repo = create_encrypted(store)
    store.point = point
    with pytest.raises(KeyboardInterrupt):
        rotate(repo)
    store.point = ""
    repo = open_with(store)
    assert repo.keys is not None
    assert repo.keys.keyring.epoch == (1 if point == "before" else 2)
    with pytest.raises(UsageError, match="if that process is gone, --break-lock"):
        rotate(repo)
    repo.change_keys(rotated(repo.format, [repo.keys]), break_lock=True)
    store.data[KEYS_LOCK] = b"not ours"
    repo = open_with(store)
    with pytest.raises(UsageError, match="are being changed by somebody"):
        rotate(repo)


@pytest.mark.parametrize("name", ["", "a/b", "../x", "x" * 65, "a b", "\n"])
def test_a_slot_that_the_format_has_no_room_for_is_not_written(name: str) -> None:
    store = DictStore()
    repo = create_encrypted(store)
    before = store.data[FORMAT_KEY]
    with pytest.raises(UsageError, match="not a name"):
        add(repo, name, OTHER)
    assert repo.format.encryption is not None
    with pytest.raises(ModelfsError):
        repo.change_keys(replace(repo.format, encryption=msgspec.structs.replace(repo.format.encryption, slots=())))
    assert store.data[FORMAT_KEY] == before
    assert KEYS_LOCK not in store.data


def test_a_plain_store_has_no_keys() -> None:
    repo = Repository.create(DictStore())
    with pytest.raises(UsageError, match="not encrypted"):
        unlock(repo.format, KEY_FILE, "here")


# -- what this machine has seen ---------------------------------------------------------------------------------------


def opened(store: DictStore, directory: Path, secret: Secret | None = KEY_FILE) -> Repository:
    return Repository.open(store, Access(secret=secret, seen=lambda store_id: directory / store_id))


def test_an_old_format_is_refused_by_who_saw_the_new_one(tmp_path: Path) -> None:
    store = DictStore()
    create_encrypted(store)
    repo = opened(store, tmp_path)
    old = store.data[FORMAT_KEY]
    rotate(repo)
    store.data[FORMAT_KEY] = old
    with pytest.raises(UntrustedError, match=r"shows revision 1 of its keys, and 2 was seen here.* remove .*\.keys"):
        opened(store, tmp_path)
    assert open_with(store).head() is not None, "another machine cannot know"
    (tmp_path / repo.format.id / ".keys").unlink()
    assert opened(store, tmp_path).head() is not None


def test_an_encrypted_store_that_turned_plain_is_refused(tmp_path: Path) -> None:
    store, plain = DictStore(), DictStore()
    repo = create_encrypted(store)
    opened(store, tmp_path)
    Repository.create(plain, Format(id=repo.format.id))
    with pytest.raises(UntrustedError, match="shows no encryption"):
        opened(plain, tmp_path, secret=None)


def test_an_open_store_does_not_follow_a_format_that_goes_back(tmp_path: Path) -> None:
    store = DictStore()
    repo = create_encrypted(store)
    rotate(repo)
    old = store.data[FORMAT_KEY]
    mount = opened(store, tmp_path)
    rotate(open_with(store))
    rotate(open_with(store))
    newest = store.data[FORMAT_KEY]
    chunk = open_with(store).write_chunk(b"x" * 100)[0]
    opened(store, tmp_path)
    store.data[FORMAT_KEY] = old
    with pytest.raises((UntrustedError, CorruptError)):
        mount.read_chunk(chunk, 100)
    store.data[FORMAT_KEY] = newest
    assert bytes(mount.read_chunk(chunk, 100)) == b"x" * 100


def test_a_format_that_is_gone_while_open() -> None:
    store = DictStore()
    mount = create_encrypted(store)
    rotate(open_with(store))
    chunk = open_with(store).write_chunk(b"x" * 100)[0]
    del store.data[FORMAT_KEY]
    with pytest.raises((UsageError, NotFoundError)):
        mount.read_chunk(chunk, 100)
