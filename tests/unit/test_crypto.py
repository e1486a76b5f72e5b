"""Seals, key derivation, slots and signatures: what was tampered with is refused, whatever the byte."""

from __future__ import annotations

import struct

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfs import limits
from modelfs.config import Secret
from modelfs.crypto import blob, kdf
from modelfs.crypto.kdf import Cost
from modelfs.crypto.keyring import Keyring
from modelfs.crypto.objects import HEAD_LENGTH, OVERHEAD, PEEK_LENGTH, Sealer, epoch_of
from modelfs.crypto.signing import PublicKey, Signature, SigningKey
from modelfs.crypto.slots import Encryption, Slot, make_slot, rewrapped, slot_key, unwrap
from modelfs.errors import CorruptError, UsageError

STORE = "ab" * 16
KEY = "data/ab/" + "cd" * 31
CHEAP = Cost(limits.ARGON2_MEMORY_MIN, 1, 1)
KEYRING = Keyring.new().rotated()
SEALER = Sealer(STORE, KEYRING)


# -- objects ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_what_is_sealed_comes_back(plain: bytes) -> None:
    sealed = SEALER.seal(KEY, plain)
    assert len(sealed) == len(plain) + OVERHEAD
    assert bytes(SEALER.open(KEY, sealed)) == plain
    assert SEALER.open_head(KEY, sealed[:PEEK_LENGTH])[:HEAD_LENGTH] == plain[:HEAD_LENGTH]


@pytest.mark.parametrize("size", [0, 1, HEAD_LENGTH - 1, HEAD_LENGTH, HEAD_LENGTH + 1, 1000])
def test_every_changed_byte_and_every_cut_is_refused(size: int) -> None:
    sealed = SEALER.seal(KEY, bytes(size))
    for at in range(len(sealed)):
        for bit in (1, 128):
            broken = bytearray(sealed)
            broken[at] ^= bit
            with pytest.raises(CorruptError):
                SEALER.open(KEY, broken)
            if at < PEEK_LENGTH - 16:
                with pytest.raises(CorruptError):
                    SEALER.open_head(KEY, broken[:PEEK_LENGTH])
    for length in range(len(sealed)):
        with pytest.raises(CorruptError):
            SEALER.open(KEY, sealed[:length])
    with pytest.raises(CorruptError):
        SEALER.open(KEY, sealed + b"\0")


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_bytes_that_nobody_sealed_are_refused(junk: bytes) -> None:
    for start in (b"", b"\1\0\0\0\1"):
        for read in (SEALER.open, SEALER.open_head):
            with pytest.raises(CorruptError):
                read(KEY, start + junk)


@settings(deadline=None)
@given(st.text("abcdef/", min_size=1, max_size=20), st.text("abcdef/", min_size=1, max_size=20))
def test_a_seal_fits_one_place(here: str, there: str) -> None:
    sealed = SEALER.seal(here, b"x" * 100)
    if here == there:
        assert bytes(SEALER.open(there, sealed)) == b"x" * 100
    else:
        for read in (SEALER.open, SEALER.open_head):
            with pytest.raises(CorruptError, match="its seal does not fit"):
                read(there, sealed)


def test_a_seal_fits_one_store_one_epoch_and_one_key() -> None:
    old = Sealer(STORE, Keyring(KEYRING.id_key, KEYRING.data_keys[:1]))
    sealed = old.seal(KEY, b"from the first epoch")
    assert (epoch_of(sealed), epoch_of(SEALER.seal(KEY, b"")), epoch_of(b"short")) == (1, 2, 0)
    assert bytes(SEALER.open(KEY, sealed)) == b"from the first epoch"
    with pytest.raises(CorruptError, match="epoch 2, which is not there"):
        old.open(KEY, SEALER.seal(KEY, b"from the second"))
    for epoch in (0, 2, 3):
        with pytest.raises(CorruptError):
            SEALER.open(KEY, sealed[:1] + epoch.to_bytes(4, "big") + sealed[5:])
    for other in (Sealer("cd" * 16, KEYRING), Sealer(STORE, Keyring.new())):
        with pytest.raises(CorruptError):
            other.open(KEY, sealed)


