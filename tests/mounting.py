"""Real mounts for tests: made through the daemon's own entry points, taken down even when a test fails."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from unittest import mock

from faultystore import Faults

from modelfs import config
from modelfs.config import MountOptions
from modelfs.fuse import control, daemon
from modelfs.fuse.claim import lift
from modelfs.fuse.mountpoint import mount_table
from modelfs.process import alive
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store


class Machine:
    """One pretend machine: its own caches, journals and mounts, on stores that may be shared with others."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._mounted: dict[Path, int] = {}

    def new_store(self, name: str = "store") -> str:
        """A fresh local store; returns its URL."""
        path = self.directory / name
        store = open_store(str(path), create=True)
        Repository.create(store)
        store.close()
        return str(path)

    def mount(
        self, store: str, name: str = "mnt", cache: str = "cache", faults: Faults | None = None, **options: Any
    ) -> Path:
        """Mount ``store`` in the background and return the mount point. With ``faults`` the store fails as they say."""
        mountpoint = self.directory / name
        if not any(entry.path == str(mountpoint) for entry in mount_table()):
            mountpoint.mkdir(exist_ok=True)
        options.setdefault("log_file", self.directory / f"{name}.log")
        options.setdefault("session", os.environ.get("MODELFS_SESSION", "auto"))
        what = MountOptions(store_url=store, mountpoint=mountpoint, cache_dir=self.directory / cache, **options)
        if faults is None:
            daemon.mount_background(what)
        else:
            with mock.patch.dict(os.environ, faults.environment()):
                daemon.mount_background(what, "faultydaemon")
        self._mounted[mountpoint] = self.pid(mountpoint)
        return mountpoint

    def pid(self, mountpoint: Path) -> int:
        """Process id of the daemon behind a mount."""
        return int(daemon.status(mountpoint)["pid"])

    def status(self, mountpoint: Path) -> dict[str, Any]:
        """The daemon's own account of the mount."""
        return daemon.status(mountpoint)

    def umount(self, mountpoint: Path) -> None:
        """Unmount as `modelfs umount` does and wait for the daemon."""
        daemon.unmount(mountpoint, progress=lambda facts: None, timeout=60)
        self._mounted.pop(mountpoint, None)

    def freeze_uploads(self, store: str) -> None:
        """Make the local store refuse every write until `thaw_uploads`, for root too: the directory becomes a file."""
        (Path(store) / ".tmp").rename(Path(store) / ".tmp-away")
        (Path(store) / ".tmp").touch()

    def thaw_uploads(self, store: str) -> None:
        """Undo `freeze_uploads`."""
        (Path(store) / ".tmp").unlink()
        (Path(store) / ".tmp-away").rename(Path(store) / ".tmp")

    def kill(self, mountpoint: Path) -> None:
        """kill -9 of the daemon; the dead mount stays."""
        pid = self._mounted[mountpoint]
        os.kill(pid, signal.SIGKILL)
        while alive(pid):
            time.sleep(0.005)

    def dead(self, mountpoint: Path) -> bool:
        """True when the daemon of the mount has ended."""
        return not alive(self._mounted[mountpoint])

    def drain(self, mountpoint: Path) -> None:
        """Bring everything that is pending into the store now. The mount may have to notice first that it is back."""
        record = json.loads(config.mount_record(mountpoint).read_text())
        eventually(
            lambda: "error" not in control.ask(Path(record["socket"]), "drain", 60.0), f"everything of {mountpoint}"
        )

    def log(self, name: str = "mnt") -> str:
        """The daemon's log so far."""
        return (self.directory / f"{name}.log").read_text()

    def close(self) -> None:
        """End every daemon and mount that is left."""
        for mountpoint, pid in self._mounted.items():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            while any(entry.path == str(mountpoint) for entry in mount_table()):
                if subprocess.run(["fusermount3", "-u", "-z", "--", str(mountpoint)], check=False).returncode:
                    break
            lift(mountpoint)
        self._mounted.clear()


def eventually(condition: Any, what: str, bound: float = 15.0) -> None:
    """Poll until ``condition()`` holds; fails with ``what`` after ``bound`` seconds."""
    deadline = time.monotonic() + bound
    while not condition():
        assert time.monotonic() < deadline, f"not within {bound:.0f} s: {what}"
        time.sleep(0.02)


def hand_over(descriptor: int) -> None:
    """Have the kernel hand the daemon the dirty pages of a file, without a flush or fsync: nothing is acknowledged."""
    libc = ctypes.CDLL(None, use_errno=True)
    whole = (ctypes.c_int64(0), ctypes.c_int64(0))
    assert libc.sync_file_range(descriptor, *whole, 7) == 0  # SYNC_FILE_RANGE_WAIT_BEFORE | WRITE | WAIT_AFTER
