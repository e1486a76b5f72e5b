"""Every error that modelfs raises on purpose, as one tree.

    ModelfsError
    ├── UsageError            a bad argument or configuration        CLI exit 2
    │   ├── NotAStoreError    nothing there, or not a modelfs store
    │   ├── FormatVersionError   written by a newer modelfs
    │   ├── UnknownRefError   no such branch, commit or tag
    │   │   └── CollectedError   a commit that the retention dropped, or a branch that was deleted
    │   ├── UnreachableError  the store does not answer, or refuses the credentials, at the first contact
    │   ├── LockedError       the store is encrypted and no passphrase or key opens it
    │   ├── UntrustedError    history that is not signed as asked, or older than what was seen before
    │   │   └── UnvouchedError   history that what was collected may have vouched for
    │   ├── UnsafeStoreError  the store cannot create exclusively, so it may not be written
    │   └── ExtraMissingError an optional dependency is not installed
    ├── StoreError            what the object store said
    │   ├── NotFoundError     no such object
    │   ├── AlreadyExistsError   exclusive creation lost
    │   ├── PermissionDeniedError   credentials refused
    │   │   └── LinkRefusedError   a chunk is a link to where this process was not allowed to read
    │   ├── LinkError         a chunk is a link, and its source fails or does not answer
    │   ├── TransientError    worth a retry: timeouts, throttling, resets
    │   │   └── AwayError     known to fail at this moment: the store does not answer anybody
    │   ├── PermanentError    not worth a retry
    │   └── ReadOnlyError     the backend or the mount takes no writes
    ├── CorruptError          bytes that do not match their id or their format
    │   └── BrokenLinkError   a chunk is a link, and its original is gone or is not what it was
    ├── CacheError            the local cache failed; reads go on without it
    └── ConflictError         the history moved on and could not be rebased

Adapters in ``modelfs/store`` translate foreign exceptions into these at the boundary and chain the cause.
Only ``modelfs/assembly/errnos.py`` turns them into an errno, only ``modelfs/cli`` into an exit code.
A message is one line that says what and where; it never holds a credential.
"""

from __future__ import annotations


class ModelfsError(Exception):
    """Base of all errors raised on purpose."""


class UsageError(ModelfsError):
    """The caller asked for something that cannot be: shown as one line, exit code 2."""


class NotAStoreError(UsageError):
    """There is no modelfs store at the URL."""


class FormatVersionError(UsageError):
    """The store was written in a format version this program does not know."""


class UnknownRefError(UsageError):
    """No branch, commit or tag has that name."""


class CollectedError(UnknownRefError):
    """The commit was dropped from the history by a collection, or its branch was deleted."""


class UnreachableError(UsageError):
    """The store did not answer the first question, or refused the credentials."""


class LockedError(UsageError):
    """The store is encrypted, and what was given does not open it."""


class UntrustedError(UsageError):
    """History that no trusted key has signed, or less of it than this machine has seen."""


class UnvouchedError(UntrustedError):
    """An unsigned commit below a gap that a collection left: what may have vouched for it is gone."""


class UnsafeStoreError(UsageError):
    """Exclusive creation does not hold in the store: two writers would overwrite each other's history."""


class ExtraMissingError(UsageError):
    """An optional dependency is missing; the message names the pip extra that brings it."""


class StoreError(ModelfsError):
    """The object store failed. ``key`` is the object it was about ("" when none)."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class NotFoundError(StoreError):
    """The object does not exist."""


class AlreadyExistsError(StoreError):
    """put_if_absent found the object there already."""


class PermissionDeniedError(StoreError):
    """The store refused the credentials or the access."""


class LinkRefusedError(PermissionDeniedError):
    """A chunk is a link, and nobody said that its source may be read here."""


class LinkError(StoreError):
    """A chunk is a link, and its source cannot be read at this moment. ``original``: where it leads, for people."""

    def __init__(self, message: str, key: str = "", original: str = "") -> None:
        super().__init__(message, key)
        self.original = original


class TransientError(StoreError):
    """A failure that may pass: retried with backoff, then surfaced."""


class AwayError(TransientError):
    """The store has not answered for so long that nothing is sent to it until it does."""


class PermanentError(StoreError):
    """A failure that a retry does not help."""


class ReadOnlyError(StoreError):
    """The store (or this way of opening it) takes no writes."""


class CorruptError(ModelfsError):
    """Bytes do not match their id, their checksum or their format. ``key`` names the object or cache file."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class BrokenLinkError(CorruptError):
    """A chunk is a link, and its original is gone, or does not have the bytes any more. ``original``: where it
    led, for people."""

    def __init__(self, message: str, key: str = "", original: str = "") -> None:
        super().__init__(message, key)
        self.original = original


class ConflictError(ModelfsError):
    """The branch moved on more often than the bounded number of rebases allows."""


class CacheError(ModelfsError):
    """The local cache or its index cannot be used right now; readers bypass it, commands about it fail."""
