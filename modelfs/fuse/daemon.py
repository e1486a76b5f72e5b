"""The mount daemon: runs a mount in this process, starts one in the background, and talks to running ones.

`mount_background` starts a fresh Python process (nothing is forked after a thread or a Rust runtime was started),
hands it the options as JSON on its standard input, so that a URL or a secret never shows in a process list, and
waits on a pipe until the mount answers or one line says why not.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

import trio

from modelfs import config, limits
from modelfs.assembly.drain import Drain, Watchdog
from modelfs.assembly.stack import Opener, Stack, open_stack
from modelfs.assembly.upkeep import keep_lease, recover, settle
from modelfs.concurrency import first_cause
from modelfs.config import MountOptions, Secret
from modelfs.errors import ModelfsError, UsageError
from modelfs.fuse import control
from modelfs.fuse.account import Account
from modelfs.fuse.claim import Claim, lift
from modelfs.fuse.metrics import MetricsServer
from modelfs.fuse.mountpoint import check_fuse, detach, mounted_at, tune
from modelfs.fuse.presentation import Presentation
from modelfs.fuse.requests import Requests
from modelfs.fuse.sdnotify import Notifier
from modelfs.fuse.session import Session, begin, choose
from modelfs.memory import keep_heap
from modelfs.process import alive, holders
from modelfs.reader.source import ChunkSource
from modelfs.store.open import open_store
from modelfs.vfs.vfs import Vfs, VfsOptions
from modelfs.writer.uploader import Uploader

log = logging.getLogger(__name__)

Facts = dict[str, Any]


# -- running a mount in this process --------------------------------------------------------------------------------


class Ready:
    """The pipe on which a background daemon says, once, that its mount answers or why there is none."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def say(self, answer: Facts) -> bool:
        """Write the answer; False when there has been one already."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return False
        os.write(fd, json.dumps(answer).encode() + b"\n")
        os.close(fd)
        return True


def mount_foreground(options: MountOptions, ready: Ready | None = None, opener: Opener = open_store) -> int:
    """Serve the mount until it is unmounted or a signal asks to stop. Returns the exit code.

    Raises UsageError and StoreError for what is wrong before the mount stands.
    """
    check_fuse()
    claim = Claim.take(options.mountpoint, nonempty="nonempty" in options.fuse_options)
    watchdog = Watchdog()
    # A daemon in the background is the business of who started it, and tells that through ``ready``.
    manager = Notifier.from_environment(os.environ) if ready is None else Notifier()
    try:
        keep_heap()
        os.umask(0o077)
        stack = open_stack(options, opener)
        options = replace(options, secret=None)  # the stack has what it needs of it
        metrics: MetricsServer | None = None
        try:
            if options.metrics is not None:
                metrics = MetricsServer(options.metrics)
            return trio.run(_serve, options, stack, claim, watchdog, ready, metrics, manager)
        finally:
            watchdog.stop()
            if metrics is not None:
                metrics.close()
            stack.close()
    finally:
        claim.release()


def _mount_words(options: MountOptions, store_url: str, read_only: bool) -> list[str]:
    said = [word for word in options.fuse_options if word != "nonempty"]  # what that hides, `Claim` looks at
    words = ["default_permissions"]
    for name, value in (("fsname", store_url.replace(",", "%2C")), ("subtype", "modelfs")):
        if not any(word.startswith(f"{name}=") for word in said):
            words.append(f"{name}={value}")
    if options.allow_other:
        words.append("allow_other")
    if read_only:
        words.append("ro")
    return words + said


async def _serve(
    options: MountOptions,
    stack: Stack,
    claim: Claim,
    watchdog: Watchdog,
    ready: Ready | None,
    metrics: MetricsServer | None,
    manager: Notifier,
) -> int:
    read_only = stack.session is None
    history = options.at is not None
    source = ChunkSource(stack.repo, stack.cache)
    uploader = Uploader(stack.repo, stack.params)
    live = min(options.refresh * limits.KERNEL_CACHE_SHARE, limits.KERNEL_CACHE_LIVE)
    remembered = limits.KERNEL_CACHE_TIMEOUT if history else live
    show = Presentation(options.uid, options.gid, options.umask, remembered)
    failed = 0
    if stack.session is not None:
        async with manager.patience("bringing into the store what a mount that died had acknowledged"):
            await recover(options.branch, stack, source, uploader)
    async with trio.open_nursery() as nursery:
        vfs = Vfs(
            source,
            uploader,
            stack.head,
            VfsOptions(options.branch, read_only, options.refresh, options.write_back, history),
            stack.session.stage if stack.session is not None else stack.disk,
            stack.session.log() if stack.session is not None else None,
            nursery,
        )
        requests = Requests(vfs, show, lambda: os.statvfs(stack.disk))
        choice = choose(options.session, stack.cache.files, read_only=read_only)
        words = _mount_words(options, stack.store.url, read_only)
        session = begin(choice, requests, options.mountpoint, words, stack.cache.files)
        claim.protect()
        mount = Account(options, stack, claim, requests, session, choice.why, time.time())
        vfs.virtual.status = mount.facts
        if metrics is not None:
            metrics.serve(mount.facts)
        drain = Drain(vfs, options.drain_timeout, nursery)
        socket_path = control.socket_directory() / f"{config.mount_key(options.mountpoint)}.sock"
        record = config.mount_record(options.mountpoint)
        try:
            nursery.start_soon(vfs.run)
            nursery.start_soon(control.serve, socket_path, mount.answer)
            nursery.start_soon(_on_signal, session, drain, manager)
            nursery.start_soon(settle, stack)
            nursery.start_soon(keep_lease, stack)
            nursery.start_soon(_announce, options.mountpoint, record, socket_path, mount, ready, manager)
            nursery.start_soon(manager.beat, mount.line)
            await session.serve()
        finally:
            session.close()
            claim.release()  # others may mount here while the rest is brought into the store
            try:
                _say_ending(drain, manager)
                failed = 0 if await drain.run() else 1
            finally:
                stack.drained = vfs.durability.settled()
                _unregister(record)
                watchdog.start()
                nursery.cancel_scope.cancel()
    return failed


def _unregister(record: Path) -> None:
    """Take the mount out of the registry, unless another daemon has come to its place."""
    with contextlib.suppress(OSError, ValueError):
        if json.loads(record.read_text())["pid"] == os.getpid():
            record.unlink()


async def _announce(
    mountpoint: Path, record: Path, socket_path: Path, mount: Account, ready: Ready | None, manager: Notifier
) -> None:
    """Once the mount answers: raise the kernel's limits, register it, and say so to who started us."""
    await trio.to_thread.run_sync(os.stat, mountpoint)
    mount.tuned = await trio.to_thread.run_sync(tune, mountpoint)
    record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    facts = {"mountpoint": str(mountpoint), "pid": os.getpid(), "socket": str(socket_path)}
    partial = record.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(json.dumps(facts))
    partial.replace(record)
    log.info("%s is mounted at %s", mount.stack.store.url, mountpoint)
    if ready is not None:
        ready.say({"ready": True})
    await manager.ready(mount.line())


