"""A file system without a kernel, on a thread of its own: one for each store and options in a process.

`engine_of` starts one when it is first asked for, or finds it. Programs call `Engine.run` from any thread; the wait can
be interrupted (Ctrl-C), which cancels what it waits for. When the interpreter ends, files that are open are closed, and
what is pending goes into the store within the drain timeout, as when a mount ends.

**Fork.** A child has no threads, so an engine is never used in one: there `engine_of` starts another. What the child
inherited is left alone for good; only the locks of journals are let go of, so that the parent's end is seen. A store
that `obstore` reaches cannot be used in a child whose parent has used one (its threads are gone): that is an error.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  # its hook at the interpreter's end must run after ours, see `_at_exit`
import contextlib
import contextvars
import ctypes
import itertools
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Final, Protocol, TypeVar

import trio

from modelfs import limits
from modelfs.assembly.drain import Drain
from modelfs.assembly.stack import Stack, open_stack
from modelfs.assembly.upkeep import keep_lease, recover, settle
from modelfs.concurrency import first_cause
from modelfs.errors import ModelfsError, UsageError
from modelfs.filesystem.places import Place
from modelfs.filesystem.tree import Tree
from modelfs.reader.source import ChunkSource
from modelfs.vfs.vfs import Vfs, VfsOptions
from modelfs.writer.uploader import Uploader

log = logging.getLogger(__name__)

T = TypeVar("T")

_inside: Final = contextvars.ContextVar("modelfs engine", default=False)
_numbers: Final = itertools.count(1)


class Closable(Protocol):
    """An open file."""

    def close(self) -> None: ...


class Engine:
    """One running file system. Make it with `engine_of`."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.pid = os.getpid()
        self.writers: weakref.WeakSet[Closable] = weakref.WeakSet()  # open files that are written
        self.stack: Stack | None = None
        self._up: Future[tuple[trio.lowlevel.TrioToken, trio.Nursery, Tree]] = Future()
        self._ending = trio.Event()
        self._thread = threading.Thread(target=self._serve, name=f"modelfs {next(_numbers)}", daemon=True)
        self._thread.start()
        try:
            self._token, self._nursery, self._tree = self._up.result()
        except KeyboardInterrupt:
            self._up.add_done_callback(self._unwanted)
            raise

    # -- from other threads -------------------------------------------------------------------------------------

    def run(self, call: Callable[[Tree], Awaitable[T]]) -> T:
        """The result of ``call``, made on the engine's thread. Raises what that raises; OSError when it is closed."""
        if _inside.get():
            raise RuntimeError("a file system must not wait for itself")
        done: Future[T] = Future()
        scope = trio.CancelScope()
        try:
            self._token.run_sync_soon(self._begin, call, scope, done)
        except trio.RunFinishedError:
            raise OSError("the file system is closed") from None
        try:
            while True:
                try:
                    return done.result(limits.FILESYSTEM_WATCH)
                except TimeoutError:
                    if done.done():
                        raise  # it is the call's own
                    if not self._thread.is_alive():
                        raise OSError("the file system is closed") from None
        except BaseException:
            if not done.done():
                with contextlib.suppress(trio.RunFinishedError):
                    self._token.run_sync_soon(scope.cancel)
            raise

    def close(self) -> bool:
        """Close files, bring what is pending into the store, and end. False when not all of it is there, in time: the
        rest is in the journal, and the log says so."""
        for file in list(self.writers):
            try:
                file.close()
            except Exception:
                log.exception("a file that was still open could not be closed")
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._ending.set)
        options = self.place.settings
        self._thread.join(options.drain_timeout + limits.DRAIN_LAST + limits.EXIT_GRACE)
        if self._thread.is_alive():
            log.error("%s: requests to the store hang, and are left", self.place)
            return False
        return self.stack is None or self.stack.drained

    @property
    def alive(self) -> bool:
        """True while it takes calls, in this process."""
        return self.pid == os.getpid() and self._thread.is_alive() and not self._ending.is_set()

    # -- its own thread -----------------------------------------------------------------------------------------

    def _begin(self, call: Callable[[Tree], Awaitable[T]], scope: trio.CancelScope, done: Future[T]) -> None:
        try:
            self._nursery.start_soon(self._one, call, scope, done)
        except RuntimeError:  # it has ended
            done.set_exception(OSError("the file system is closed"))

    async def _one(self, call: Callable[[Tree], Awaitable[T]], scope: trio.CancelScope, done: Future[T]) -> None:
        try:
            with scope:
                result = await call(self._tree)
                done.set_result(result)
        except trio.Cancelled:
            raise
        except BaseExceptionGroup as group:
            done.set_exception(first_cause(group))
        except Exception as error:  # noqa: BLE001  # handed over to the caller's thread
            done.set_exception(error)
        finally:
            if not done.done():
                done.set_exception(OSError("the file system is closed"))

    def _serve(self) -> None:
        _inside.set(True)  # for all tasks, and for the worker threads that they use
        stack: Stack | None = None
        try:
            stack = open_stack(self.place.options())
            self.stack = stack
            trio.run(self._main, stack)
        except BaseException as failure:  # handed over to the thread that waits
            error = first_cause(failure) if isinstance(failure, BaseExceptionGroup) else failure
            if not self._up.done():
                self._up.set_exception(error)
            else:
                log.critical("%s: the file system failed", self.place, exc_info=failure)
        finally:
            if stack is not None:
                stack.close()

    def _unwanted(self, up: Future[tuple[trio.lowlevel.TrioToken, trio.Nursery, Tree]]) -> None:
        """Who started it was interrupted: on the engine's thread, once it is up."""
        if up.exception() is None:
            self._ending.set()

    async def _main(self, stack: Stack) -> None:
        settings = self.place.settings
        source = ChunkSource(stack.repo, stack.cache)
        uploader = Uploader(stack.repo, stack.params)
        session = stack.session
        stack.drained = session is None
        if session is not None:
            try:
                await recover(settings.branch, stack, source, uploader)
            finally:
                stack.drained = True  # nothing is in our own journal yet
        options = VfsOptions(
            settings.branch, session is None, settings.refresh, settings.write_back, settings.at is not None
        )
        async with trio.open_nursery() as nursery:
            vfs = Vfs(
                source,
                uploader,
                stack.head,
                options,
                session.stage if session is not None else stack.disk,
                session.log() if session is not None else None,
                nursery,
            )
            for task in (vfs.run, lambda: settle(stack), lambda: keep_lease(stack)):
                nursery.start_soon(task)
            stack.drained = False
            self._up.set_result((trio.lowlevel.current_trio_token(), nursery, Tree(vfs)))
            await self._ending.wait()
            await Drain(vfs, settings.drain_timeout, nursery).run()
            stack.drained = vfs.durability.settled()
            nursery.cancel_scope.cancel()
        if vfs.journal is not None:
            vfs.journal.close()


