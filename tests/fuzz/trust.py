"""Targets that guard an encrypted or signed store: seals, key slots, signed commits, the text of keys.

They check more than that nothing breaks: what is accepted must be what was sealed or signed, to the bit.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Final

import msgspec
from repository_store import CHEAP, KEY_FILE, PASSPHRASE, DictStore, create_encrypted

from fuzz import mutate
from fuzz.target import Target
from modelfs import limits
from modelfs.crypto.blob import TAG_LENGTH
from modelfs.crypto.keyring import Keyring
from modelfs.crypto.objects import PEEK_LENGTH, Sealer, epoch_of
from modelfs.crypto.signing import PublicKey, SigningKey
from modelfs.errors import CorruptError, ModelfsError
from modelfs.ids import PLAIN, TreeId
from modelfs.repository.access import Access
from modelfs.repository.commitobjects import CommitObjects
from modelfs.repository.format import parse_format, read_format
from modelfs.repository.keys import FORMAT_KEY, KEYS_LOCK, commit_key, meta_key
from modelfs.repository.keyslots import replace_format, rotated, unlock, with_slot
from modelfs.repository.objects import EMPTY_TREE, Commit, Entry, Kind
from modelfs.repository.packing import pack_commit, pack_signed
from modelfs.repository.repository import Repository

_KEY: Final = "data/00/" + "11" * 31


def trust() -> list[Target]:
    """All of them."""
    return [*_seals(), *_slots(), _signed(), _texts()]


def _seals() -> list[Target]:
    ring = Keyring(bytes(32), (b"\1" * 32, b"\2" * 32))
    older, sealer = Sealer("ab" * 16, Keyring(bytes(32), ring.data_keys[:1])), Sealer("ab" * 16, ring)
    plains = [b"", b"x", b"y" * 63, b"z" * 64, b"z" * 65, bytes(range(256)) * 20]
    sealed = {bytes(s.seal(_KEY, plain)): plain for s in (older, sealer) for plain in plains}
    elsewhere = bytes(sealer.seal("data/00/" + "22" * 31, b"for another place"))
    # Who reads the start of an object alone has 16 bytes of the body, which he cannot verify and does not use.
    authenticated = PEEK_LENGTH - TAG_LENGTH
    heads = {start[:authenticated]: plain[:64] for start, plain in sealed.items() if len(start) >= PEEK_LENGTH}

    def whole(data: bytes) -> None:
        assert epoch_of(data) >= 0
        plain = bytes(sealer.open(_KEY, data))
        assert sealed.get(data) == plain, "what nobody sealed was opened"

    def head(data: bytes) -> None:
        plain = sealer.open_head(_KEY, data)
        known = heads.get(data[:authenticated]) if len(data) >= PEEK_LENGTH else sealed.get(data)
        assert known == plain, "what nobody sealed was opened"

    made = DictStore()
    create_encrypted(made)
    page = meta_key(bytes(range(32)))

    def store(data: bytes) -> None:
        """The keeper of an encrypted store puts bytes of his own in the place of objects."""
        shown = DictStore()
        shown.data = {**made.data, page: data, commit_key("main", 2): data, "gc/history/main": data, KEYS_LOCK: data}
        repo = Repository.open(shown, Access(secret=KEY_FILE))
        for step in (
            lambda: list(repo.walk(TreeId(bytes(range(32))))),
            lambda: repo.store.get_range(page, 0, 44),
            lambda: repo.resolve(None),
            lambda: repo.collected("main"),
        ):
            try:
                step()  # type: ignore[no-untyped-call]
            except CorruptError:
                continue
            raise AssertionError("forged bytes were taken")

    seeds = (*sealed, elsewhere)
    others = tuple(made.data[key] for key in sorted(made.data) if key != FORMAT_KEY)
    return [
        Target("sealed", whole, seeds, (CorruptError,)),
        Target("sealed-head", head, (*seeds, *(seed[:PEEK_LENGTH] for seed in seeds)), (CorruptError,)),
        Target("sealed-store", store, (*others, b"\1\0\0\0\7" + bytes(200)), memory=8 * limits.MiB),
    ]


def _slots() -> list[Target]:
    made = DictStore()
    create_encrypted(made)
    plain = read_format(made)
    keys = unlock(plain, KEY_FILE, made.url)
    two = with_slot(plain, keys, "words", PASSPHRASE, CHEAP)
    formats = []
    for one in (plain, two, rotated(two, [unlock(two, KEY_FILE, made.url)])):
        draft = DictStore()
        draft.data = dict(made.data)
        replace_format(draft, plain, one)
        formats.append(draft.data[FORMAT_KEY])
    genuine = [parse_format(made, data) for data in formats]

    def slots(data: bytes) -> None:
        found = parse_format(made, data)
        section = found.encryption
        if section is None:
            return
        assert 1 <= len(section.slots) <= limits.KEY_SLOTS_MAX
        costs = [slot.argon2id for slot in section.slots if slot.argon2id is not None]
        assert sum(cost.work for cost in costs) <= limits.ARGON2_WORK_MAX
        secrets = [KEY_FILE] if costs and any(cost != CHEAP for cost in costs) else [KEY_FILE, PASSPHRASE]
        for secret in secrets:
            with contextlib.suppress(ModelfsError):
                unlock(found, secret, made.url)
                assert found in genuine, "keys that were sealed along with something else were opened"

    held = b'{"host":"h","pid":3,"since":1700000000.5}'

    def lock(data: bytes) -> None:
        """What a change of the slots says of the one who is at it."""
        store = DictStore()
        store.data = {FORMAT_KEY: formats[0], KEYS_LOCK: data}
        try:
            replace_format(store, plain, two)
        except ModelfsError as error:
            assert "are being changed by" in str(error)
        assert store.data[FORMAT_KEY] == formats[0]

    structured = (mutate.blind, mutate.json, _hex_of)
    return [
        Target("key-slots", slots, tuple(formats), (ModelfsError,), structured),
        Target("keys-lock", lock, (held,), (), (mutate.blind, mutate.json)),
    ]


def _hex_of(rng: mutate.random.Random, data: bytes, other: bytes) -> bytes:
    """A format.json whose wrapped keys are changed as bytes, so that they are hex still."""
    try:
        value = json.loads(data)
        section = value["encryption"]
        slot = rng.choice(section["slots"])
        place, name = rng.choice(((section, "keyring"), (slot, "wrapped"), (slot, "salt")))
        raw = bytes.fromhex(place[name])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return data
    place[name] = mutate.blind(rng, raw, raw).hex()
    return json.dumps(value).encode()


def _signed() -> Target:
    anna, eve = SigningKey.new(), SigningKey.new()
    root = Entry(b"", Kind.DIRECTORY, 0o755, 0, 0, 0, 0, EMPTY_TREE)
    access = Access(trusted=frozenset((anna.public,)))
    objects = CommitObjects(PLAIN, "ab" * 16, access)
    plains = [pack_commit(Commit(7, bytes(32), root, t, "host", "user", "message", 1, 2)) for t in (1, 2)]

    def by(key: SigningKey, plain: bytes, branch: str = "main") -> bytes:
        return pack_signed(plain, key.sign(f"modelfs commit\n{'ab' * 16}\n{branch}\n".encode() + plain))

    signed = {by(anna, plain) for plain in plains}
    accepted = {PLAIN.digest(plain) for plain in plains}

    def run(data: bytes) -> None:
        record = objects.parse("main", 7, b"\0" + data)
        assert record.number == 7
        if record.signed_by == anna.public.raw:
            assert record.id in accepted, "a commit that Anna did not sign passes for hers"
        assert objects.trusts(record) is (record.signed_by == anna.public.raw)
        assert objects.parse("main", 7, objects.stored(record)) == record

    seeds = (*signed, by(eve, plains[0]), by(anna, plains[0], "dev"), *plains)
    return Target("signed-commit", run, seeds, mutations=(mutate.blind, mutate.msgpack, _inside))


def _inside(rng: mutate.random.Random, data: bytes, other: bytes) -> bytes:
    """A signed commit whose commit is changed as msgpack, or that has another's signature."""
    try:
        commit, key, signature = msgspec.msgpack.decode(data)
        theirs = msgspec.msgpack.decode(other)
        if rng.random() < 0.3 and len(theirs) == 3:
            return msgspec.msgpack.encode([commit, *theirs[1:]])
        return msgspec.msgpack.encode([mutate.msgpack(rng, commit, commit), key, signature])
    except (ValueError, TypeError, msgspec.DecodeError):
        return data


def _texts() -> Target:
    key = SigningKey.new()

    def text(data: bytes) -> None:
        words = data.decode("utf-8", "surrogateescape")
        parsers: tuple[Callable[[str], PublicKey], ...] = (
            PublicKey.parse,
            lambda words: SigningKey.parse(words).public,
        )
        for parse in parsers:
            with contextlib.suppress(ValueError):
                public = parse(words)
                assert PublicKey.parse(str(public)) == public
                return
        raise ValueError("neither")

    return Target("key-text", text, (key.text().encode(), str(key.public).encode()))