async def _on_signal(session: Session, drain: Drain, manager: Notifier) -> None:
    """The first signal asks to end when everything is in the store, and requests are answered meanwhile; the second
    one asks to end now."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            async for number in signals:
                if drain.begun:
                    log.warning("%s again: ending now", signal.Signals(number).name)
                    drain.hurry()
                else:
                    log.info("%s: ending, in at most %.0f s", signal.Signals(number).name, drain.timeout)
                    _say_ending(drain, manager)
                    nursery.start_soon(_drain_and_end, session, drain)


def _say_ending(drain: Drain, manager: Notifier) -> None:
    left = drain.timeout + limits.DRAIN_LAST + 2 * limits.EXIT_GRACE
    manager.ending(left, "ending: what is pending goes into the store")


async def _drain_and_end(session: Session, drain: Drain) -> None:
    await drain.run()
    session.terminate()


# -- starting one in the background -----------------------------------------------------------------------------------


def mount_background(options: MountOptions, program: str = "modelfs.fuse.daemon") -> None:
    """Start a daemon for the mount and return when the mount answers; UsageError or ModelfsError with its one line.
    ``program``: the module that is run, which calls `child`."""
    options = replace(options, log_file=options.log_file or config.mount_log(options.mountpoint))
    assert options.log_file is not None
    options.log_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    read_fd, write_fd = os.pipe()
    with os.fdopen(read_fd) as answers:
        try:
            with options.log_file.open("a") as log_file:
                process = subprocess.Popen(
                    [sys.executable, "-m", program, str(write_fd)],
                    stdin=subprocess.PIPE,
                    stdout=log_file,
                    stderr=log_file,
                    pass_fds=(write_fd,),
                    start_new_session=True,
                    cwd="/",
                    env=_environment(),
                )
        finally:
            os.close(write_fd)
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(_encode(options))
        line = answers.readline()
    if not line:
        raise ModelfsError(
            f"the mount daemon ended without a word (exit code {process.wait()}); see {options.log_file}"
        )
    answer = json.loads(line)
    if "error" in answer:
        process.wait(limits.READY_TIMEOUT)
        raise UsageError(answer["error"]) if answer["usage"] else ModelfsError(answer["error"])


def _environment() -> dict[str, str]:
    """The daemon finds the same modelfs as we did, also when it is run from a source tree."""
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.environ.get("PYTHONPATH", "")
    parts = [package_root, *(part for part in path.split(os.pathsep) if part)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(parts)}


def _encode(options: MountOptions) -> bytes:
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()}
    if options.secret is not None:
        plain["secret"] = [options.secret.kind, options.secret.value.hex()]
    return json.dumps(plain).encode()


def _decode(data: bytes) -> MountOptions:
    plain = json.loads(data)
    for key in ("mountpoint", "cache_dir", "log_file", "sign_with"):
        plain[key] = Path(plain[key]) if plain[key] is not None else None
    for key in ("fuse_options", "verify_with", "allow_source"):
        plain[key] = tuple(plain[key])
    if plain["secret"] is not None:
        kind, value = plain["secret"]
        plain["secret"] = Secret(kind, bytes.fromhex(value))
    return MountOptions(**plain)


def setup_logging(stream: IO[str], *, debug: bool) -> None:
    """Log lines with time and level to ``stream``."""
    logging.basicConfig(
        stream=stream,
        level=logging.DEBUG if debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("pyfuse3").setLevel(logging.INFO)


def child(ready: Ready, opener: Opener = open_store) -> int:
    """The background daemon: options come in on standard input, ``ready`` hears how it went. The exit code."""
    options = _decode(sys.stdin.buffer.read())
    setup_logging(sys.stderr, debug=options.debug)
    try:
        return mount_foreground(options, ready, opener)
    except BaseException as failure:
        error = first_cause(failure) if isinstance(failure, BaseExceptionGroup) else failure
        if not isinstance(error, ModelfsError):
            log.critical("the mount daemon failed", exc_info=failure)
        answer = {"error": str(error) or type(error).__name__, "usage": isinstance(error, UsageError)}
        if not ready.say(answer):
            log.critical("the mount ends: %s", error)
        return 2 if isinstance(error, UsageError) else 1


# -- talking to running ones ------------------------------------------------------------------------------------------


def mounts() -> list[Facts]:
    """The mounts of this user on this machine, dead ones included (``state`` says which)."""
    return [_facts(record) for record in _records()]


def mountpoints() -> list[Path]:
    """Where they are; asks none of them."""
    return [Path(str(record["mountpoint"])) for record in _records()]


def _records() -> Iterator[Facts]:
    for path in sorted(config.mounts_directory().glob("*.json")):
        try:
            record: Facts = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # it went away, or is just being written
        yield record


def _facts(record: Facts) -> Facts:
    try:
        return control.ask(Path(record["socket"]), "status", limits.CONTROL_TIMEOUT)
    except TimeoutError:
        return {**record, "state": "not answering"}
    except (OSError, ValueError):
        return {**record, "state": "dead"}


def status(mountpoint: Path) -> Facts:
    """Facts about one mount. UsageError when modelfs has nothing mounted there."""
    return _facts(_record(mountpoint))


def residency_of(path: Path) -> Facts | None:
    """Which parts of a file in a running mount of this user are on this machine: what `reader.residency` says, and its
    ``path`` in the store. ``path``: resolved. None when it lies in no mount. UsageError when the mount cannot tell."""
    for record in sorted(config.mounts_directory().glob("*.json")):
        try:
            known = json.loads(record.read_text())
            mountpoint = Path(known["mountpoint"])  # itself it is not looked at: its daemon may hang
            below = path.relative_to(mountpoint.parent.resolve() / mountpoint.name)
            found = control.ask(Path(known["socket"]), "residency", limits.CONTROL_TIMEOUT, path=str(below))
        except (OSError, ValueError):
            continue  # another mount's, or one that is gone
        if "error" in found:
            raise UsageError(f"{path}: {found['error']}")
        return {**found, "path": str(below)}
    return None


def _record(mountpoint: Path) -> Facts:
    try:
        facts: Facts = json.loads(config.mount_record(mountpoint).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{mountpoint} is not a modelfs mount of yours") from error
    return facts


def unmount(
    mountpoint: Path, *, progress: Callable[[Facts], None], timeout: float, lazy: bool = False, force: bool = False
) -> None:
    """Bring what is pending into the store, unmount, and wait for the daemon to end.

    ``progress`` is called with the status a few times a second. ``force`` unmounts although something is pending
    (it stays staged on this machine); ``lazy`` detaches while files are open. ModelfsError when the store does not
    take what is pending within ``timeout`` seconds, or the mount is busy.
    """
    if not config.mount_record(mountpoint).exists() and mounted_at(mountpoint) is None and lift(mountpoint):
        return  # a mount died there, and the machine was started anew
    record = _record(mountpoint)
    pid = int(record["pid"])
    deadline = time.monotonic() + timeout
    facts = _facts(record)
    if facts["state"] == "mounted" and not force:
        while facts["state"] == "mounted" and facts["pending"]:
            if facts["pending_files"] == facts["being_written"] > 0 and not lazy:
                raise ModelfsError(f"{mountpoint} is busy: {_who_holds(mountpoint, pid)}")
            progress(facts)
            if time.monotonic() > deadline:
                why = facts["last_error"] or "still uploading"
                raise ModelfsError(f"{mountpoint}: {facts['pending_files']} files are not in the store yet ({why})")
            try:
                facts = control.ask(Path(record["socket"]), "drain", 1.0)
            except TimeoutError:
                facts = _facts(record)
            except OSError:
                break
            if "error" in facts:
                raise ModelfsError(f"{mountpoint}: {facts['error']}")
        progress(facts)
    if mounted_at(mountpoint) is not None:
        try:
            detach(mountpoint, lazy=lazy or facts["state"] == "dead")
        except ModelfsError as error:
            if "busy" in str(error) and holders(mountpoint, pid):
                raise ModelfsError(f"{mountpoint} is busy: {_who_holds(mountpoint, pid)}") from error
            raise
        if lazy and facts["state"] == "mounted":
            with contextlib.suppress(OSError, ValueError):  # it had no open files, and has ended
                control.ask(Path(record["socket"]), "detached", limits.CONTROL_TIMEOUT)
            return
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    if facts["state"] == "dead":
        config.mount_record(mountpoint).unlink(missing_ok=True)
        lift(mountpoint)


def _who_holds(mountpoint: Path, daemon: int) -> str:
    """The processes that keep a mount busy, for a message."""
    found = holders(mountpoint, daemon)
    said = [f"{one.command} (process {one.pid}) {one.what} {one.path}" for one in found[: limits.HOLDERS_SHOWN]]
    if len(found) > len(said):
        said.append(f"{len(found) - len(said)} more")
    return "; ".join(said) or "a file is being written by a process of another user"


if __name__ == "__main__":
    sys.exit(child(Ready(int(sys.argv[1]))))