def test_two_seals_of_one_place_cannot_be_mixed() -> None:
    """Head of one, body of the other: both authentic, together neither."""
    first, second = SEALER.seal(KEY, b"1" * 200), SEALER.seal(KEY, b"2" * 200)
    cut = PEEK_LENGTH - 16
    for mixed in (first[:cut] + second[cut:], first[:17] + second[17:cut] + first[cut:]):
        with pytest.raises(CorruptError):
            SEALER.open(KEY, mixed)


def test_equal_objects_are_sealed_differently() -> None:
    assert len({bytes(SEALER.seal(KEY, b"same")) for _ in range(100)}) == 100


def test_the_documented_bytes() -> None:
    """docs/store-format.md, followed by hand with nothing but the primitives."""
    plain = bytes(range(100))
    sealed = bytes(SEALER.seal(KEY, plain))
    version, epoch, nonce = struct.unpack(">BI12s", sealed[:17])
    assert (version, epoch) == (1, 2)
    keys = HKDFExpand(SHA256(), 64, b"modelfs object\n" + KEY.encode()).derive(KEYRING.data_keys[1])
    for key, part, where, expected in (
        (keys[:32], b"head", sealed[17:97], plain[:64]),
        (keys[32:], b"body", sealed[97:], plain[64:]),
    ):
        context = b"modelfs object\n1\n2\n" + STORE.encode() + b"\n" + KEY.encode() + b"\n" + part
        assert AESGCM(key).decrypt(nonce, where, context) == expected


# -- keys -------------------------------------------------------------------------------------------------------------


def test_key_derivation_as_published() -> None:
    """RFC 5869, test case 1; the reference program of Argon2 for "password", "somesalt", t=2, m=64 MiB, p=1."""
    prk = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    assert kdf.expand(prk, bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"), 42).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    found = kdf.from_passphrase(b"password", b"somesalt", Cost(65536, 2, 1))
    assert found.hex() == "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"


def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, **settings: object) -> None:
            pass

        def derive(self, passphrase: bytes) -> bytes:
            raise MemoryError

    monkeypatch.setattr(kdf, "Argon2id", Full)
    with pytest.raises(UsageError, match="takes 1024 MiB of memory"):
        kdf.from_passphrase(b"x", bytes(16), Cost(1024 * 1024, 1, 1))


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(1, 255))
def test_a_blob_with_a_changed_byte_is_refused(at: int, flip: int) -> None:
    sealed = bytearray(blob.seal(bytes(32), b"plain" * 10, b"context"))
    assert blob.unseal(bytes(32), bytes(sealed), b"context") == b"plain" * 10
    sealed[at % len(sealed)] ^= flip
    with pytest.raises(ValueError, match="seal does not fit"):
        blob.unseal(bytes(32), bytes(sealed), b"context")
    with pytest.raises(ValueError, match="too short"):
        blob.unseal(bytes(32), bytes(sealed[:27]), b"context")


def test_the_keyring() -> None:
    master = bytes(range(32))
    sealed = KEYRING.seal(master, b"context")
    assert Keyring.unseal(master, sealed, b"context") == KEYRING
    assert KEYRING.epoch == 2
    for key, text, context in (
        (bytes(32), sealed, b"context"),
        (master, sealed, b"other"),
        (master, sealed[:-2], b"context"),
        (master, sealed[:-1], b"context"),
        (master, "", b"context"),
        (master, blob.seal(kdf.expand(master, b"modelfs keyring", 32), bytes(32), b"").hex(), b""),
        (master, blob.seal(kdf.expand(master, b"modelfs keyring", 32), bytes(65), b"").hex(), b""),
    ):
        with pytest.raises(ValueError):
            Keyring.unseal(key, text, context)
    full = Keyring(bytes(32), (bytes(32),) * limits.EPOCHS_MAX)
    with pytest.raises(UsageError, match="no more fit"):
        full.rotated()


