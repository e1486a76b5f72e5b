"""May this machine write to the store? Asked before a writing mount or command begins.

A store whose exclusive creation was probed once from this machine is not probed again: a marker beside the journal
says so. With ``single_writer`` nothing is probed and a lease is taken instead.
"""

from __future__ import annotations

import logging

from modelfs.config import journal_directory
from modelfs.errors import UsageError
from modelfs.private import private_directory
from modelfs.store.base import Store
from modelfs.store.lease import Lease
from modelfs.store.probe import probe_exclusive_put

log = logging.getLogger(__name__)


def admit_writer(store: Store, store_id: str, *, single_writer: bool) -> Lease | None:
    """Return when the store may be written; the lease, which the caller releases, if there is one.

    UsageError (UnsafeStoreError among them) says why not.
    """
    if not store.properties.writable:
        raise UsageError(f"{store.url} cannot be written; mount it with --read-only")
    if single_writer:
        log.warning("%s: written under a lease; a second writer without one would damage history", store.url)
        lease = Lease(store)
        lease.acquire()
        return lease
    marker = journal_directory(store_id) / "probed"
    if not marker.exists():
        probe_exclusive_put(store)
        private_directory(marker.parent)
        marker.write_text(store.url + "\n")
    return None
