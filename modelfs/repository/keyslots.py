"""The key slots of a store: opening it with a secret, and the changes that `modelfs key` makes.

Everything here computes one format.json from another; `replace_format` alone writes. What is in it besides the
slots is authenticated along with the keyring, so a format.json that was changed by who lacks the key opens for nobody.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from modelfs import limits
from modelfs.config import Secret
from modelfs.crypto.kdf import DEFAULT_COST, KEY_LENGTH, Cost
from modelfs.crypto.keyring import Keyring
from modelfs.crypto.slots import Encryption, Slot, make_slot, rewrapped, slot_key, unwrap
from modelfs.errors import AlreadyExistsError, CorruptError, LockedError, NotFoundError, UsageError
from modelfs.repository.checks import REF_NAME
from modelfs.repository.format import Format, format_bytes, parse_format, read_format
from modelfs.repository.keys import FORMAT_KEY, KEYS_LOCK
from modelfs.store.base import Store


@dataclass(frozen=True, slots=True)
class Unlocked:
    """The keys of an opened store, and the slot and its own key that opened it. No key shows in a repr."""

    keyring: Keyring
    slot: str
    own: bytes = field(repr=False)
    master: bytes = field(repr=False)


Reload = Callable[[], Unlocked]  # the keys as they are now


def encrypted(made: Format, secret: Secret, name: str, cost: Cost = DEFAULT_COST) -> tuple[Format, Unlocked]:
    """A new store's format with one key slot, and its keys."""
    master, keyring = secrets.token_bytes(KEY_LENGTH), Keyring.new()
    slot, own = make_slot(name, secret, master, made.id, cost)
    return _sealed(made, (slot,), 1, keyring, master), Unlocked(keyring, slot.id, own, master)


def unlock(made: Format, secret: Secret, url: str) -> Unlocked:
    """The keys of an encrypted store. LockedError when the secret opens no slot, CorruptError for a forged format."""
    section = _section(made)
    for slot in section.slots:
        if slot.kind == secret.kind:
            own = slot_key(slot, secret)
            master = unwrap(slot, own, made.id)
            if master is not None:
                return _opened(made, slot, own, master, url)
    what = "passphrase" if secret.kind == "passphrase" else "key file"
    raise LockedError(f"the {what} opens no key slot of {url}")


def reopen(made: Format, before: Unlocked, url: str) -> Unlocked:
    """The keys after somebody changed format.json, through the slot that opened it before. Errors as `unlock`."""
    slot = next((slot for slot in _section(made).slots if slot.id == before.slot), None)
    master = unwrap(slot, before.own, made.id) if slot is not None else None
    if slot is None or master is None:
        raise LockedError(f"the keys of {url} have changed, and the slot that opened it is gone")
    return _opened(made, slot, before.own, master, url)


def _opened(made: Format, slot: Slot, own: bytes, master: bytes, url: str) -> Unlocked:
    try:
        keyring = Keyring.unseal(master, _section(made).keyring, made.context)
    except ValueError as error:
        raise CorruptError(f"{FORMAT_KEY} of {url} is damaged or forged: {error}", FORMAT_KEY) from error
    return Unlocked(keyring, slot.id, own, master)


def with_slot(made: Format, keys: Unlocked, name: str, secret: Secret, cost: Cost = DEFAULT_COST) -> Format:
    """One more way in. UsageError when the name is taken, or none, or there is no room."""
    section = _section(made)
    if not REF_NAME.fullmatch(name):
        raise UsageError(f"not a name: {name[:80]!r} (letters, digits, `.`, `_`, `-`; 64 at most)")
    if any(slot.name == name for slot in section.slots):
        raise UsageError(f"there is a key slot {name!r} already")
    slot, _ = make_slot(name, secret, keys.master, made.id, cost)
    return _changed(made, (*section.slots, slot), keys.keyring, keys.master)


