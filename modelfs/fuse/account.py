"""What a running mount can tell of itself, and the requests of its control socket.

One dict of facts serves `modelfs status` and `top`, the file ``.modelfs/status.json`` and the metrics. It is made when
somebody asks: counters are plain integers, read on the event loop, and what has to be asked of the cache's index is
asked in a worker thread.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import Any

import trio

from modelfs import config
from modelfs.assembly.stack import Stack
from modelfs.config import MountOptions
from modelfs.errors import CacheError, ModelfsError, UsageError
from modelfs.fuse.claim import Claim
from modelfs.fuse.requests import Requests
from modelfs.fuse.session import Session
from modelfs.ids import ManifestId
from modelfs.reader.residency import inline, residency
from modelfs.repository.objects import Kind
from modelfs.vfs.nodes import FileNode

Facts = dict[str, Any]


class Account:
    """Of one mount. ``tuned``: the kernel's limits were raised; ``why``: it has the session that it has."""

    def __init__(
        self,
        options: MountOptions,
        stack: Stack,
        claim: Claim,
        requests: Requests,
        session: Session,
        why: str,
        since: float,
    ) -> None:
        self.stack = stack
        self.tuned = False
        self._options = options
        self._claim = claim
        self._vfs = requests.vfs
        self._requests = requests
        self._session = session
        self._why = why
        self._since = since

    async def answer(self, request: Facts) -> Facts:
        """Serve one control request. ModelfsError, OSError."""
        op = str(request["op"])
        if op == "residency":
            return await self._residency(os.fsencode(str(request["path"])))
        if op == "drain":
            await self._vfs.durability.drain()
        elif op == "detached":
            self._claim.release()
        elif op != "status":
            raise ModelfsError(f"unknown request {op!r}")
        return await self.facts()

    async def facts(self) -> Facts:
        """The state of the mount; sizes in bytes, times in seconds. Every key is there in every answer, and
        docs/operations.md says what they are."""
        return {**self._identity(), **self._work(), **self._reading(), **self._store(), "cache": await self._cache()}

    def line(self) -> str:
        """The state of the mount in a line for a service manager."""
        files, size = self._vfs.durability.pending()
        committer = self._vfs.committer
        head = f"{self._options.branch}@{committer.head.number} of {self.stack.store.url}"
        error = committer.last_error or committer.follow_error
        pending = f", {files} files ({size} bytes) pending" if files else ""
        return f"{head}{pending}" + (f"; last error: {error}" if error else "")

    def _identity(self) -> Facts:
        options = self._options
        return {
            "mountpoint": str(options.mountpoint),
            "state": "mounted",
            "store": self.stack.store.url,
            "store_id": self.stack.repo.format.id,
            "branch": options.branch,
            "at": options.at,
            "read_only": self._vfs.options.read_only,
            "pid": os.getpid(),
            "since": self._since,
            "uptime": time.time() - self._since,
            "kernel_limits_raised": self.tuned,
            "session": self._session.name,
            "session_reason": self._why,
            "passthrough": self._session.passthrough,
            "cache_directory": str(options.cache_dir or config.cache_directory(self.stack.repo.format.id)),
        }

    def _work(self) -> Facts:
        """What is on its way to the store, and what went wrong."""
        durability, committer = self._vfs.durability, self._vfs.committer
        files, size = durability.pending()
        return {
            "pending": not durability.settled(),
            "pending_files": files,
            "pending_bytes": size,
            "pending_oldest": durability.oldest(),
            "being_written": durability.being_written(),
            "uploading": self._vfs.uploader.active(),
            "open_files": len(self._vfs.open_files),
            "errors": self._requests.errors,
            "last_error": committer.last_error or committer.follow_error,
        }

    def _reading(self) -> Facts:
        source = self._vfs.source.statistics()
        return {
            "reads": self._requests.reads,
            "read_bytes": self._requests.read_bytes,
            "writes": self._requests.writes,
            "written_bytes": self._requests.written_bytes,
            "passed_opens": self._session.passed_opens,
            "fetching": source.in_flight,
            "fetched_chunks": source.fetches,
            "fetched_bytes": source.fetched_bytes,
            **asdict(source.lookups),
            "hit_ratio": source.lookups.ratio,
        }

    def _store(self) -> Facts:
        """How fresh the view is, and what was asked of the store."""
        committer, statistics = self._vfs.committer, self.stack.store.statistics()
        return {
            "commit": committer.head.number,
            "commit_id": committer.head.id.hex(),
            "commit_time": committer.head.commit.time_ns / 1e9,
            "asked": None if self._vfs.options.history else time.monotonic() - committer.asked_at,
            "away": self.stack.store.away_for(),
            "store_received_bytes": statistics.bytes_in,
            "store_sent_bytes": statistics.bytes_out,
            "store_retries": statistics.retries,
            "store_requests": {name: asdict(asked) for name, asked in self.stack.store.asked().items()},
        }

    async def _cache(self) -> Facts | None:
        """None while the cache cannot be used."""
        try:
            found = await trio.to_thread.run_sync(self.stack.cache.statistics, limiter=self._vfs.source.local)
        except CacheError:
            return None
        return {**asdict(found), "lookups": {**asdict(found.lookups), "ratio": found.lookups.ratio}}

    async def _residency(self, path: bytes) -> Facts:
        """Which parts of the finished version of a file are here."""
        node = await self._vfs.find(path)
        if not isinstance(node, FileNode):
            raise UsageError("not a regular file")
        if node.kind is not Kind.FILE:
            return asdict(inline(node.size))
        repo, cache, content = self.stack.repo, self.stack.cache, ManifestId(node.content)

        def look() -> Facts:
            return asdict(residency(repo, cache, repo.read_manifest(content)))

        return await trio.to_thread.run_sync(look, limiter=self._vfs.source.threads)
