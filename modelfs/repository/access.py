"""What a process brings to a store besides its URL: what opens it, whom it trusts, how it signs, what it remembers.

The command line and the mount make an `Access`; `Repository.open` uses it. A plain store is refused when a key was
given: who holds the bucket could otherwise put a plain store in the place of an encrypted one and read all that is
written to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from modelfs import limits
from modelfs.config import Secret
from modelfs.crypto.signing import PublicKey, SigningKey
from modelfs.errors import LockedError, UsageError
from modelfs.process import forbid_core_dumps
from modelfs.repository.format import Format
from modelfs.repository.keyslots import Unlocked, unlock
from modelfs.repository.seen import SeenHeads


@dataclass(frozen=True, slots=True)
class Access:
    """``secret``: given beforehand; ``ask``: for a person, asked only when a store turns out to be encrypted.
    ``trusted``: when there are any, history must be signed by one of them. ``seen``: store id -> where this machine
    remembers what it saw; None: nowhere. ``sources``: paths and URLs below which links may be followed; ``timeout``:
    for one operation on what is there, in seconds."""

    secret: Secret | None = None
    ask: Callable[[str], Secret] | None = None
    signer: SigningKey | None = None
    trusted: frozenset[PublicKey] = field(default_factory=frozenset)
    seen: Callable[[str], Path] | None = None
    sources: tuple[str, ...] = ()
    timeout: float = limits.STORE_RETRY_BUDGET

    def check(self, *, writes: bool) -> None:
        """UsageError for who would refuse what he writes himself."""
        if writes and self.trusted and (self.signer is None or self.signer.public not in self.trusted):
            what = "--sign-with a key that is among them" if self.signer is not None else "--sign-with"
            raise UsageError(f"who writes to a store with --verify-with needs {what}")

    def memory(self, made: Format) -> SeenHeads:
        """What was seen of this store."""
        return SeenHeads(self.seen(made.id) if self.seen is not None else None)

    def unlock(self, made: Format, url: str) -> Unlocked | None:
        """The keys of the store, None when it has none. LockedError, CorruptError; UsageError (see above)."""
        if made.encryption is None:
            if self.secret is not None:
                raise UsageError(
                    f"{url} is not encrypted, but a passphrase or key for it was given: refused, "
                    "because a plain store may have been put in the place of an encrypted one"
                )
            return None
        forbid_core_dumps()
        secret = self.secret
        if secret is None and self.ask is not None:
            secret = self.ask(url)
        if secret is None:
            raise LockedError(
                f"{url} is encrypted: give --passphrase-file, --passphrase-command or --key-file, "
                "or set MODELFS_PASSPHRASE_FILE"
            )
        return unlock(made, secret, url)