# -- all of this process ----------------------------------------------------------------------------------------------

_engines: dict[Place, Engine] = {}
_starting: dict[Place, threading.Lock] = {}
_lock = threading.Lock()
_forking = threading.local()  # what this thread has quieted for a fork
_parent_used_obstore = False


def engine_of(place: Place) -> Engine:
    """The engine of a place in this process, started if there is none. UsageError, ModelfsError: why it does not start;
    nothing is left then."""
    engine = _engines.get(place)
    if engine is not None and engine.alive:
        return engine
    with _lock:
        starting = _starting.setdefault(place, threading.Lock())
    with starting:
        engine = _engines.get(place)
        if engine is None or not engine.alive:
            if _parent_used_obstore and _remote(place):
                raise UsageError(
                    f"{place}: this process was forked by one that used a remote store, whose threads are gone here "
                    f"(start workers with spawn or forkserver)"
                )
            engine = _engines[place] = Engine(place)
    return engine


def found(place: Place) -> Engine | None:
    """The engine of a place, if it runs in this process."""
    engine = _engines.get(place)
    return engine if engine is not None and engine.alive else None


def inside() -> bool:
    """True on a thread of an engine, which must not wait for one."""
    return _inside.get()


def _remote(place: Place) -> bool:
    return "://" in place.store and not place.store.startswith(("file:", "memory:"))


def _close_all() -> None:
    while _engines:
        _, engine = _engines.popitem()
        try:
            engine.close()
        except ModelfsError:
            log.exception("%s: not closed in order", engine.place)


def _at_exit() -> None:
    # The hooks of atexit run when no thread can be started any more and thread pools are shut (3.12: for all threads);
    # a commit needs both. This list runs before, the last one registered first, and `concurrent.futures` is in it too.
    register: Any = threading._register_atexit  # type: ignore[attr-defined]
    register(_close_all)


def _before_fork() -> None:
    _forking.indexes = [engine.stack.cache.index for engine in list(_engines.values()) if engine.stack is not None]
    for index in _forking.indexes:
        index.before_fork(limits.FORK_PATIENCE)


def _after_fork_in_parent() -> None:
    for index in _forking.indexes:
        index.after_fork()


def _after_fork_in_child() -> None:
    global _lock, _parent_used_obstore
    _lock = threading.Lock()
    _inside.set(False)
    for engine in _engines.values():
        _parent_used_obstore = _parent_used_obstore or _remote(engine.place)
        # Nothing of it is ever torn down here: a destructor would close or delete what is the parent's.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
        if engine.stack is not None and engine.stack.session is not None:
            engine.stack.session.abandon()
    _engines.clear()
    _starting.clear()


_at_exit()
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
