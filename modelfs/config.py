"""What a mount is asked to do, and where modelfs keeps its files on this machine.

`MountOptions` is the one description of a mount that the command line builds and the daemon obeys. The directory
functions name the default places (XDG directories, so `XDG_CACHE_HOME` and `XDG_STATE_HOME` move them); they create
nothing. The registry of mounts lies under the state directory and not under the runtime directory, because the
latter is missing in cron, sudo and containers, and `modelfs status` must find the same registry from everywhere.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import platformdirs

from modelfs import limits

_APP: Final = "modelfs"
_STORE_ID: Final = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class Secret:
    """What opens an encrypted store: the bytes of a passphrase, or 32 random bytes of a key file. Never shown."""

    kind: Literal["passphrase", "key-file"]
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class MountOptions:
    """One mount. ``mountpoint`` is absolute; ``cache_dir`` None means `cache_directory` of the store."""

    store_url: str
    mountpoint: Path
    branch: str = "main"
    at: str | None = None  # a tag, BRANCH@N or commit id: history, which is read-only
    read_only: bool = False
    refresh: float = limits.REFRESH_DEFAULT
    write_back: bool = False
    drain_timeout: float = limits.DRAIN_TIMEOUT
    store_timeout: float = limits.STORE_RETRY_BUDGET
    cache_dir: Path | None = None
    cache_size: int | None = None  # bytes; None: as the cache was sized last, at first CACHE_SIZE_DEFAULT
    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None
    single_writer: bool = False
    secret: Secret | None = None
    sign_with: Path | None = None  # file of a signing key
    verify_with: tuple[str, ...] = ()  # public keys; history that none of them signed is refused
    allow_source: tuple[str, ...] = ()  # paths and URLs below which links may be followed
    compression: str | None = None  # "none", "fast", "balanced", "small"; None: what the store was made with
    session: Literal["auto", "native", "pyfuse3"] = "auto"  # how the daemon speaks with the kernel
    fuse_options: tuple[str, ...] = ()
    metrics: str | None = None  # HOST:PORT on which Prometheus may ask
    log_file: Path | None = None
    debug: bool = False


def cache_directory(store_id: str) -> Path:
    """Default cache directory of a store, shared by all mounts of it by this user."""
    return cache_root() / _checked(store_id)


def cache_root() -> Path:
    """The directory that holds the default cache directory of every store."""
    return Path(platformdirs.user_cache_dir(_APP, appauthor=False))


def journal_directory(store_id: str) -> Path:
    """Where writes of a store are staged until they are committed. Never a cache: its loss is loss of data."""
    return journals_directory() / _checked(store_id)


def journals_directory() -> Path:
    """The journal directories of all stores."""
    return state_directory() / "journal"


def seen_directory(store_id: str) -> Path:
    """What this machine has seen of a store: it refuses less. Its loss only makes it trust the next answer."""
    return state_directory() / "seen" / _checked(store_id)


def state_directory() -> Path:
    """What must survive a restart of this machine."""
    return Path(platformdirs.user_state_dir(_APP, appauthor=False))


def log_directory() -> Path:
    """Logs of background mounts."""
    return state_directory() / "log"


def mounts_directory() -> Path:
    """The registry of this user's mounts: one JSON file each, read by `modelfs status`."""
    return state_directory() / "mounts"


def mount_record(mountpoint: Path) -> Path:
    """The registry file of the mount at ``mountpoint``."""
    return mounts_directory() / f"{mount_key(mountpoint)}.json"


def mount_log(mountpoint: Path) -> Path:
    """The default log file of the mount at ``mountpoint``."""
    return log_directory() / f"{mount_key(mountpoint)}.log"


def mount_key(mountpoint: Path) -> str:
    """A short file name for a mount point. Purely textual: a dead mount cannot be resolved through the kernel."""
    absolute = os.path.normpath(Path.cwd() / mountpoint)
    return hashlib.sha256(os.fsencode(absolute)).hexdigest()[:16]


def _checked(store_id: str) -> str:
    """A store names itself: only hex may become a directory name here."""
    if not _STORE_ID.fullmatch(store_id):
        raise ValueError(f"not a store id: {store_id[:80]!r}")
    return store_id