def without_slot(made: Format, keys: Unlocked, which: str) -> Format:
    """One way in less. UsageError when it is the last one, or none."""
    section = _section(made)
    slot = find_slot(made, which)
    if len(section.slots) == 1:
        raise UsageError(f"{slot.name} is the last key slot: without it nobody could read the store")
    return _changed(made, tuple(s for s in section.slots if s.id != slot.id), keys.keyring, keys.master)


def rotated(made: Format, kept: Sequence[Unlocked]) -> Format:
    """A new master key and a new epoch, for the slots in ``kept`` alone: the first one's keyring is carried on."""
    keyring, master = kept[0].keyring.rotated(), secrets.token_bytes(KEY_LENGTH)
    own = {keys.slot: keys.own for keys in kept}
    slots = tuple(rewrapped(s, own[s.id], master, made.id) for s in _section(made).slots if s.id in own)
    return _changed(made, slots, keyring, master)


def find_slot(made: Format, which: str) -> Slot:
    """The slot of that name or id. UsageError when there is none."""
    for slot in _section(made).slots:
        if which in (slot.name, slot.id):
            return slot
    names = ", ".join(slot.name for slot in _section(made).slots)
    raise UsageError(f"no key slot {which[:80]!r} (there are: {names})")


def _section(made: Format) -> Encryption:
    if made.encryption is None:
        raise UsageError("the store is not encrypted, so it has no keys")
    return made.encryption


def _changed(made: Format, slots: tuple[Slot, ...], keyring: Keyring, master: bytes) -> Format:
    return _sealed(made, slots, _section(made).revision + 1, keyring, master)


def _sealed(made: Format, slots: tuple[Slot, ...], revision: int, keyring: Keyring, master: bytes) -> Format:
    if len(slots) > limits.KEY_SLOTS_MAX:
        raise UsageError(f"a store has {limits.KEY_SLOTS_MAX} key slots at most; `modelfs key rm` frees one")
    section = Encryption("aes-256-gcm", revision, slots, "")
    try:
        section.check()
    except ValueError as error:
        raise UsageError(f"another key slot: {error}") from error
    draft = replace(made, encryption=section)
    return replace(made, encryption=msgspec.structs.replace(section, keyring=keyring.seal(master, draft.context)))


# -- the one object that changes --------------------------------------------------------------------------------------

_LOST: Final = "was changed by somebody else at the same moment: look at `modelfs key ls` and try again"


class _Holder(msgspec.Struct, frozen=True):
    """Content of the lock. ``since``: Unix seconds."""

    host: str
    pid: int
    since: float


def replace_format(store: Store, before: Format, after: Format, *, break_lock: bool = False) -> None:
    """Put ``after`` in the place of ``before``, or raise UsageError and leave what is there.

    Two changes must not cross: the later one would
    drop a new epoch's key, and with it what was sealed since. So the change holds a lock, which is an object that is
    created exclusively; who dies with it leaves it, and the next one is told by whom. ``break_lock`` removes it.
    """
    data = format_bytes(after)
    if parse_format(store, data) != after:
        raise UsageError(f"{FORMAT_KEY} has no room for this change")
    if break_lock:
        store.delete(KEYS_LOCK)
    holder = _Holder(socket.gethostname(), os.getpid(), time.time())
    try:
        store.put_if_absent(KEYS_LOCK, msgspec.json.encode(holder))
    except AlreadyExistsError as error:
        raise UsageError(_locked_by(store)) from error
    try:
        if read_format(store) != before:
            raise UsageError(f"{FORMAT_KEY} of {store.url} {_LOST}")
        store.put(FORMAT_KEY, data)
        if read_format(store) != after:
            raise UsageError(f"{FORMAT_KEY} of {store.url} {_LOST}")
    finally:
        store.delete(KEYS_LOCK)


def _locked_by(store: Store) -> str:
    try:
        held = msgspec.json.decode(store.get(KEYS_LOCK), type=_Holder)
    except (NotFoundError, CorruptError, ValueError, RecursionError):
        who = "somebody"
    else:
        who = f"process {held.pid} of {held.host} (since {max(0.0, time.time() - held.since):.0f} s)"
    return f"the keys of {store.url} are being changed by {who}; if that process is gone, --break-lock"