def test_a_new_epoch_has_a_key_that_does_not_follow_from_the_others() -> None:
    one, other = KEYRING.rotated(), KEYRING.rotated()
    assert one.data_keys[:2] == other.data_keys[:2] == KEYRING.data_keys
    assert one.data_keys[2] != other.data_keys[2]
    assert one.id_key == KEYRING.id_key


@pytest.mark.parametrize("secret", [Secret("passphrase", b"correct horse"), Secret("key-file", b"k" * 32)])
def test_a_slot_gives_the_master_key_for_its_secret_alone(secret: Secret) -> None:
    master = b"m" * 32
    slot, own = make_slot("a", secret, master, STORE, CHEAP)
    assert slot_key(slot, secret) == own
    assert unwrap(slot, own, STORE) == master
    assert unwrap(slot, slot_key(slot, Secret(secret.kind, secret.value[:-1] + b"!")), STORE) is None
    assert unwrap(slot, own, "cd" * 16) is None
    assert unwrap(msgspec.structs.replace(slot, id="00000000"), own, STORE) is None
    assert unwrap(msgspec.structs.replace(slot, salt="00" * 16), slot_key(slot, secret), STORE) == master
    for at in range(0, len(slot.wrapped), 2):
        broken = bytearray.fromhex(slot.wrapped)
        broken[at // 2] ^= 1
        assert unwrap(msgspec.structs.replace(slot, wrapped=broken.hex()), own, STORE) is None
    again = rewrapped(slot, own, b"n" * 32, STORE)
    assert unwrap(again, own, STORE) == b"n" * 32


def test_two_slots_of_one_secret_have_nothing_in_common() -> None:
    secret, master = Secret("passphrase", b"x"), bytes(32)
    (one, own), (two, other) = (make_slot("a", secret, master, STORE, CHEAP) for _ in range(2))
    assert own != other
    assert unwrap(one, other, STORE) is None
    assert unwrap(msgspec.structs.replace(one, wrapped=two.wrapped), own, STORE) is None


def _section(*slots: Slot) -> Encryption:
    return Encryption("aes-256-gcm", 1, slots, "00" * 92)


GOOD, _ = make_slot("a", Secret("passphrase", b"x"), bytes(32), STORE, CHEAP)
BY_FILE, _ = make_slot("b", Secret("key-file", b"x" * 32), bytes(32), STORE)


@pytest.mark.parametrize(
    "cost",
    [
        {"memory_kib": limits.ARGON2_MEMORY_MAX + 1, "iterations": 1, "lanes": 1},
        {"memory_kib": 2**63, "iterations": 1, "lanes": 1},
        {"memory_kib": limits.ARGON2_MEMORY_MIN - 1, "iterations": 1, "lanes": 1},
        {"memory_kib": -1, "iterations": 1, "lanes": 1},
        {"memory_kib": 65536, "iterations": limits.ARGON2_ITERATIONS_MAX + 1, "lanes": 1},
        {"memory_kib": 65536, "iterations": 0, "lanes": 1},
        {"memory_kib": 65536, "iterations": 1, "lanes": 0},
        {"memory_kib": 65536, "iterations": 1, "lanes": limits.ARGON2_LANES_MAX + 1},
        {"memory_kib": 65536, "iterations": 1},
        {"memory_kib": 65536, "iterations": 1, "lanes": 1, "more": 1},
        {"memory_kib": limits.ARGON2_MEMORY_MAX, "iterations": limits.ARGON2_ITERATIONS_MAX, "lanes": 1},
    ],
)
def test_hostile_costs_are_refused_before_they_are_paid(cost: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kdf, "Argon2id", None)
    plain = msgspec.json.decode(msgspec.json.encode(_section(GOOD)))
    plain["slots"][0]["argon2id"] = cost
    with pytest.raises(ValueError):
        msgspec.json.decode(msgspec.json.encode(plain), type=Encryption).check()


def test_many_slots_do_not_add_up_to_a_hostile_cost() -> None:
    dear = Cost(limits.ARGON2_MEMORY_MAX, 2, 1)
    slots = [msgspec.structs.replace(GOOD, id=f"{i:08x}", argon2id=dear) for i in range(3)]
    _section(*slots[:2]).check()
    with pytest.raises(ValueError, match="costs more than is accepted"):
        _section(*slots).check()
    usual = [
        msgspec.structs.replace(GOOD, id=f"{i:08x}", argon2id=kdf.DEFAULT_COST) for i in range(limits.KEY_SLOTS_MAX)
    ]
    _section(*usual).check()


@pytest.mark.parametrize(
    "slots",
    [
        [msgspec.structs.replace(GOOD, argon2id=None)],
        [msgspec.structs.replace(BY_FILE, argon2id=CHEAP)],
        [GOOD, GOOD],
    ],
)
def test_slots_that_make_no_sense_are_refused(slots: list[Slot]) -> None:
    with pytest.raises(ValueError):
        _section(*slots).check()


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../../aa"},
        {"name": "a/b"},
        {"name": "\x1b[31m"},
        {"kind": "other"},
        {"salt": "zz" * 16},
        {"salt": "00" * 15},
        {"wrapped": "00" * 61},
        {"wrapped": "0" * 119 + "\n"},
        {"unknown": 1},
    ],
)
def test_slots_of_another_form_are_refused(change: dict[str, object]) -> None:
    plain = msgspec.json.decode(msgspec.json.encode(_section(GOOD)))
    msgspec.json.decode(msgspec.json.encode(plain), type=Encryption)
    plain["slots"][0] |= change
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(plain), type=Encryption)


