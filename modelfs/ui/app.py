"""Addresses and the pages at them. Read-only; nothing here asks a mount, and what asks a store or a cache does so in
threads of a stated number and gives up after `limits.UI_TIMEOUT`."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from modelfs import limits
from modelfs.cache.cache import CachedFile, CacheStatistics
from modelfs.errors import (
    CacheError,
    CorruptError,
    LockedError,
    ModelfsError,
    NotFoundError,
    TransientError,
    UnknownRefError,
    UnreachableError,
    UntrustedError,
    UsageError,
)
from modelfs.ids import ManifestId
from modelfs.repository.changes import Change
from modelfs.repository.objects import CommitRecord, Entry, Kind
from modelfs.repository.repository import MAIN, Repository
from modelfs.ui import browse, caches, render
from modelfs.ui.draw import chart, segments, strip
from modelfs.ui.history import History, Names, Page
from modelfs.ui.savings import Savings, changed_paths
from modelfs.ui.stores import OpenStore, Stores
from modelfs.ui.watch import Watch, Watched

log = logging.getLogger(__name__)

_Looked = tuple[CommitRecord, CommitRecord | None, list[Change], bool, str]

# What an error means to who asked: (kind, status, title). The first that fits.
_ERRORS: Final = (
    (LockedError, 403, "The store is encrypted"),
    (UntrustedError, 403, "This history is not trusted"),
    (UnreachableError, 503, "The store is away"),
    (TransientError, 503, "The store is away"),
    (UnknownRefError, 404, "There is no such thing"),
    (NotFoundError, 404, "It is not in the store"),
    (CorruptError, 500, "The store is damaged"),
    (CacheError, 503, "The cache cannot be used"),
    (UsageError, 400, "That cannot be shown"),
    (trio.TooSlowError, 503, "That takes too long"),
)
_MOUNT_SERIES: Final = (("read_bytes", "read"), ("written_bytes", "written"))
_STORE_SERIES: Final = (("store_received_bytes", "fetched"), ("store_sent_bytes", "sent"))


class Site:
    """All pages. ``target``: what the command was given, for the heading."""

    def __init__(self, watch: Watch, stores: Stores, target: str) -> None:
        self._watch = watch
        self._stores = stores
        self._target = target
        self._cache_threads = trio.CapacityLimiter(limits.UI_CACHE_THREADS)
        self._listed: dict[tuple[Path, int], tuple[float, tuple[CacheStatistics, list[CachedFile], int]]] = {}

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/", self._page(self.overview)),
            Route("/mount", self._page(self.mount)),
            Route("/status.json", self.status),
            Route("/store/{store}", self._page(self.history)),
            Route("/store/{store}/commit", self._page(self.commit)),
            Route("/store/{store}/files", self._page(self.files)),
            Route("/store/{store}/cache", self._page(self.cache)),
            Route("/store/{store}/cached", self._page(self.cached)),
            *(Route(f"/{name}", partial(_asset, name)) for name in render.ASSETS),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: self._no_page})

    async def settle(self) -> None:
        """Wait a moment for looks at caches that are under way: they are to be closed, not torn off."""
        with trio.move_on_after(limits.UI_END) as scope:
            scope.shield = True
            await trio.to_thread.run_sync(caches.finish, limits.UI_END / 2, abandon_on_cancel=True)

    # -- pages ------------------------------------------------------------------------------------------------------

    async def overview(self, request: Request) -> Response:
        """Mounts and stores."""
        mounts = [self._described(watched) for watched in self._mounts()]
        return self._html("overview.html", mounts=mounts)

    async def mount(self, request: Request) -> Response:
        """One mount closely."""
        at = Path(_query(request).get("at", ""))
        if at not in self._watch.mounts:
            raise UnknownRefError(f"modelfs has nothing mounted at {render.shown(str(at))}, as far as this page knows")
        return self._html("mount.html", m=self._described(self._watch.mounts[at]))

    async def status(self, request: Request) -> Response:
        """What the mounts said last, for programs: as `modelfs status --json`, and how old it is."""
        found = [
            {**(w.facts or {"mountpoint": str(w.mountpoint)}), "state": w.state, "age": time.time() - w.at}
            for w in self._mounts()
        ]
        return JSONResponse(found)

    async def history(self, request: Request) -> Response:
        """Commits of a branch with what they brought."""
        store, query = self._store(request), _query(request)
        branch = query.get("branch", MAIN)

        def look(repo: Repository, history: History) -> tuple[Page, Names]:
            return history.page(branch, _number(query, "from")), history.names()

        found, names = await store.ask(look)
        brought: dict[bytes, Savings] = {}
        why = ""
        with trio.move_on_after(limits.UI_SAVINGS_TIME):
            for record, before in found.rows:
                try:
                    brought[record.id] = await store.brought(record, before)
                except (ModelfsError, trio.TooSlowError) as error:
                    why = why or str(error) or "the store is slow"
        brought |= {r.id: known for r, _ in found.rows if (known := store.savings.get(r.id)) is not None}
        waiting = not why and len(brought) < len(found.rows)
        return self._html(
            "history.html", store=store, history=found, names=names, brought=brought, why=why, waiting=waiting
        )

    async def commit(self, request: Request) -> Response:
        """One commit: what it changed, and what it brought."""
        store, query = self._store(request), _query(request)

        def look(repo: Repository, history: History) -> _Looked:
            ends: list[str] = []
            record = repo.resolve(query.get("ref") or None)
            before = history.before(record, ends)
            return record, before, *changed_paths(repo, before, record), ends[0] if ends else ""

        record, before, changes, exact, ends = await store.ask(look)
        savings, why = None, ""
        with trio.move_on_after(limits.UI_SAVINGS_TIME):
            try:
                savings = await store.brought(record, before)
            except (ModelfsError, trio.TooSlowError) as error:
                why = str(error) or "the store is slow"
        return self._html(
            "commit.html", store=store, record=record, before=before, savings=savings, why=why, ends=ends,
            changes=changes[: limits.UI_CHANGES_SHOWN], count=len(changes), exact=exact, is_file=_is_file,
        )  # fmt: skip

    async def files(self, request: Request) -> Response:
        """A directory or a file of a commit."""
        store, query = self._store(request), _query(request)
        given = bytes.fromhex(_hex(query, "name")) or _bytes(query.get("path", ""))
        path = b"/".join(part for part in given.split(b"/") if part not in (b"", b".", b".."))

        def look(repo: Repository, history: History) -> tuple[CommitRecord, Entry, Any]:
            record = repo.resolve(query.get("ref") or None)
            entry = browse.find(repo, record, path)
            if entry.kind is Kind.DIRECTORY:
                return record, entry, browse.directory(repo, entry, _bytes(query.get("start", "")))
            return record, entry, browse.file(repo, entry, store.cache) if _is_file(entry) else None

        record, entry, found = await store.ask(look)
        facts: dict[str, Any] = {"store": store, "record": record, "path": path, "entry": entry, "is_file": _is_file}
        facts["parts"] = [(part, b"/".join(path.split(b"/")[: i + 1])) for i, part in enumerate(path.split(b"/"))]
        if entry.kind is Kind.DIRECTORY:
            return self._html("directory.html", found=found, start=query.get("start", ""), **facts)
        if found is None:
            return self._html("other.html", **facts)
        where = {"ref": f"{record.branch}@{record.number}", "name": path.hex()}
        return self._file(query, found, f"/store/{store.id}/files", where, **facts)

    async def cached(self, request: Request) -> Response:
        """A file of a cache, whichever commits have it."""
        store, query = self._store(request), _query(request)
        manifest = ManifestId(bytes.fromhex(_hex(query, "manifest")))
        if len(manifest) != 32:
            raise UsageError("manifest: not an id of 64 digits")
        found = await store.ask(lambda repo, _: browse.content(repo, manifest, store.cache))
        where = {"manifest": manifest.hex()}
        return self._file(query, found, f"/store/{store.id}/cached", where, store=store, record=None, entry=None)

    def _file(
        self, query: Mapping[str, str], found: browse.File, at: str, where: dict[str, str], **facts: Any
    ) -> Response:
        """``at`` and ``where``: the address of the page and the words of its query."""
        wanted, first = query.get("find", "").strip(), _number(query, "first") or 0
        here = found.residency
        tensors = [t for t in here.tensors if wanted in t.name] if wanted else here.tensors
        return self._html(
            "file.html", here=here, cached=found.cached, wanted=wanted, first=first, count=len(tensors),
            tensors=tensors[first : first + limits.UI_TENSORS], step=limits.UI_TENSORS, at=at, where=where,
            cells=strip(here.size, here.ranges), segments=segments(here.size, here.tensors), **facts,
        )  # fmt: skip

    async def cache(self, request: Request) -> Response:
        """What is in the cache of a store."""
        store, first = self._store(request), _number(_query(request), "first") or 0
        held, files, count = await self._look_at_cache(store.cache, first)
        why = ""
        try:
            strips = await store.ask(lambda repo, _: caches.pictures(repo, store.cache, files))
        except (ModelfsError, trio.TooSlowError) as error:
            why = str(error) or "the store does not answer"
            strips = [caches.unknown(file, "") for file in files]
        return self._html(
            "cache.html", store=store, held=held, strips=strips, count=count, first=first, step=limits.UI_FILES,
            directory=str(store.cache), why=why,
        )  # fmt: skip

    # -- what they share ----------------------------------------------------------------------------------------------

    async def _look_at_cache(self, directory: Path, first: int) -> tuple[CacheStatistics, list[CachedFile], int]:
        now, key = time.monotonic(), (directory, first)
        self._listed = {k: v for k, v in self._listed.items() if now - v[0] < limits.UI_CACHE_FRESH}
        if key not in self._listed:
            with trio.fail_after(limits.UI_TIMEOUT):
                found = await trio.to_thread.run_sync(
                    caches.listed, directory, first, limiter=self._cache_threads, abandon_on_cancel=True
                )
            self._listed[key] = (now, found)
        return self._listed[key][1]

    def _mounts(self) -> list[Watched]:
        mounts = sorted(self._watch.mounts.values(), key=lambda watched: str(watched.mountpoint))
        for watched in mounts:
            if (facts := watched.facts) is not None:
                self._stores.mounted(facts["store_id"], facts["store"], Path(facts["cache_directory"]))
        return mounts

    def _store(self, request: Request) -> OpenStore:
        self._mounts()
        return self._stores.get(request.path_params["store"])

    def _described(self, watched: Watched) -> dict[str, Any]:
        now = time.monotonic()
        rates = tuple(watched.throughput.rates)
        return {
            "mountpoint": str(watched.mountpoint),
            "state": watched.state,
            "healthy": watched.healthy,
            "facts": watched.facts,
            "at": watched.at,
            "charts": (
                ("Programs and the mount", chart(rates, now, _MOUNT_SERIES)),
                ("The mount and the store", chart(rates, now, _STORE_SERIES)),
            ),
        }

    def _html(self, template: str, status: int = 200, **facts: Any) -> Response:
        self._mounts()
        text = render.page(template, target=self._target, stores=self._stores.all(), **facts)
        return HTMLResponse(text.encode("utf-8", "backslashreplace"), status)

    def _page(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The handler; what it raises becomes a page that says what is wrong."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except (ModelfsError, trio.TooSlowError) as error:
                status, title = next(
                    ((status, title) for kind, status, title in _ERRORS if isinstance(error, kind)), (500, "It failed")
                )
                message = str(error) or f"No answer within {limits.UI_TIMEOUT:.0f} s. It may be there next time."
                return self._html("error.html", status, title=title, message=message)
            except Exception:
                log.exception("%s failed", request.url.path)
                message = "This is a defect of modelfs; what it was is in the output of `modelfs ui`."
                return self._html("error.html", 500, title="It failed", message=message)

        return answer

    async def _no_page(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return self._html("error.html", status, title="There is no such page", message="Begin at the overview.")


async def _asset(name: str, request: Request) -> Response:
    return Response(render.asset(name), media_type=render.ASSETS[name])


def _is_file(entry: Entry | None) -> bool:
    return entry is not None and entry.kind in (Kind.FILE, Kind.INLINE)


def _query(request: Request) -> Mapping[str, str]:
    """The last value of each name; bytes that are no UTF-8 as surrogates. UsageError."""
    raw = request.scope["query_string"].decode("latin-1")
    try:
        found = parse_qs(raw, keep_blank_values=True, errors="surrogateescape", max_num_fields=20)
    except ValueError as error:
        raise UsageError("too many words in that address") from error
    return {name: values[-1] for name, values in found.items()}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _hex(query: Mapping[str, str], name: str) -> str:
    """Digits of whole bytes, or nothing. UsageError."""
    text = query.get(name, "")
    if len(text) % 2 or set(text) - set("0123456789abcdef"):
        raise UsageError(f"{name}: not bytes in hexadecimal digits")
    return text


def _number(query: Mapping[str, str], name: str) -> int | None:
    """UsageError."""
    text = query.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise UsageError(f"{name}: not a number")
    return int(text)
