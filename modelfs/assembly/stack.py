"""Builds one mount from the bottom up: store, repository, cache, staging, reader, writer, vfs.

`open_stack` does everything that can fail because of a wrong argument, before the kernel hears of the mount, so
that each mistake is one line and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from modelfs.cache.cache import Cache
from modelfs.chunking.params import ChunkParams
from modelfs.codecs import Compression
from modelfs.config import MountOptions, cache_directory, journal_directory, seen_directory
from modelfs.errors import ModelfsError, UnknownRefError
from modelfs.journal.admission import admit_writer
from modelfs.journal.session import Session
from modelfs.repository.access import Access
from modelfs.repository.keyfiles import public_keys, read_signing_key
from modelfs.repository.objects import CommitRecord
from modelfs.repository.repository import Repository
from modelfs.store.lease import Lease
from modelfs.store.open import open_store
from modelfs.store.retry import RetryStore

log = logging.getLogger(__name__)


class Opener(Protocol):
    """How the store of a mount is opened: `open_store`."""

    def __call__(self, url: str, *, timeout: float) -> RetryStore: ...


@dataclass(slots=True)
class Stack:
    """The blocking parts of one mount."""

    store: RetryStore
    repo: Repository
    head: CommitRecord
    cache: Cache
    session: Session | None  # None on a read-only mount
    lease: Lease | None
    params: ChunkParams
    disk: Path  # whose free space statfs reports
    drained: bool = True  # False: the journal still holds something

    def close(self) -> None:
        """Let go of files, locks and connections."""
        if self.lease is not None:
            try:
                self.lease.release()
            except ModelfsError as error:
                log.warning("the single-writer lease could not be given up, it ends by itself: %s", error)
        if self.session is not None:
            self.session.close(discard_log=self.drained)
        self.cache.close()
        self.repo.close()
        self.store.close()


def open_stack(options: MountOptions, opener: Opener = open_store) -> Stack:
    """Open everything that ``options`` names, the store through ``opener``. UsageError says what the user can mend;
    then nothing is left open."""
    with contextlib.ExitStack() as opened:
        store = opener(options.store_url, timeout=options.store_timeout)
        opened.callback(store.close)
        access = _access(options)
        read_only = options.read_only or options.at is not None
        access.check(writes=not read_only)
        repo = Repository.open(store, access)
        opened.callback(repo.close)
        if options.compression is not None:
            repo.compression = Compression(options.compression)
        store_id = repo.format.id
        head = repo.resolve(options.at, options.branch) if options.at is not None else repo.head(options.branch)
        if head is None:
            known = ", ".join(sorted(repo.branches())) or "none"
            raise UnknownRefError(f"{store.url} has no branch {options.branch!r} (branches: {known})")
        lease = None if read_only else admit_writer(repo.store, store_id, single_writer=options.single_writer)
        if lease is not None:
            opened.callback(lease.release)
        if not read_only:
            repo.begin_writing()
        cache = Cache(options.cache_dir or cache_directory(store_id), store_id, options.cache_size, repo.ids)
        opened.callback(cache.close)
        session = None if read_only else _session(options, store_id)
        opened.pop_all()
    disk = store.local_root or journal_directory(store_id)
    return Stack(store, repo, head, cache, session, lease, repo.format.chunking, disk)


def _access(options: MountOptions) -> Access:
    return Access(
        secret=options.secret,
        signer=read_signing_key(options.sign_with) if options.sign_with is not None else None,
        trusted=frozenset(key for word in options.verify_with for key in public_keys(word)),
        seen=seen_directory,
        sources=options.allow_source,
        timeout=options.store_timeout,
    )


def _session(options: MountOptions, store_id: str) -> Session:
    """A journal that tells `modelfs journal retry` the store's URL, unless there is a password in it."""
    url = options.store_url if urlsplit(options.store_url).password is None else ""
    root = journal_directory(store_id)
    return Session.begin(root, options.branch, store=url, mountpoint=str(options.mountpoint))