def test_no_key_and_no_passphrase_shows_in_a_repr() -> None:
    secret = Secret("passphrase", b"canary-secret")
    shown = f"{secret!r} {KEYRING!r} {SigningKey.new()!r}"
    assert "canary" not in shown
    assert not any(repr(key)[2:-1] in shown or key.hex() in shown for key in (KEYRING.id_key, *KEYRING.data_keys))


# -- signatures -------------------------------------------------------------------------------------------------------


def test_signatures_as_published() -> None:
    """RFC 8032, section 7.1, test 2."""
    key = SigningKey.parse("ed25519-secret:4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    assert str(key.public) == "ed25519:3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").value.hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@settings(deadline=None)
@given(st.binary(max_size=100), st.integers(0, 63), st.integers(1, 255))
def test_a_signature_fits_its_message_and_its_key(message: bytes, at: int, flip: int) -> None:
    key = SigningKey.new()
    signature = key.sign(message)
    assert signature.fits(message)
    assert not signature.fits(message + b"\0")
    broken = bytearray(signature.value)
    broken[at] ^= flip
    assert not Signature(key.public, bytes(broken)).fits(message)
    assert not Signature(SigningKey.new().public, signature.value).fits(message)
    assert not Signature(PublicKey(b"\xff" * 32), signature.value).fits(message)


def test_keys_as_text() -> None:
    key = SigningKey.new()
    again = SigningKey.parse(key.text())
    assert again.public == key.public == PublicKey.parse(f" {key.public}\n")
    assert str(key.public) in key.text()
    for text in ("", "ed25519:00", str(key.public), key.text() * 2, "ed25519-secret:" + "zz" * 32):
        with pytest.raises(ValueError, match="not a signing key"):
            SigningKey.parse(text)
    for text in ("", "ed25519:00", "ssh-ed25519 AAAA", key.text()):
        with pytest.raises(ValueError, match="not a public key"):
            PublicKey.parse(text)
