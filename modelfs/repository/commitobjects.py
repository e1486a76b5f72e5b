"""Commits as they are stored: packed, signed if this process signs, verified when they arrive.

A record keeps the signature that it came with, so that a commit that has to be written again (`Commits.hold`) is the
same object. Whom to trust is asked here and decided by `Commits` and fsck.
"""

from __future__ import annotations

from modelfs.crypto.signing import PublicKey, Signature
from modelfs.ids import CommitId, Ids
from modelfs.repository.access import Access
from modelfs.repository.envelope import unwrap, wrap
from modelfs.repository.objects import Commit, CommitRecord
from modelfs.repository.packing import pack_commit, pack_signed, split_signed, unpack_commit
from modelfs.store.base import Buffer


class CommitObjects:
    """The commits of one store."""

    def __init__(self, ids: Ids, store_id: str, access: Access) -> None:
        self._ids = ids
        self._store_id = store_id
        self._access = access

    def make(self, branch: str, commit: Commit) -> CommitRecord:
        """A new commit, signed when this process has a key."""
        plain = pack_commit(commit)
        signer = self._access.signer
        return self._record(
            branch, commit, plain, signer.sign(self._message(branch, plain)) if signer is not None else None
        )

    def stored(self, record: CommitRecord) -> bytes:
        """The object of a commit, the same each time."""
        plain = record.plain
        if not record.signed_by:
            return wrap(plain, checksum=True)
        signature = Signature(PublicKey(record.signed_by), record.signature)
        return wrap(pack_signed(plain, signature), checksum=True)

    def parse(self, branch: str, number: int, stored: Buffer) -> CommitRecord:
        """A commit; its signature, if it has one, fits. ValueError."""
        plain, signature = split_signed(unwrap(stored))
        commit = unpack_commit(plain)
        if commit.number != number:
            raise ValueError(f"it says that it is number {commit.number}")
        if signature is not None and not signature.fits(self._message(branch, plain)):
            raise ValueError("its signature does not fit")
        return self._record(branch, commit, plain, signature)

    def trusts(self, record: CommitRecord) -> bool:
        """True when a commit is signed by one of the trusted keys, or there are none."""
        trusted = self._access.trusted
        return not trusted or any(key.raw == record.signed_by for key in trusted)

    def _record(self, branch: str, commit: Commit, plain: bytes, signature: Signature | None) -> CommitRecord:
        by, value = (signature.by.raw, signature.value) if signature is not None else (b"", b"")
        return CommitRecord(branch, commit.number, CommitId(self._ids.digest(plain)), commit, plain, by, value)

    def _message(self, branch: str, plain: bytes) -> bytes:
        """What is signed: a commit belongs to one branch of one store."""
        return f"modelfs commit\n{self._store_id}\n{branch}\n".encode() + plain
